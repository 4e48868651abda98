"""What serving costs: our server over gRPC beside the engine in a process, in turns.

Three questions: how much of the engine's own batched throughput is left at saturation, what a call
adds to the engine's time when nobody else calls, and what a request of a stream costs beside a call
of its own. ``python -m fuserank.bench.serving serving.json``; docs/benchmarks-serving.md says how
to read it.
"""

import itertools
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import cyclopts
import msgspec
from cyclopts import Parameter

from fuserank import console
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.bench.serving_client import Demand, Mode, Seen
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle, synthetic_requests
from fuserank.bench.workloads import Request
from fuserank.engine.engine import Engine, load
from fuserank.engine.providers import cores
from fuserank.errors import ConfigError, ServerError
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.process import server_process

__all__ = ["ServingConfig", "ServingReport", "Target", "measure_serving"]

_SATURATING = (Mode.UNARY, Mode.STREAM, Mode.BATCH)
_REST_S = 0.2
"""Before each measurement: pools of threads go on spinning for a while."""


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """How much is measured.

    Attributes:
        items: of the made-up catalogue.
        small_items: of the one by which streams are compared: nearly all of a call is the call.
        width: numbers in a vector.
        k: items wanted.
        at_once: requests under way at saturation.
        seconds: of one measurement.
        max_requests: of one measurement.
        warm_requests: before each; they are not counted.
        rounds: in each, everything is measured once.
    """

    items: int = 1_000_000
    small_items: int = 200
    width: int = 64
    k: int = 10
    at_once: int = 256
    seconds: float = 5.0
    max_requests: int = 20_000
    warm_requests: int = 256
    rounds: int = 7

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected more than 0")
        if self.k > self.small_items:
            raise ConfigError(
                f"k: found {self.k}, expected at most the {self.small_items} small_items"
            )


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound, and what was found.

    Attributes:
        name: what it is about.
        found: the median over rounds of ratios within a round.
        bound: the least or most that is aimed at.
        at_least: whether it is the least.
    """

    name: str
    found: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound


@dataclass(frozen=True, kw_only=True)
class ServingReport(Stored):
    """All of one run. Figures are medians over rounds.

    Attributes:
        config: how it was measured.
        threads: of the engine, here and in the server.
        batch: users of one call of the engine, here and in the server.
        engine_users_per_s: in this process, batch after batch.
        engine_p50_ms: in this process, one user after the other.
        seen: by what was measured, how the server did.
        targets: what is aimed at.
        machine: where it was measured.
        versions: of the packages that matter.
        command: what to run to measure again.
    """

    config: ServingConfig
    threads: int
    batch: int
    engine_users_per_s: float
    engine_p50_ms: float
    seen: dict[str, Seen]
    targets: tuple[Target, ...]
    machine: Machine
    versions: dict[str, str]
    command: str

    written_by: ClassVar[str] = "fuserank.bench.serving"


def measure_serving(config: ServingConfig, *, command: str) -> ServingReport:
    """Measure engine and server in turns, in rounds, so that a busy moment hits all of a round.

    Args:
        config: how much is measured.
        command: what the report says to run to measure again.

    Raises:
        ServerError: a server does not start, or a call fails.
    """
    machine, batch = this_machine(), BatchingConfig().max_users
    rates: dict[Mode, list[float]] = {mode: [] for mode in _SATURATING}
    engine_p50s: list[float] = []
    seen: dict[str, list[Seen]] = {}
    with tempfile.TemporaryDirectory(prefix="fuserank-serving-") as name:
        large = SyntheticItems(n_items=config.items, width=config.width)
        small = SyntheticItems(n_items=config.small_items, width=config.width)
        paths = [Path(name) / "large", Path(name) / "small"]
        for path, items in zip(paths, (large, small), strict=True):
            synthetic_bundle(path, items)
        with (
            load(paths[0], "cpu") as engine,
            server_process(_serve(paths[0])) as (process, address),
            server_process(_serve(paths[1])) as (small_process, small_address),
            console.progress("rounds", config.rounds) as advance,
        ):
            users = synthetic_requests(batch, large)
            for _ in range(config.rounds):
                for mode in _SATURATING:
                    rates[mode].append(_engine_rate(engine, users, config))
                    found = _see(config, mode, process.pid, address, config.at_once)
                    seen.setdefault(f"{mode}, saturated", []).append(found)
                engine_p50s.append(_engine_p50(engine, users, config))
                for mode in (Mode.ALONE, Mode.NOOP, Mode.NOOP_BETWEEN):
                    found = _see(config, mode, process.pid, address, 1)
                    seen.setdefault(f"{mode}, idle", []).append(found)
                for mode in (Mode.UNARY, Mode.STREAM):
                    found = _see(config, mode, small_process.pid, small_address, 16)
                    seen.setdefault(f"{mode}, small", []).append(found)
                advance(1)
    return ServingReport(
        config=config,
        threads=cores(),
        batch=batch,
        engine_users_per_s=statistics.median(itertools.chain(*rates.values())),
        engine_p50_ms=statistics.median(engine_p50s),
        seen={name: _median(found) for name, found in seen.items()},
        targets=_targets(seen, rates, engine_p50s),
        machine=machine,
        versions=installed_versions(),
        command=command,
    )


def _targets(
    seen: dict[str, list[Seen]], rates: dict[Mode, list[float]], engine_p50s: Sequence[float]
) -> tuple[Target, ...]:
    alone, noop, between = (
        seen[f"{mode}, idle"] for mode in (Mode.ALONE, Mode.NOOP, Mode.NOOP_BETWEEN)
    )
    unary, stream = seen[f"{Mode.UNARY}, small"], seen[f"{Mode.STREAM}, small"]
    shares = {
        mode: [
            one.users / one.seconds / rate
            for one, rate in zip(seen[f"{mode}, saturated"], rates[mode], strict=True)
        ]
        for mode in _SATURATING
    }
    added = [
        (a.p50_ms - engine_ms) / n.p50_ms
        for a, n, engine_ms in zip(alone, noop, engine_p50s, strict=True)
    ]
    beyond, beyond_swept = (
        [a.overhead_p50_ms / n.p50_ms for a, n in zip(alone, other, strict=True)]
        for other in (noop, between)
    )
    server = [s.server_cpu_ms / u.server_cpu_ms for s, u in zip(stream, unary, strict=True)]
    return (
        *(
            Target(
                name=f"throughput by {mode} / the engine's own",
                found=statistics.median(share),
                bound=0.9,
                at_least=True,
            )
            for mode, share in shares.items()
        ),
        *(
            Target(name=name, found=statistics.median(found), bound=bound, at_least=False)
            for name, found, bound in (
                ("(p50 idle - the engine's own) / p50 of a no-op", added, 1.3),
                ("p50 idle beyond what the engine took / p50 of a no-op", beyond, 1.3),
                (
                    "p50 idle beyond what the engine took / p50 of a no-op after a call",
                    beyond_swept,
                    1.3,
                ),
                ("server CPU of a stream's request / of a call", server, 0.6),
            )
        ),
    )


def _engine_rate(engine: Engine, users: Sequence[Request], config: ServingConfig) -> float:
    """Return users a second, batch after batch."""
    time.sleep(_REST_S)
    most = -(-config.max_requests // len(users))
    started, answered = time.perf_counter(), 0
    while answered < most and time.perf_counter() - started < config.seconds:
        engine.recommend_many(users, config.k)
        answered += 1
    return answered * len(users) / (time.perf_counter() - started)


def _engine_p50(engine: Engine, users: Sequence[Request], config: ServingConfig) -> float:
    """Return the median milliseconds of one user after the other."""
    time.sleep(_REST_S)
    taken: list[float] = []
    until = time.perf_counter() + config.seconds
    while len(taken) < config.max_requests and time.perf_counter() < until:
        started = time.perf_counter()
        engine.recommend(users[len(taken) % len(users)], config.k)
        taken.append((time.perf_counter() - started) * 1e3)
    return statistics.median(taken)


def _serve(bundle: Path) -> list[str]:
    command = [sys.executable, "-m", "fuserank", "serve", str(bundle), "--device", "cpu"]
    return [*command, "--port", "0", "--http.port", "-1"]


def _see(config: ServingConfig, mode: Mode, pid: int, address: str, at_once: int) -> Seen:
    """Ask a server from another process."""
    time.sleep(_REST_S)
    batch = BatchingConfig().max_users
    demand = Demand(
        mode=mode,
        address=address,
        server_pid=pid,
        width=config.width,
        k=config.k,
        at_once=max(at_once // batch, 2) if mode is Mode.BATCH else at_once,
        batch=batch,
        seconds=config.seconds,
        max_requests=config.max_requests,
        warm_requests=config.warm_requests // batch + 1
        if mode is Mode.BATCH
        else config.warm_requests,
    )
    done = subprocess.run(
        [sys.executable, "-m", "fuserank.bench.serving_client"],
        input=msgspec.json.encode(demand),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise ServerError(f"{mode}: the calling process failed\n{words[-2000:]}")
    return msgspec.json.decode(done.stdout, type=Seen)


def _median(found: Sequence[Seen]) -> Seen:
    """Return the median of each figure."""
    figures = {
        name: statistics.median(getattr(one, name) for one in found)
        for name in Seen.__dataclass_fields__
        if name != "users"
    }
    return Seen(users=sum(one.users for one in found), **figures)


_DEFAULTS = ServingConfig()


def main(out: Path, *, config: Annotated[ServingConfig, Parameter(name="*")] = _DEFAULTS) -> None:
    """Measure what serving costs.

    Args:
        out: File to write the report to.
        config: How much is measured.
    """
    command = shlex.join(["python", "-m", "fuserank.bench.serving", *sys.argv[1:]])
    report = measure_serving(config, command=command)
    report.save(out)
    console.out.print(
        f"engine: {report.engine_users_per_s:,.0f} users/s in batches of {report.batch}, "
        f"p50 {report.engine_p50_ms:.2f} ms one at a time"
    )
    for name, seen in report.seen.items():
        console.out.print(
            f"{name}: {seen.users / report.config.rounds / seen.seconds:,.0f} users/s, "
            f"p50 {seen.p50_ms:.2f} ms, CPU for a user {seen.server_cpu_ms:.3f} ms in the server "
            f"and {seen.client_cpu_ms:.3f} ms in the caller"
        )
    for target in report.targets:
        sign = "≥" if target.at_least else "≤"
        verdict = "met" if target.met else "missed"
        console.out.print(f"{target.name}: {target.found:.2f} ({sign} {target.bound:g}: {verdict})")


if __name__ == "__main__":
    cyclopts.run(main)
