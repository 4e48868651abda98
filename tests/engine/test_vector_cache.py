from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fuserank.engine.vector_cache import VectorCache
from fuserank.errors import ConfigError


def ask(cache: VectorCache, *texts: str) -> list[str]:
    """Read texts, write those that were missing as their length, and return the missing ones."""
    vectors = np.zeros((len(texts), 1), np.float32)
    missing = cache.read(list(texts), vectors)
    vectors[missing, 0] = [len(texts[row]) for row in missing]
    cache.write(list(texts), vectors, missing)
    assert vectors[:, 0].tolist() == [len(text) for text in texts]
    return [texts[row] for row in missing]


def test_drops_the_least_recently_used():
    cache = VectorCache(2)
    assert ask(cache, "robot", "love") == ["robot", "love"]
    assert ask(cache, "robot") == []
    assert ask(cache, "war") == ["war"], "takes the place of love"
    assert ask(cache, "robot") == []
    assert ask(cache, "love") == ["love"]
    assert cache.info() == (2, 4, 2, 2)


def test_more_texts_than_room_leave_the_last():
    cache = VectorCache(2)
    ask(cache, "a", "bb", "ccc", "dddd")
    assert cache.info().size == 2
    assert ask(cache, "ccc", "dddd") == []


def test_without_room_nothing_is_kept():
    cache = VectorCache(0)
    assert [ask(cache, "robot") for _ in range(2)] == [["robot"]] * 2
    assert cache.info() == (0, 2, 0, 0)


def test_holds_digests_and_copies():
    cache = VectorCache(4)
    vectors = np.ones((1, 1), np.float32)
    cache.write(["a secret"], vectors, np.array([0]))
    vectors[:] = 0
    assert "secret" not in str(vars(cache))
    read = np.zeros((1, 1), np.float32)
    cache.read(["a secret"], read)
    assert read == 1


def test_a_negative_size_is_refused():
    with pytest.raises(ConfigError, match="cache size: found -1, expected 0 or more"):
        VectorCache(-1)


def test_says_how_often_it_knew_a_text():
    cache = VectorCache(4)
    assert cache.info().hit_rate == 0
    ask(cache, "robot", "love")
    ask(cache, "robot", "love", "war", "robot again")
    assert cache.info().hit_rate == 2 / 6


def test_the_makers_of_a_text_come_one_after_the_other():
    cache = VectorCache(4)
    texts, vectors = ["a", "b"], np.zeros((2, 1), np.float32)
    with ThreadPoolExecutor(1) as pool:
        with cache.making(texts, vectors, np.array([0, 1])) as rows:
            assert rows.tolist() == [0, 1]
            other = pool.submit(make, cache, ["b", "c"])
            with cache.making(["d"], vectors, np.array([0])) as others:
                assert others.tolist() == [0], "another text is nobody's business"
            vectors[:, 0] = 7
            cache.write(texts, vectors, rows)
        assert other.result(10) == ([1], [7, 0])


def test_a_maker_that_fails_leaves_its_text_to_the_next():
    cache = VectorCache(4)
    vectors = np.zeros((1, 1), np.float32)
    with pytest.raises(KeyError), cache.making(["a"], vectors, np.array([0])):
        raise KeyError
    assert make(cache, ["a"]) == ([0], [0])


def make(cache: VectorCache, texts: list[str]) -> tuple[list[int], list[float]]:
    """Return the rows that are left to make, and what was found for the others."""
    vectors = np.zeros((len(texts), 1), np.float32)
    with cache.making(texts, vectors, np.arange(len(texts))) as rows:
        return rows.tolist(), vectors[:, 0].tolist()
