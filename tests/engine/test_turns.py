from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from fuserank.engine.turns import Turns

SOON = 10


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Observed(Turns):
    """Turns that say when bulk work has begun to wait."""

    def __init__(self, n_lanes):
        super().__init__(n_lanes)
        self.waiting = Event()
        wait = self._changed.wait

        def announce(timeout=None):
            self.waiting.set()
            return wait(timeout)

        self._changed.wait = announce


def test_an_urgent_call_does_not_wait_for_bulk_work(pool):
    turns = Turns(1)
    with turns.bulk():
        pool.submit(lambda: turns.urgent().__enter__()).result(SOON)


def test_bulk_work_waits_for_the_urgent_calls_that_were_there_first(pool):
    turns = Observed(2)
    began = Event()

    def work():
        with turns.bulk():
            began.set()

    first, later = turns.urgent(), turns.urgent()
    first.__enter__()
    bulk = pool.submit(work)
    assert turns.waiting.wait(SOON)
    later.__enter__()
    assert not began.is_set()
    first.__exit__(None, None, None)
    bulk.result(SOON)
    assert began.is_set(), "while the later call still runs: bulk work goes on under any load"


def test_no_more_lanes_than_there_are(pool):
    turns = Observed(2)
    began = Event()
    one, other = turns.bulk(), turns.bulk()
    one.__enter__()
    other.__enter__()

    def work():
        with turns.bulk():
            began.set()

    third = pool.submit(work)
    assert turns.waiting.wait(SOON)
    assert not began.is_set()
    one.__exit__(None, None, None)
    third.result(SOON)


def test_knows_who_is_alone():
    turns = Turns(2)
    with turns.bulk(), turns.urgent() as first:
        assert first
        with turns.urgent() as second:
            assert not second
    with turns.urgent() as third:
        assert third


def test_a_failure_gives_the_turn_back(pool):
    turns = Turns(1)

    def fail(turn):
        with turn():
            raise ValueError("broken")

    for turn in (turns.urgent, turns.bulk) * 2:
        with pytest.raises(ValueError, match="broken"):
            pool.submit(fail, turn).result(SOON)
