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
