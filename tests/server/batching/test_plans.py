import math

import pytest

from fuserank.engine.results import Plan
from fuserank.server.batching.plans import Backlog, Estimates


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def estimates(clock):
    return Estimates(clock)


def test_without_a_deadline_it_is_exact_however_long_it_takes(estimates):
    estimates.observe(Plan.EXACT, False, 1, 1e6)
    assert estimates.choose(math.inf, False, 1) is Plan.EXACT


def test_the_time_that_is_left_decides(estimates):
    estimates.observe(Plan.EXACT, False, 1, 0.100)
    estimates.observe(Plan.QUANTIZED, False, 1, 0.030)
    assert estimates.choose(0.200, False, 1) is Plan.EXACT
    assert estimates.choose(0.050, False, 1) is Plan.QUANTIZED
    assert estimates.choose(0.020, False, 1) is None


def test_what_was_never_measured_is_tried(estimates):
    assert estimates.choose(0.010, False, 1) is Plan.EXACT
    estimates.observe(Plan.EXACT, False, 1, 0.100)
    assert estimates.choose(0.010, False, 1) is Plan.QUANTIZED


@pytest.mark.parametrize("remaining_s", [0.0, -1.0])
def test_after_the_deadline_there_is_no_plan(estimates, remaining_s):
    assert estimates.choose(remaining_s, False, 1) is None


def test_texts_have_times_of_their_own(estimates):
    estimates.observe(Plan.EXACT, True, 1, 0.100)
    assert estimates.choose(0.050, True, 1) is not Plan.EXACT
    assert estimates.choose(0.050, False, 1) is Plan.EXACT


def test_more_users_are_expected_to_take_as_long_at_least(estimates):
    estimates.observe(Plan.EXACT, False, 8, 0.080)
    assert estimates.expected_s(Plan.EXACT, False, 64) == pytest.approx(0.080)
    assert estimates.expected_s(Plan.EXACT, False, 8) == pytest.approx(0.080)
    # Of fewer users nothing is known but that each takes a share.
    assert estimates.expected_s(Plan.EXACT, False, 2) == pytest.approx(0.020)


def test_one_slow_call_does_not_end_a_plan_for_good(estimates, clock):
    for _ in range(5):
        estimates.observe(Plan.EXACT, False, 1, 0.010)
    estimates.observe(Plan.EXACT, False, 1, 10.0)
    assert estimates.choose(0.100, False, 1) is Plan.QUANTIZED
    clock.now += 1.5
    assert estimates.choose(0.100, False, 1) is Plan.EXACT


def test_only_what_is_known_to_be_short_is_short(estimates):
    assert not estimates.short(False, 1, 1.0)
    estimates.observe(Plan.EXACT, False, 1, 0.0004)
    assert estimates.short(False, 1, 0.001)
    assert not estimates.short(False, 1, 0.0003)
    assert not estimates.short(True, 1, 0.001)
    # Three users may take three times as long, as far as is known.
    assert not estimates.short(False, 3, 0.001)
    estimates.observe(Plan.EXACT, False, 3, 0.0006)
    assert estimates.short(False, 3, 0.001)


def test_a_queue_moves_as_it_did_lately(clock):
    backlog = Backlog(clock)

    def turn(n_users, seconds):
        clock.now += seconds
        backlog.observe(n_users, clock.now - seconds)

    assert backlog.wait_s(1_000) == 0.0
    turn(50, 0.1)
    assert backlog.wait_s(100) == pytest.approx(0.2)
    for _ in range(100):
        turn(100, 0.1)
    assert backlog.wait_s(100) == pytest.approx(0.1)
    clock.now += 1.5
    assert backlog.wait_s(100) == 0.0
    turn(10, 0.1)
    assert backlog.wait_s(10) == pytest.approx(0.1)


def test_turns_side_by_side_move_the_queue_twice_as_fast(clock):
    backlog = Backlog(clock)
    for _ in range(100):  # one ends every 0.1 s, and each takes 0.2 s
        clock.now += 0.1
        backlog.observe(50, clock.now - 0.2)
    assert backlog.turn_s == pytest.approx(0.2)
    assert backlog.wait_s(100) == pytest.approx(0.2)
