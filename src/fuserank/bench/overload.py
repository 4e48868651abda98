"""More calls than a server can answer: what is left of its goodput, and when it is itself again.

Calls arrive by a Poisson process whatever the server does, each with a deadline. Good is what was
answered within it. The server has its own cores, and the client another, so that neither takes the
other's time: ``python -m fuserank.bench.overload overload.json``.
"""

import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import cyclopts
import numpy as np
import numpy.typing as npt
import psutil
from cyclopts import Parameter

from fuserank import console
from fuserank.bench.overload_client import Caller, Calls
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle, synthetic_requests
from fuserank.errors import ConfigError
from fuserank.server.batching.admission import AdmissionConfig
from fuserank.server.messages import conversion
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.process import server_process

__all__ = ["Level", "OverloadConfig", "OverloadReport", "measure_overload", "recovery_s"]

_WINDOW_S = 0.1
_RECOVERED = 0.95
"""Share of the calls of a window that must be good."""
_GENTLE = 0.5
"""Load after an overload, as a share of the capacity."""
_WARM_S, _REST_S = 1.0, 0.5
_RSS_EVERY_S = 0.2


@dataclass(frozen=True, kw_only=True)
class OverloadConfig:
    """How much is offered.

    Attributes:
        items: of the made-up catalogue.
        hidden: units of the ranker's hidden layers: a call must cost the engine so much that one
            client can offer many times the capacity.
        factors: loads, as multiples of the capacity.
        deadline_ms: of each call.
        seconds: of one load.
        peak_seconds: of one closed loop by which the capacity is found.
        recovery_seconds: of gentle load after each load.
        at_once: calls under way in the closed loops; the best of them is the capacity.
        connections: of the client.
        max_backlog: of the server, as its option ``--admission.max-backlog``.
        max_connection_calls: of the server, as ``--admission.max-connection-calls``.
        k: items wanted.
        seed: of the arrivals.
    """

    items: int = 500_000
    hidden: tuple[int, ...] = (64, 32)
    factors: tuple[float, ...] = (2.0, 4.0, 8.0)
    deadline_ms: float = 250.0
    seconds: float = 8.0
    peak_seconds: float = 3.0
    recovery_seconds: float = 3.0
    at_once: tuple[int, ...] = (4, 16, 64)
    connections: int = 4
    max_backlog: int = AdmissionConfig.max_backlog
    max_connection_calls: int = AdmissionConfig.max_connection_calls
    k: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        positive = ("items", "deadline_ms", "seconds", "peak_seconds", "recovery_seconds")
        for name in (*positive, "connections", "max_backlog", "max_connection_calls", "k"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected more than 0")
        for name in ("hidden", "factors", "at_once"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected numbers above 0")


@dataclass(frozen=True, kw_only=True)
class Level:
    """One load.

    Attributes:
        factor: of the capacity that was meant.
        offered_per_s: calls that were sent.
        good_per_s: calls answered within their deadline.
        share_of_peak: of the capacity.
        degraded: share of the good ones that were not exact.
        statuses: calls by the status they ended with.
        p50_ms: of the good ones.
        p99_ms: of the good ones.
        sent_late: share of the calls that the client sent more than 5 ms after they were due: it
            must be small, or the load was not what it says.
        rss_mib: the server's memory, at most.
        recovery_s: seconds of gentle load after it until all goes well.
    """

    factor: float
    offered_per_s: float
    good_per_s: float
    share_of_peak: float
    degraded: float
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    sent_late: float
    rss_mib: float
    recovery_s: float


@dataclass(frozen=True, kw_only=True)
class OverloadReport(Stored):
    """All of one run.

    Attributes:
        config: how much was offered.
        capacity_per_s: the best goodput of the closed loops.
        rss_mib: the server's memory before the first load.
        server_cores: which cores the server had; the client had another.
        levels: one a load.
        machine: where it was measured.
        versions: of the packages that matter.
        command: what to run to measure again.
    """

    config: OverloadConfig
    capacity_per_s: float
    rss_mib: float
    server_cores: tuple[int, ...]
    levels: tuple[Level, ...]
    machine: Machine
    versions: dict[str, str]
    command: str

    written_by: ClassVar[str] = "fuserank.bench.overload"


def recovery_s(due_s: Sequence[float], good: Sequence[bool]) -> float:
    """Return the end of the last tenth of a second in which calls went badly; 0 if none did.

    >>> recovery_s([0.01, 0.02, 0.31, 0.55], [False, False, True, True])
    0.1

    Args:
        due_s: seconds from the end of the overload at which calls were due.
        good: which of them were answered in time.
    """
    windows: dict[int, list[bool]] = {}
    for due, well in zip(due_s, good, strict=True):
        windows.setdefault(int(due / _WINDOW_S), []).append(well)
    bad = [n for n, found in windows.items() if sum(found) < _RECOVERED * len(found)]
    return round((max(bad) + 1) * _WINDOW_S, 3) if bad else 0.0


def measure_overload(config: OverloadConfig, *, command: str) -> OverloadReport:
    """Measure a server that gets more calls than it can answer.

    Args:
        config: how much is offered.
        command: what the report says to run to measure again.

    Raises:
        ServerError: the server does not start, or does not stop in good order.
    """
    machine = this_machine()
    items = SyntheticItems(n_items=config.items)
    requests = [
        pb.RecommendRequest(user=conversion.user_to_proto(user), k=config.k).SerializeToString()
        for user in synthetic_requests(256, items)
    ]
    with tempfile.TemporaryDirectory(prefix="fuserank-overload-") as name:
        bundle = synthetic_bundle(Path(name) / "bundle", items, hidden=config.hidden)
        command_line = [sys.executable, "-m", "fuserank", "serve", str(bundle), "--device", "cpu"]
        # Answers that were kept would be counted as good though nothing was computed for them.
        command_line += ["--port", "0", "--http.port", "-1", "--answers.max-answers", "0"]
        command_line += [f"--admission.max-backlog={config.max_backlog}"]
        command_line += [f"--admission.max-connection-calls={config.max_connection_calls}"]
        with contextlib.ExitStack() as stack:
            with _on(_server_cores()):
                process, address = stack.enter_context(server_process(command_line))
            stack.enter_context(_on(_client_cores()))
            capacity, rss_mib, levels = asyncio.run(_measure(process, address, requests, config))
    return OverloadReport(
        config=config,
        capacity_per_s=capacity,
        rss_mib=rss_mib,
        server_cores=tuple(sorted(_server_cores())),
        levels=levels,
        machine=machine,
        versions=installed_versions(),
        command=command,
    )


async def _measure(
    process: "subprocess.Popen[str]",
    address: str,
    requests: Sequence[bytes],
    config: OverloadConfig,
) -> tuple[float, float, tuple[Level, ...]]:
    server = psutil.Process(process.pid)
    levels = []
    async with Caller(
        address,
        requests,
        connections=config.connections,
        deadline_s=config.deadline_ms / 1e3,
        seed=config.seed,
    ) as caller:
        await caller.closed(max(config.at_once), _WARM_S)
        capacity = max([await caller.closed(n, config.peak_seconds) for n in config.at_once])
        before = _rss_mib(server)
        for factor in config.factors:
            await asyncio.sleep(_REST_S)
            peak = asyncio.create_task(_peak_rss(server))
            calls = await caller.open(factor * capacity, config.seconds)
            after = await caller.open(_GENTLE * capacity, config.recovery_seconds)
            peak.cancel()
            rss_mib = max([before, *(await asyncio.gather(peak))])
            levels.append(
                replace(
                    _level(calls, capacity, config),
                    factor=factor,
                    rss_mib=rss_mib,
                    recovery_s=recovery_s(after.due, after.good),
                )
            )
    return capacity, before, tuple(levels)


def _level(calls: Calls, capacity: float, config: OverloadConfig) -> Level:
    """Return what became of calls; load, memory and recovery are filled in by the caller."""
    good = sum(calls.good)
    latencies: npt.NDArray[np.float64] = np.array(calls.latency_ms or [np.nan])
    return Level(
        factor=0.0,
        offered_per_s=len(calls.due) / config.seconds,
        good_per_s=good / config.seconds,
        share_of_peak=good / config.seconds / capacity,
        degraded=calls.degraded / max(good, 1),
        statuses=dict(calls.statuses),
        p50_ms=float(np.percentile(latencies, 50)),
        p99_ms=float(np.percentile(latencies, 99)),
        sent_late=calls.late / max(len(calls.due), 1),
        rss_mib=0.0,
        recovery_s=0.0,
    )


async def _peak_rss(server: psutil.Process) -> float:
    """Return the most memory that the server had until this is cancelled."""
    most = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            most = max(most, _rss_mib(server))
            await asyncio.sleep(_RSS_EVERY_S)
    return most


def _rss_mib(server: psutil.Process) -> float:
    return round(float(server.memory_info().rss) / 2**20, 1)


def _server_cores() -> set[int]:
    """Return the cores of the server: all but the last."""
    allowed = sorted(_ALLOWED)
    return set(allowed[:-1] or allowed)


def _client_cores() -> set[int]:
    return {max(_ALLOWED)}


_ALLOWED = frozenset(os.sched_getaffinity(0))


@contextlib.contextmanager
def _on(chosen: set[int]) -> Iterator[None]:
    """Run on some cores, as do processes that are started meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main(
    out: Path,
    *,
    config: Annotated[OverloadConfig, Parameter(name="*")] = OverloadConfig(),
) -> None:
    """Measure a server under more load than it can answer.

    Args:
        out: File to write the report to.
        config: How much is offered.
    """
    report = measure_overload(
        config, command=shlex.join(["python", "-m", "fuserank.bench.overload", *sys.argv[1:]])
    )
    report.save(out)
    console.out.print(
        f"capacity {report.capacity_per_s:,.0f} good calls/s, {report.rss_mib:,.0f} MiB"
    )
    for level in report.levels:
        statuses = ", ".join(f"{name} {count:,}" for name, count in level.statuses.items())
        console.out.print(
            f"{level.factor:g}x: {level.offered_per_s:,.0f}/s offered, "
            f"{level.good_per_s:,.0f} good ({level.share_of_peak:.0%} of peak, "
            f"{level.degraded:.0%} degraded), p50 {level.p50_ms:.0f} ms, p99 {level.p99_ms:.0f} "
            f"ms; {level.rss_mib:,.0f} MiB, recovered in {level.recovery_s:.1f} s; "
            f"{level.sent_late:.0%} sent late; {statuses}"
        )


if __name__ == "__main__":
    cyclopts.run(main)
