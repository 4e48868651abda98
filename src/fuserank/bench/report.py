"""What a benchmark found: figures with the machine, the versions and the command."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Self

import msgspec
import psutil
from rich.table import Table

from fuserank.bench.stats import Summary
from fuserank.bundle.atomic import write_file
from fuserank.engine.providers import cores
from fuserank.errors import DataError

__all__ = ["Machine", "Report", "Result", "Stored", "installed_versions", "this_machine"]

_PACKAGES = ("fuserank", "numpy", "numba", "onnxruntime-gpu", "onnxruntime", "grpcio", "tokenizers")


class Stored:
    """A report that is kept as JSON.

    Attributes:
        written_by: what writes such reports, for messages.
    """

    written_by: ClassVar[str]

    def save(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all."""
        write_file(path, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing or not such a report.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise DataError(
                f"{path}: expected a report that {cls.written_by} wrote, found: {error}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured.

    Attributes:
        cpu: model name.
        cores: that the process may use.
        memory_gib: installed.
        system: operating system.
        python: its version.
        load: runnable processes in the mean of the last minute, when the run began: what else
            the machine was doing.
    """

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    load: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """One system in one scenario.

    Attributes:
        system: such as ``"in-process"``.
        scenario: such as ``"single stream"``.
        offered_per_s: arrivals a second; None in a closed loop.
        summary: the figures.
        naive_ratio: the naive way's median latency in the same scenario, at the same rate, as a
            multiple of this one; None where that was not measured.
        floor_ratio: this median latency as a multiple of the floor.
    """

    system: str
    scenario: str
    offered_per_s: float | None
    summary: Summary
    naive_ratio: float | None
    floor_ratio: float


@dataclass(frozen=True, kw_only=True)
class Report(Stored):
    """All of one run.

    Attributes:
        workload: its name.
        n_items: items of the catalogue.
        scorer: how the engine scores them.
        device: where graphs ran.
        k: items asked for.
        threads: of the engine, the naive way and the floor.
        state_bytes: of all that a scan reads: the item states, or their codes and constants.
        floor_ms: median time of merely reading them.
        machine: where it was measured.
        versions: of the packages that matter.
        command: what to run to measure again.
        results: a row for each system and scenario.
    """

    workload: str
    n_items: int
    scorer: str
    device: str
    k: int
    threads: int
    state_bytes: int
    floor_ms: float
    machine: Machine
    versions: dict[str, str]
    command: str
    results: tuple[Result, ...]

    written_by: ClassVar[str] = "'fuserank bench'"

    def table(self) -> Table:
        """Return the figures for people."""
        machine = self.machine
        table = Table(
            title=f"{self.workload}: {self.n_items:,} items, {self.scorer}, top {self.k}, "
            f"{self.threads} threads",
            caption=f"floor {self.floor_ms:.2f} ms (reading {self.state_bytes / 1e6:,.1f} MB of "
            f"what a scan reads)\n{machine.cpu}, {machine.cores} cores, load {machine.load:.1f}",
            box=None,
        )
        table.add_column("system", no_wrap=True)
        table.add_column("scenario", no_wrap=True)
        for heading in ("n", "per s", "p50 ms", "p99", "p99.9", "×naive", "×floor"):
            table.add_column(heading, justify="right")
        for row in self.results:
            table.add_row(row.system, row.scenario, *_cells(row))
        return table


def this_machine() -> Machine:
    """Describe the machine this runs on."""
    return Machine(
        cpu=_cpu_model(),
        cores=cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        load=round(psutil.getloadavg()[0], 2),
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # one of the two packages of ONNX Runtime is never there
    return found


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cells(row: Result) -> list[str]:
    found = row.summary
    figures = (
        found.throughput_per_s,
        found.p50_ms,
        found.p99_ms,
        found.p99_9_ms,
        row.naive_ratio,
        row.floor_ratio,
    )
    count = f"{found.count:,}" + (f" ({found.failed} failed)" if found.failed else "")
    return [count, *map(_figure, figures)]


def _figure(value: float | None) -> str:
    """Return three digits or more: decimals where the number is small."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
