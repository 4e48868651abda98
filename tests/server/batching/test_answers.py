import gc
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.engine.results import Recommendation
from fuserank.errors import ConfigError
from fuserank.server.batching.answers import Answers, AnswersConfig


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def found(*item_ids):
    scores = np.zeros(len(item_ids), np.float32)
    return Recommendation(
        item_ids=item_ids, scores=scores, probabilities=scores, plan="exact", served_as="known"
    )


def keep(answers, key, answer, user_id=None):
    answers.put(key, answer, user_id=user_id, generation=answers.generation)


def test_the_last_answer_to_the_same_request_comes_back(clock):
    answers = Answers(clock=clock)
    key = answers.key(b"films", b"request")
    assert answers.get(key) is None
    keep(answers, key, found("1"))
    keep(answers, key, found("2"))
    assert answers.get(key).item_ids == ("2",)
    assert len(answers) == 1


def test_keys_differ_by_part_and_by_process():
    answers, others = Answers(), Answers()
    assert answers.key(b"ab", b"c") != answers.key(b"a", b"bc")
    assert answers.key(b"ab") == answers.key(b"ab")
    assert answers.key(b"ab") != others.key(b"ab")


def test_an_answer_expires(clock):
    answers = Answers(AnswersConfig(answer_ttl_s=10.0), clock)
    key = answers.key(b"a")
    keep(answers, key, found("1"))
    clock.now += 9.9
    assert answers.get(key) is not None
    clock.now += 0.2
    assert answers.get(key) is None
    assert (len(answers), answers.size_bytes) == (0, 0)


def test_the_oldest_makes_room():
    answers = Answers(AnswersConfig(max_answers=2))
    keys = [answers.key(b"%d" % number) for number in range(3)]
    for key in keys:
        keep(answers, key, found("1"))
    assert [answers.get(key) is not None for key in keys] == [False, True, True]


def test_nothing_is_kept_where_nothing_may_be():
    for config in (AnswersConfig(max_answers=0), AnswersConfig(max_answer_bytes=100)):
        answers = Answers(config)
        keep(answers, answers.key(b"a"), found("1"))
        assert (len(answers), answers.size_bytes) == (0, 0)


def test_a_user_is_forgotten_and_nobody_else():
    answers = Answers()
    keys = [answers.key(b"%d" % number) for number in range(3)]
    for key, user_id in zip(keys, ("ann", "ann", "bob"), strict=True):
        keep(answers, key, found("1"), user_id)
    assert answers.forget("ann") == 2
    assert answers.forget("ann") == 0
    assert [answers.get(key) is not None for key in keys] == [False, False, True]


def test_what_was_being_computed_is_not_kept_afterwards():
    answers = Answers()
    key, before = answers.key(b"a"), answers.generation
    answers.forget("ann")
    answers.put(key, found("1"), user_id="ann", generation=before)
    assert answers.get(key) is None


def test_nothing_of_the_user_is_kept():
    answers = Answers()
    secret = "".join(["a user", " id nobody", " else has"])
    key = answers.key(secret.encode(), b"request")
    keep(answers, key, found("1"), secret)
    kept = [value for value in gc.get_referents(answers.__dict__) if value is not None]
    assert secret not in repr(kept)
    assert secret not in repr(list(answers._kept.items()))
    assert secret not in repr(answers._of_user)


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "forget", "wait"]), st.integers(0, 7)),
        max_size=60,
    )
)
def test_the_bounds_hold_whatever_happens(steps):
    clock = Clock()
    answers = Answers(AnswersConfig(max_answers=4, max_answer_bytes=6_000, answer_ttl_s=5.0), clock)
    for step, number in steps:
        if step == "put":
            keep(answers, answers.key(b"%d" % number), found(*"i" * number), str(number % 3))
        elif step == "forget":
            answers.forget(str(number))
        else:
            clock.now += number
        assert len(answers) <= 4
        assert answers.size_bytes <= 6_000
        assert sum(map(len, answers._of_user.values())) == len(answers)
        assert all(answers._of_user.values())
    clock.now += 6.0
    answers.get(b"")
    assert (len(answers), answers.size_bytes, answers._of_user) == (0, 0, {})


def test_threads_may_share_it():
    answers = Answers(AnswersConfig(max_answers=16))
    failures = []

    def work(seed):
        try:
            for number in range(300):
                key = answers.key(b"%d" % ((number * seed) % 40))
                keep(answers, key, found("1"), str(number % 5))
                answers.get(key)
                if number % 50 == 0:
                    answers.forget(str(number % 5))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(answers) <= 16


@pytest.mark.parametrize(
    "options", [{"max_answers": -1}, {"max_answer_bytes": -1}, {"answer_ttl_s": 0.0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        AnswersConfig(**options)
