"""What reloading costs callers: calls that fail, and latencies beside those of a steady server.

The command is ``python -m fuserank.bench.reload reload.json``. Requests come at a fixed rate from
this process, over loopback, to a server in a process of its own. Three bundles of one size take
turns: each is loaded beside the one that serves, and promoted.
"""

import asyncio
import itertools
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import cyclopts
from cyclopts import Parameter

from fuserank import console
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.bench.scenarios import poisson, poisson_arrivals, single_stream
from fuserank.bench.stats import Run, Summary, summarise
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle, synthetic_requests
from fuserank.bench.systems import Grpc, System
from fuserank.bench.workloads import Request
from fuserank.errors import ConfigError
from fuserank.server.client.admin_client import AdminClient
from fuserank.server.process import serve_in_background

__all__ = ["ReloadConfig", "ReloadReport", "measure_reload"]

_NAMES = ("one", "two", "three")
"""One serves, one is kept for a rollback, and one can be loaded."""
_WARM_SECONDS = 2.0
_REQUESTS = 1_000


@dataclass(frozen=True, kw_only=True)
class ReloadConfig:
    """How reloading is measured.

    Attributes:
        n_items: items of each bundle.
        k: items wanted a request.
        seconds: seconds of reloading; as many of steady serving, half before and half after.
        every_s: seconds from the begin of one reload to that of the next.
        rate: requests a second; 0 takes half of what one client reaches.
        seed: of bundles, requests and arrival times.
    """

    n_items: int = 100_000
    k: int = 10
    seconds: float = 30.0
    every_s: float = 5.0
    rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        for name in ("n_items", "k"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        for name in ("seconds", "every_s"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected more than 0")
        if not 0.0 <= self.rate < float("inf"):
            raise ConfigError(f"rate: found {self.rate}, expected 0 or more requests a second")


@dataclass(frozen=True, kw_only=True)
class ReloadReport(Stored):
    """All of one run.

    Attributes:
        n_items: items of each bundle.
        k: items asked for.
        every_s: seconds from one reload to the next.
        offered_per_s: requests a second, arriving whatever the server does.
        reloads: bundles that were loaded and promoted.
        reload_ms: median time of loading and promoting one.
        steady: requests while nothing was reloaded.
        reloading: requests while bundles were.
        p99_ratio: the 99th percentile while reloading as a multiple of the steady one.
        machine: where it was measured.
        versions: of the packages that matter.
        command: what to run to measure again.
    """

    n_items: int
    k: int
    every_s: float
    offered_per_s: float
    reloads: int
    reload_ms: float
    steady: Summary
    reloading: Summary
    p99_ratio: float
    machine: Machine
    versions: dict[str, str]
    command: str

    written_by: ClassVar[str] = "fuserank.bench.reload"


@dataclass(frozen=True, kw_only=True)
class _Measured:
    rate: float
    reloads_ms: Sequence[float]
    steady: Run
    reloading: Run


def measure_reload(config: ReloadConfig, *, command: str) -> ReloadReport:
    """Measure a server over made-up catalogues.

    Args:
        config: how it is measured.
        command: what the report says to run to measure again.

    Raises:
        ServerError: the server does not start, or stops.
        BundleError: a bundle could not be loaded.
    """
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="fuserank-bench-") as directory:
        folder = Path(directory)
        for seed, name in enumerate(_NAMES, start=config.seed):
            items = SyntheticItems(n_items=config.n_items, seed=seed)
            with console.progress(f"precomputing {name}", config.n_items) as advance:
                synthetic_bundle(folder / name, items, on_progress=advance)
        requests = synthetic_requests(
            _REQUESTS, SyntheticItems(n_items=config.n_items, seed=config.seed)
        )
        options = ["--bundles.folder", str(folder)]
        with serve_in_background(folder / _NAMES[0], device="cpu", options=options) as address:
            measured = asyncio.run(_measure_server(address, requests, config))
    steady, reloading = summarise(measured.steady), summarise(measured.reloading)
    return ReloadReport(
        n_items=config.n_items,
        k=config.k,
        every_s=config.every_s,
        offered_per_s=measured.rate,
        reloads=len(measured.reloads_ms),
        reload_ms=statistics.median(measured.reloads_ms),
        steady=steady,
        reloading=reloading,
        p99_ratio=reloading.p99_ms / steady.p99_ms,
        machine=machine,
        versions=installed_versions(),
        command=command,
    )


async def _measure_server(
    address: str, requests: Sequence[Request], config: ReloadConfig
) -> _Measured:
    async with Grpc(address) as system:
        with AdminClient(address) as admin:
            return await _measure(system, admin, requests, config)


async def _measure(
    system: System, admin: AdminClient, requests: Sequence[Request], config: ReloadConfig
) -> _Measured:
    """Offer the same rate throughout; what is steady stands before and after, for drift."""
    warm = await single_stream(system, requests, config.k, seconds=_WARM_SECONDS)
    rate = config.rate or summarise(warm).throughput_per_s / 2

    async def offer(seconds: float, part: int) -> Run:
        n_requests = int(2 * rate * seconds) + 1
        arrivals = poisson_arrivals(rate, n_requests, seconds, config.seed + part)
        return await poisson(system, requests, config.k, arrivals=arrivals)

    before = await offer(config.seconds / 2, 0)
    reloading = asyncio.create_task(_reload(admin, config))
    during = await offer(config.seconds, 1)
    reloads_ms = await reloading
    after = await offer(config.seconds / 2, 2)
    steady = Run(
        samples=[*before.samples, *after.samples],
        failed=before.failed + after.failed,
        seconds=before.seconds + after.seconds,
    )
    return _Measured(rate=rate, reloads_ms=reloads_ms, steady=steady, reloading=during)


async def _reload(admin: AdminClient, config: ReloadConfig) -> list[float]:
    """Load and promote one bundle after the other, and return the milliseconds of each."""
    started, taken_ms = time.perf_counter(), []
    names = itertools.cycle((*_NAMES[1:], _NAMES[0]))
    for number in itertools.count():
        due = number * config.every_s
        if due >= config.seconds:
            break
        await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
        began = time.perf_counter()
        loaded = await asyncio.to_thread(admin.load, next(names))
        await asyncio.to_thread(admin.promote, loaded.info.version)
        taken_ms.append((time.perf_counter() - began) * 1e3)
    return taken_ms


_DEFAULTS = ReloadConfig()


def main(out: Path, *, config: Annotated[ReloadConfig, Parameter(name="*")] = _DEFAULTS) -> None:
    """Measure what reloading costs callers.

    Args:
        out: File to write the report to.
        config: How it is measured.
    """
    command = shlex.join(["python", "-m", "fuserank.bench.reload", *sys.argv[1:]])
    report = measure_reload(config, command=command)
    report.save(out)
    for name, found in (("steady", report.steady), ("reloading", report.reloading)):
        console.out.print(
            f"{name}: {found.count:,} answered, {found.failed} failed, p50 {found.p50_ms:.2f} ms, "
            f"p99 {found.p99_ms:.2f} ms"
        )
    console.out.print(
        f"{report.reloads} reloads of {report.n_items:,} items, {report.reload_ms:,.0f} ms each; "
        f"p99 {report.p99_ratio:.2f} times the steady one"
    )


if __name__ == "__main__":
    cyclopts.run(main)
