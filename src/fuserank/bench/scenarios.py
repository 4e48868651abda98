"""How requests arrive: one after the other, or on their own schedule whatever the system does."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fuserank.bench.stats import Run, Sample
from fuserank.bench.systems import System
from fuserank.bench.workloads import Request
from fuserank.errors import FuserankError

__all__ = ["Clock", "MonotonicClock", "poisson", "poisson_arrivals", "single_stream"]

_SPIN_S = 0.0015
"""Timers of an event loop come up to a millisecond late; the last stretch is waited for awake."""


class Clock(Protocol):
    """Tells and awaits the time, in seconds."""

    def now(self) -> float:
        """Return the time."""

    async def sleep_until(self, when: float) -> None:
        """Return at a time, or at once where it has passed; other tasks run meanwhile."""


class MonotonicClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return the time."""
        return time.perf_counter()

    async def sleep_until(self, when: float) -> None:
        """Return at a time, or at once where it has passed; other tasks run meanwhile."""
        await asyncio.sleep(max(0.0, when - self.now() - _SPIN_S))
        while self.now() < when:
            await asyncio.sleep(0)


async def single_stream(
    system: System,
    requests: Sequence[Request],
    k: int,
    *,
    seconds: float,
    clock: Clock | None = None,
) -> Run:
    """Ask one request after the other: a closed loop with one client.

    Args:
        system: the system under test.
        requests: each is asked once.
        k: items wanted.
        seconds: no request starts later than that.
        clock: the machine's unless given.
    """
    clock = clock or MonotonicClock()
    recorder = _Recorder(system, k, clock)
    started = clock.now()
    for request in requests:
        if clock.now() - started >= seconds:
            break
        await recorder.ask(request, clock.now())
    return recorder.run(started)


def poisson_arrivals(
    rate_per_s: float, n_requests: int, seconds: float, seed: int
) -> npt.NDArray[np.float64]:
    """Draw the arrival times of a Poisson process, in seconds, ascending.

    Args:
        rate_per_s: mean arrivals a second.
        n_requests: arrivals at most.
        seconds: none arrives later.
        seed: of the draw.
    """
    gaps = np.random.default_rng(seed).exponential(1.0 / rate_per_s, n_requests)
    arrivals: npt.NDArray[np.float64] = np.cumsum(gaps)
    return arrivals[arrivals <= seconds]


async def poisson(
    system: System,
    requests: Sequence[Request],
    k: int,
    *,
    arrivals: npt.NDArray[np.float64],
    clock: Clock | None = None,
) -> Run:
    """Send requests at times drawn beforehand: an open loop.

    A latency counts from the time the request was due, so that a stall is charged to every
    request that had to wait for its end, also those that were sent late because of it.

    Args:
        system: the system under test.
        requests: asked in turn, from the beginning again when they run out.
        k: items wanted.
        arrivals: seconds from the start at which requests are due, ascending.
        clock: the machine's unless given.

    Source: G. Tene, "How NOT to Measure Latency" (coordinated omission).
    """
    clock = clock or MonotonicClock()
    recorder = _Recorder(system, k, clock)
    started = clock.now()
    async with asyncio.TaskGroup() as tasks:
        for request, arrival in zip(itertools.cycle(requests), arrivals.tolist(), strict=False):
            due = started + arrival
            await clock.sleep_until(due)
            tasks.create_task(recorder.ask(request, due))
    return recorder.run(started)


class _Recorder:
    """Asks a system and writes down how long it took."""

    def __init__(self, system: System, k: int, clock: Clock) -> None:
        self._system, self._k, self._clock = system, k, clock
        self._samples: list[Sample] = []
        self._failed = 0

    async def ask(self, request: Request, due: float) -> None:
        try:
            answer = await self._system.recommend(request, self._k)
        except FuserankError:
            self._failed += 1
            return
        latency_ms = (self._clock.now() - due) * 1e3
        self._samples.append(Sample(latency_ms=latency_ms, timings=answer.timings))

    def run(self, started: float) -> Run:
        seconds = self._clock.now() - started
        return Run(samples=self._samples, failed=self._failed, seconds=seconds)
