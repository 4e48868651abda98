"""Our server beside others: one question, one client, one process to ask from, in turns.

Peers answer from one ONNX graph, which ranks a whole catalogue for a batch of users. It is the
ranker of a synthetic bundle, factorised, so that each of them computes the least that a graph can.
Each peer runs in a virtual environment of its own; one that is not installed is reported as
missing. ``python -m fuserank.bench.peers_serving peers.json --install`` makes these first.
"""

import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import cyclopts
from cyclopts import Parameter

import fuserank
from fuserank import console
from fuserank.bench.peers.client import OWN, Demand, Observed, users
from fuserank.bench.peers.environments import PEERS, install, python_of
from fuserank.bench.peers.graph import ranking_graph
from fuserank.bench.peers.running import NotRunningError, System, ask, serving
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.bench.stats import percentile
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle
from fuserank.errors import ConfigError, DataError

__all__ = ["PeersConfig", "PeersReport", "PeersRow", "measure_peers"]

ENGINE, SERVER_ALONE = "fuserank", "fuserank-graph"
"""Our engine over a bundle, and our server over the graph that the peers run."""


@dataclass(frozen=True, kw_only=True)
class PeersConfig:
    """How much is measured.

    Attributes:
        items: of the catalogue.
        width: numbers in a user's vector.
        k: items wanted.
        callers: callers at a time, one measurement each.
        calls: of one measurement.
        warm_calls: before each; they are not counted.
        rounds: in each, every server is started, measured and stopped.
        start_timeout_s: seconds that a server has to answer its first call.
        only: servers by name; all where there is none.
        environments: folder of the peers' virtual environments.
        python: interpreter that new ones are made with; that of this process unless given.
    """

    items: int = 2_000
    width: int = 64
    k: int = 10
    callers: tuple[int, ...] = (1, 16)
    calls: int = 4_000
    warm_calls: int = 400
    rounds: int = 5
    start_timeout_s: float = 90.0
    only: tuple[str, ...] = ()
    environments: Path = Path("~/.cache/fuserank/peers")
    python: Path = Path(sys.executable)

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        for name in ("items", "width", "k", "calls", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        if self.k > self.items:
            raise ConfigError(f"k: found {self.k}, expected at most the {self.items} items")
        if not self.callers or min(self.callers) < 1:
            raise ConfigError(f"callers: found {self.callers}, expected numbers of 1 or more")
        known = {ENGINE, SERVER_ALONE, *(peer.name for peer in PEERS)}
        if unknown := set(self.only) - known:
            raise ConfigError(f"only: found {sorted(unknown)}, expected some of {sorted(known)}")


@dataclass(frozen=True, kw_only=True)
class PeersRow:
    """One server at one number of callers; the median over rounds.

    Attributes:
        system: its name.
        package: what was installed for it.
        protocol: how it was called.
        callers: callers at a time.
        calls_per_s: answered.
        p50_ms: of a call.
        p99_ms: of a call.
        times_ours: calls a second of our server over the same graph, in the same round, as a
            multiple of its own; None where that was not measured.
        client_cpu_ms: that the calling process spent on a call: where that is most of p50, the
            client is measured.
    """

    system: str
    package: str
    protocol: str
    callers: int
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    times_ours: float | None
    client_cpu_ms: float


@dataclass(frozen=True, kw_only=True)
class PeersReport(Stored):
    """All of one run.

    Attributes:
        items: of the catalogue.
        width: numbers in a user's vector.
        k: items wanted.
        calls: of one measurement.
        rounds: measurements behind each row.
        missing: peers that did not run, and why.
        machine: where it was measured.
        versions: of this package and what it stands on.
        command: what to run to measure again.
        rows: a row for each server and number of callers.
    """

    items: int
    width: int
    k: int
    calls: int
    rounds: int
    missing: dict[str, str]
    machine: Machine
    versions: dict[str, str]
    command: str
    rows: tuple[PeersRow, ...]

    written_by: ClassVar[str] = "fuserank.bench.peers_serving"


def measure_peers(config: PeersConfig, *, command: str) -> PeersReport:
    """Measure our server and every peer that is installed.

    Servers take turns, each alone on the machine, so that a busy moment hits all alike.

    Args:
        config: how much is measured.
        command: what the report says to run to measure again.

    Raises:
        DataError: a server recommends other items than the engine does.
    """
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="fuserank-peers-") as name:
        directory = Path(name)
        items = SyntheticItems(n_items=config.items, width=config.width)
        bundle = synthetic_bundle(directory / "bundle", items)
        graph = directory / "ranking.onnx"
        graph.write_bytes(ranking_graph(items, config.k).SerializeToString())
        with fuserank.load(bundle, "cpu") as engine:
            asked = [{"vector": vector} for vector in users(config.width).tolist()]
            expected = [found.item_ids for found in engine.recommend_many(asked, config.k)]
        systems, missing = _systems(config, bundle)
        found = _measure(systems, missing, graph, expected, config)
    return PeersReport(
        items=config.items,
        width=config.width,
        k=config.k,
        calls=config.calls,
        rounds=config.rounds,
        missing=missing,
        machine=machine,
        versions=installed_versions(),
        command=command,
        rows=tuple(
            _row(system, callers, found[system.name, callers], found.get((SERVER_ALONE, callers)))
            for callers in config.callers
            for system in systems
            if (system.name, callers) in found and system.name not in missing
        ),
    )


Found = dict[tuple[str, int], list[Observed]]


def _measure(
    systems: Sequence[System],
    missing: dict[str, str],
    graph: Path,
    expected: Sequence[tuple[str, ...]],
    config: PeersConfig,
) -> Found:
    """Return what was observed by server and callers; add to `missing` what did not run."""
    found: Found = {}
    with console.progress("measuring servers", config.rounds * len(systems)) as advance:
        for _ in range(config.rounds):
            for system in systems:
                if system.name in missing:
                    continue
                try:
                    with serving(system, graph) as address:
                        for callers in config.callers:
                            observed = ask(_demand(system, address, callers, config))
                            _check(system.name, observed, expected)
                            found.setdefault((system.name, callers), []).append(observed)
                except NotRunningError as error:
                    missing[system.name] = str(error)
                advance(1)
    return found


def _demand(system: System, address: str, callers: int, config: PeersConfig) -> Demand:
    return Demand(
        protocol=system.protocol,
        address=address,
        width=config.width,
        k=config.k,
        callers=callers,
        calls=config.calls,
        warm_calls=config.warm_calls,
        start_timeout_s=config.start_timeout_s,
    )


def _systems(config: PeersConfig, bundle: Path) -> tuple[list[System], dict[str, str]]:
    """Return what can be measured, ours first, and the peers that are missing."""
    serve = ("-m", "fuserank", "serve", str(bundle), "--device", "cpu", "--http.port", "-1")
    own = f"fuserank=={fuserank.__version__}"
    systems = [
        System(
            name=ENGINE,
            package=own,
            protocol=OWN,
            command=(sys.executable, *serve, "--port"),
        ),
        System(
            name=SERVER_ALONE,
            package=own,
            protocol=OWN,
            command=(sys.executable, "-m", "fuserank.bench.peers.own_app"),
        ),
    ]
    missing = {}
    for peer in PEERS:
        python = python_of(peer, config.environments)
        if python.exists():
            module = f"fuserank.bench.peers.{peer.module}"
            command = (str(python), "-m", module)
            systems.append(
                System(
                    name=peer.name, package=peer.package, protocol=peer.protocol, command=command
                )
            )
        else:
            missing[peer.name] = f"not installed: expected {python}; run with --install"
    chosen = config.only or [system.name for system in systems] + list(missing)
    return (
        [system for system in systems if system.name in chosen],
        {name: why for name, why in missing.items() if name in chosen},
    )


def _check(name: str, observed: Observed, expected: Sequence[tuple[str, ...]]) -> None:
    """Raise DataError where a server answers something else, which would not compare."""
    for user, rows in enumerate(observed.rows):
        found = tuple(f"item-{row}" for row in rows)
        if found != expected[user]:
            raise DataError(
                f"{name}: found {found[:3]} for user {user}, expected "
                f"{expected[user][:3]}; it does not rank by the same graph"
            )


def _row(
    system: System, callers: int, found: Sequence[Observed], ours: Sequence[Observed] | None
) -> PeersRow:
    rates = [len(one.latencies_ms) / one.seconds for one in found]
    ordered = [sorted(one.latencies_ms) for one in found]
    ratio = None
    if ours is not None:
        own = [len(one.latencies_ms) / one.seconds for one in ours]
        ratio = statistics.median(a / b for a, b in zip(own, rates, strict=True))
    return PeersRow(
        system=system.name,
        package=system.package,
        protocol=system.protocol,
        callers=callers,
        calls_per_s=statistics.median(rates),
        p50_ms=statistics.median(percentile(one, 500) for one in ordered),
        p99_ms=statistics.median(percentile(one, 990) for one in ordered),
        times_ours=ratio,
        client_cpu_ms=statistics.median(one.cpu_s / len(one.latencies_ms) * 1e3 for one in found),
    )


_DEFAULTS = PeersConfig()


def main(
    out: Path,
    *,
    config: Annotated[PeersConfig, Parameter(name="*")] = _DEFAULTS,
    install_missing: Annotated[bool, Parameter(name="--install", negative="")] = False,
) -> None:
    """Measure our server beside others.

    Args:
        out: File to write the report to.
        config: How much is measured.
        install_missing: Install the peers that are not there, into environments of their own.
    """
    if install_missing:
        for name, why in install(config.environments, config.only, config.python).items():
            console.out.print(f"{name} could not be installed: {why}")
    report = measure_peers(
        config,
        command=shlex.join(["python", "-m", "fuserank.bench.peers_serving", *sys.argv[1:]]),
    )
    report.save(out)
    for row in report.rows:
        ratio = "" if row.times_ours is None else f", ours {row.times_ours:.2f} times as many"
        console.out.print(
            f"{row.callers} callers: {row.system} ({row.protocol}) {row.calls_per_s:,.0f} calls/s, "
            f"p50 {row.p50_ms:.2f} ms, p99 {row.p99_ms:.2f} ms{ratio}, the client took "
            f"{row.client_cpu_ms:.2f} ms of CPU a call"
        )
    for name, why in report.missing.items():
        console.out.print(f"{name} did not run: {why}")


if __name__ == "__main__":
    cyclopts.run(main)
