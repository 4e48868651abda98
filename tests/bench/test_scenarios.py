import asyncio

import numpy as np
import pytest

from fuserank.bench.scenarios import poisson, poisson_arrivals, single_stream
from fuserank.engine.results import Recommendation, Timings
from fuserank.errors import ServerError

ANSWER = Recommendation(
    item_ids=(),
    scores=np.empty(0, dtype=np.float32),
    probabilities=np.empty(0, dtype=np.float32),
    plan="fake",
    served_as="cold",
    timings=Timings(scan_ms=1.0),
)


class FakeClock:
    """Time that passes only where a system or a wait says so."""

    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time

    async def sleep_until(self, when):
        await asyncio.sleep(0)  # what is due runs before time moves on
        self.time = max(self.time, when)


class FakeSystem:
    """Answers at once, but for the requests that stall, which hold everything up."""

    name = "fake"

    def __init__(self, clock, stalls=None, fails=()):
        self.clock, self.stalls, self.fails = clock, stalls or {}, fails
        self.asked = []

    async def recommend(self, request, k):
        self.asked.append((request["n"], k))
        self.clock.time += self.stalls.get(request["n"], 0.0)
        if request["n"] in self.fails:
            raise ServerError("broken")
        return ANSWER


def requests(count):
    return [{"n": n} for n in range(count)]


def latencies_ms(run):
    return np.array([sample.latency_ms for sample in run.samples])


def test_a_stall_is_charged_to_every_request_that_was_due_meanwhile():
    clock = FakeClock()
    system = FakeSystem(clock, stalls={10: 1.0})
    arrivals = np.arange(200) * 0.01
    run = asyncio.run(poisson(system, requests(200), 5, arrivals=arrivals, clock=clock))
    # Request 10 is due at 0.1 s and stalls for 1 s: the hundred due before 1.1 s waited for it.
    due = arrivals * 1e3
    expected = np.where((due >= 100) & (due <= 1100), 1100 - due, 0.0)
    np.testing.assert_allclose(latencies_ms(run), expected, atol=1e-6)
    assert np.count_nonzero(latencies_ms(run) > 500) == 50


def test_a_closed_loop_does_not_see_the_stall_in_other_requests():
    clock = FakeClock()
    system = FakeSystem(clock, stalls={10: 1.0})
    run = asyncio.run(single_stream(system, requests(200), 5, seconds=9.0, clock=clock))
    assert np.count_nonzero(latencies_ms(run)) == 1
    assert system.asked == [(n, 5) for n in range(200)]


def test_single_stream_stops_when_its_time_is_up():
    clock = FakeClock()
    system = FakeSystem(clock, stalls=dict.fromkeys(range(100), 0.25))
    run = asyncio.run(single_stream(system, requests(100), 5, seconds=1.0, clock=clock))
    assert len(run.samples) == 4
    assert run.seconds == pytest.approx(1.0)
    np.testing.assert_allclose(latencies_ms(run), 250.0)


def test_open_loop_begins_again_when_requests_run_out():
    clock = FakeClock()
    system = FakeSystem(clock)
    asyncio.run(poisson(system, requests(2), 5, arrivals=np.array([0.1, 0.2, 0.3]), clock=clock))
    assert [n for n, _ in system.asked] == [0, 1, 0]


def test_failures_are_counted_and_are_no_latencies():
    clock = FakeClock()
    system = FakeSystem(clock, fails={1, 3})
    run = asyncio.run(single_stream(system, requests(5), 5, seconds=1.0, clock=clock))
    assert (len(run.samples), run.failed) == (3, 2)
    again = asyncio.run(poisson(system, requests(5), 5, arrivals=np.arange(5.0), clock=clock))
    assert (len(again.samples), again.failed) == (3, 2)


def test_a_fault_of_the_benchmark_itself_is_raised():
    class Broken(FakeSystem):
        async def recommend(self, request, k):
            raise TypeError("not ours")

    clock = FakeClock()
    with pytest.raises(TypeError, match="not ours"):
        asyncio.run(single_stream(Broken(clock), requests(1), 5, seconds=1.0, clock=clock))


def test_arrivals_are_exponential_reproducible_and_bounded():
    arrivals = poisson_arrivals(100.0, 20_000, 1e9, seed=3)
    gaps = np.diff(arrivals)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps.std() == pytest.approx(0.01, rel=0.05)  # an exponential's mean and deviation agree
    np.testing.assert_array_equal(arrivals, poisson_arrivals(100.0, 20_000, 1e9, seed=3))
    cut = poisson_arrivals(100.0, 20_000, 2.0, seed=3)
    assert len(cut) == np.count_nonzero(arrivals <= 2.0)
    assert len(poisson_arrivals(100.0, 7, 1e9, seed=3)) == 7
