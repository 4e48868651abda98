"""A server under mixed calls for a long time: whether its memory stays flat and no call fails.

The command is ``python -m fuserank.bench.soak soak.json --seconds 1800``; ``make soak`` runs it.
"""

import asyncio
import itertools
import shlex
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import cyclopts
import numpy as np
import psutil
from cyclopts import Parameter

from fuserank import console
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.bench.soak_calls import WIDTH, mixed_calls
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle
from fuserank.errors import ConfigError, DataError, FuserankError
from fuserank.server.client.client import AsyncClient
from fuserank.server.process import server_process

__all__ = ["MemorySample", "SoakConfig", "SoakReport", "soak"]

_CALLS_A_CONNECTION = 500
_MESSAGE_BYTES = 64 * 2**20
_LEAST_SAMPLES = 6
_SEGMENT_FILES = 4
"""That a process maps of folded live items; there are none before they are first folded."""
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class SoakConfig:
    """How long, how hard, and what is allowed.

    Attributes:
        seconds: that calls go on for.
        warm_s: of these, how many pass before memory is looked at: caches fill, and allocators
            take what they go on using.
        max_calls: calls at most.
        callers: calls at a time, each caller on a connection of its own.
        processes: worker processes of the server.
        items: of the made-up catalogue.
        sample_s: seconds between two looks at the memory.
        max_growth_mib: by how much more memory a flat server may hold in the last third of the
            time than in the first third after the warm-up. Allocators breathe.
    """

    seconds: float = 1800.0
    warm_s: float = 120.0
    max_calls: int = 5_000_000
    callers: int = 4
    processes: int = 2
    items: int = 20_000
    sample_s: float = 1.0
    max_growth_mib: float = 16.0

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        for name in ("max_calls", "callers", "processes", "items"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        for name in ("sample_s", "max_growth_mib"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected more than 0")
        if not 0.0 <= self.warm_s < self.seconds < float("inf"):
            raise ConfigError(
                f"warm_s: found {self.warm_s}, expected 0 or more and less than the {self.seconds} "
                "seconds of the whole"
            )


@dataclass(frozen=True, kw_only=True)
class MemorySample:
    """What the server's processes held at a time.

    Attributes:
        second: since calls began.
        private_mib: memory that no other process shares.
        resident_mib: all that is in memory; pages that are shared count once a process.
        files: descriptors that are open.
        threads: of all processes.
        calls: answered so far.
    """

    second: float
    private_mib: float
    resident_mib: float
    files: int
    threads: int
    calls: int


@dataclass(frozen=True, kw_only=True)
class SoakReport(Stored):
    """All of one run.

    Attributes:
        config: how it ran.
        calls: by kind, how many were answered as they should be.
        failures: by message, how many were not.
        growth_mib: of private memory, from the median of the first third after the warm-up to that
            of the last third.
        growth_bytes_a_call: the same for each call between the middles of the two.
        slope_mib_a_minute: of a line through private memory after the warm-up.
        flat: whether that growth is allowed, and no more descriptors stay open than callers have
            and, in each process, the segment into which live items are first folded.
        samples: what was seen, in order.
        machine: where it ran.
        versions: of the packages that matter.
        command: what to run to see it again.
    """

    config: SoakConfig
    calls: dict[str, int]
    failures: dict[str, int]
    growth_mib: float
    growth_bytes_a_call: float
    slope_mib_a_minute: float
    flat: bool
    samples: tuple[MemorySample, ...]
    machine: Machine
    versions: dict[str, str]
    command: str

    written_by: ClassVar[str] = "fuserank.bench.soak"


def soak(bundle: Path, config: SoakConfig, *, command: str) -> SoakReport:
    """Serve a synthetic bundle to mixed calls, and watch the memory of the server's processes.

    Args:
        bundle: a synthetic bundle of the width that is asked for here.
        config: how long, how hard, and what is allowed.
        command: what the report says to run to see it again.

    Raises:
        ServerError: the server does not start, or does not stop with exit code 0.
        DataError: the calls were spent before the warm-up was over.
    """
    serve = [sys.executable, "-m", "fuserank", "serve", str(bundle), "--device", "cpu"]
    serve += ["--port", "0", "--http.port", "-1", "--processes", str(config.processes)]
    # Kept answers fill up while it warms up, whatever the rate: else they would pass for a leak.
    serve += ["--answers.max-answers", "500"]
    machine = this_machine()
    with (
        tempfile.TemporaryDirectory(prefix="fuserank-soak-live-") as live,
        server_process([*serve, "--live", live]) as (process, address),
    ):
        load = _Load(address, config)
        samples = asyncio.run(load.run(process.pid))
    warm = [sample for sample in samples if sample.second >= config.warm_s]
    if len(warm) < _LEAST_SAMPLES:
        raise DataError(
            f"soak: found {len(warm)} looks at the memory after the warm-up, expected "
            f"{_LEAST_SAMPLES} or more; allow more calls, or look more often"
        )
    growth_mib = _growth(warm, "private_mib")
    slope = statistics.linear_regression(
        [sample.second / 60 for sample in warm], [sample.private_mib for sample in warm]
    ).slope
    return SoakReport(
        config=config,
        calls=dict(load.calls),
        failures=dict(load.failures),
        growth_mib=growth_mib,
        growth_bytes_a_call=growth_mib * _MIB / max(_growth(warm, "calls"), 1.0),
        slope_mib_a_minute=slope,
        flat=_is_flat(warm, config),
        samples=tuple(samples),
        machine=machine,
        versions=installed_versions(),
        command=command,
    )


class _Load:
    """Mixed calls by several callers, and what came of them."""

    def __init__(self, address: str, config: SoakConfig) -> None:
        """Take a running server; nothing is called yet."""
        self._address, self._config = address, config
        self.calls, self.failures = Counter[str](), Counter[str]()

    async def run(self, pid: int) -> list[MemorySample]:
        """Call and look until the time is over or the calls are spent."""
        samples: list[MemorySample] = []
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for caller in range(self._config.callers):
                tasks.create_task(self._call(caller))
            while self._goes_on():
                samples.append(self._look(pid))
                await asyncio.sleep(self._config.sample_s)
            samples.append(self._look(pid))
        return samples

    def _goes_on(self) -> bool:
        spent = self.calls.total() + self.failures.total()
        in_time = time.monotonic() - self._started < self._config.seconds
        return in_time and spent < self._config.max_calls

    async def _call(self, caller: int) -> None:
        """Make calls of every kind in turn."""
        rng = np.random.default_rng(caller)
        # gRPC has channels of one process share a connection where nothing tells them apart.
        max_message_bytes = _MESSAGE_BYTES + caller
        while self._goes_on():
            # Connections come and go, as callers do.
            async with AsyncClient(self._address, max_message_bytes=max_message_bytes) as client:
                kinds = mixed_calls(client, rng, items=self._config.items, caller=caller)
                turn = itertools.cycle(kinds.items())
                for kind, call in itertools.islice(turn, _CALLS_A_CONNECTION):
                    if not self._goes_on():
                        return
                    try:
                        await call()
                    except FuserankError as error:
                        self.failures[f"{kind}: {type(error).__name__}: {error}"] += 1
                    else:
                        self.calls[kind] += 1

    def _look(self, pid: int) -> MemorySample:
        """Add up what the server's process and its workers hold."""
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
        memory = [process.memory_full_info() for process in processes]
        return MemorySample(
            second=time.monotonic() - self._started,
            private_mib=sum(found.uss for found in memory) / _MIB,
            resident_mib=sum(found.rss for found in memory) / _MIB,
            files=sum(process.num_fds() for process in processes),
            threads=sum(process.num_threads() for process in processes),
            calls=self.calls.total(),
        )


def _is_flat(samples: Sequence[MemorySample], config: SoakConfig) -> bool:
    """Say whether what samples show after the warm-up is allowed."""
    files = config.callers + config.processes * _SEGMENT_FILES
    return (
        _growth(samples, "private_mib") <= config.max_growth_mib
        and _growth(samples, "files") <= files
    )


def _third(samples: Sequence[MemorySample], name: str, *, last: bool) -> float:
    """Return the median of the first or the last third of samples."""
    size = max(len(samples) // 3, 1)
    part = samples[-size:] if last else samples[:size]
    return float(statistics.median(getattr(sample, name) for sample in part))


def _growth(samples: Sequence[MemorySample], name: str) -> float:
    """Return by how much something grew from the first third of samples to the last."""
    return _third(samples, name, last=True) - _third(samples, name, last=False)


_DEFAULTS = SoakConfig()


def main(out: Path, *, config: Annotated[SoakConfig, Parameter(name="*")] = _DEFAULTS) -> int:
    """Serve mixed calls for a long time, and say whether memory stays flat.

    Args:
        out: File to write the report to.
        config: How long, how hard, and what is allowed.
    """
    with tempfile.TemporaryDirectory(prefix="fuserank-soak-") as directory:
        items = SyntheticItems(n_items=config.items, width=WIDTH)
        bundle = synthetic_bundle(Path(directory) / "bundle", items)
        command = shlex.join(["python", "-m", "fuserank.bench.soak", *sys.argv[1:]])
        report = soak(bundle, config, command=command)
    report.save(out)
    first, last = report.samples[0], report.samples[-1]
    console.out.print(
        f"{sum(report.calls.values()):,} calls in {last.second:.0f} s; private memory "
        f"{first.private_mib:.0f} to {last.private_mib:.0f} MiB, after the warm-up "
        f"{report.growth_mib:+.1f} MiB ({report.growth_bytes_a_call:+.0f} bytes a call, "
        f"{report.slope_mib_a_minute:+.2f} MiB a minute)"
    )
    for message, count in report.failures.items():
        console.out.print(f"{count:,} failed: {message}")
    if not report.flat:
        console.out.print(f"not flat: at most {config.max_growth_mib:g} MiB are allowed")
    return 0 if report.flat and not report.failures else 1


if __name__ == "__main__":
    sys.exit(cyclopts.run(main))
