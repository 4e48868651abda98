"""The scan alone: exact top-k of a whole catalogue, beside its peers and the floors, in one run.

The command is ``python -m fuserank.bench.scan scan.json``.
"""

import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cyclopts
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fuserank import console
from fuserank.bench.limits import byte_products_per_s, read_floor_ms
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.bench.scan_systems import (
    Search,
    faiss_flat,
    full_graph,
    joint_graph,
    numpy_product,
    onnx_product,
    ours,
)
from fuserank.bench.synthetic import ITEM, USER, SyntheticItems, perceptron
from fuserank.engine.engine import cores
from fuserank.engine.scoring import Codes, Eligibility, FusedScorer, QuantizedScorer, quantize
from fuserank.errors import DataError
from fuserank.export.factorise import Factorised, factorise
from fuserank.export.sides import sides_by_name

__all__ = ["BATCH", "OURS", "OURS_FLOAT", "WORKS", "ScanReport", "ScanRow", "measure_scan"]

FloatArray = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint64]
States = dict[str, FloatArray]

OURS, OURS_FLOAT = "fuserank", "fuserank, float32 states"
WORKS = DOT, PERCEPTRON = "inner product", "two-layer perceptron"
BATCH = 32
WIDTH = 64

_NO_ROWS = np.empty(0, dtype=np.int64)
_TILE = 4096
_ROUNDS, _PASSES = 9, 5
_SLOW_S, _SLOW_ROUNDS = 0.5, 3
"""A system whose pass takes longer is timed in the first few rounds alone, once in each."""
_REST_S = 0.05
"""Between systems: thread pools go on spinning for a while, on cores that the next one needs."""
_WARM_S = 0.1
"""Of passes that are not timed: a processor that has rested takes a while to be quick again."""


@dataclass(frozen=True, kw_only=True)
class ScanRow:
    """One system at one piece of work.

    Attributes:
        work: ``inner product`` or ``two-layer perceptron``.
        n_items: items of the catalogue.
        eligible: the share of them that may be recommended.
        queries: users that share a pass.
        system: what ran.
        median_ms: of a pass.
        times_ours: the median, over rounds, of a pass as a multiple of this package's own in the
            same round: a machine that is shared is quicker in some rounds than in others.
    """

    work: str
    n_items: int
    eligible: float
    queries: int
    system: str
    median_ms: float
    times_ours: float


@dataclass(frozen=True, kw_only=True)
class ScanReport(Stored):
    """All of one run.

    Attributes:
        width: numbers in an item state.
        k: items asked for.
        threads: of every system.
        read_states_ms: median time of reading the float32 states of the largest table's catalogue.
        read_codes_ms: the same of its codes and constants.
        peak_per_s: multiply-adds a second of a block of codes that stays in the nearest cache.
        machine: where it was measured.
        versions: of the packages that matter.
        command: what to run to measure again.
        peers: rows with peers, at `n_items`.
        filtered: rows where only some items are eligible.
        sizes: rows over the sizes of the catalogue.
    """

    width: int
    k: int
    n_items: int
    threads: int
    read_states_ms: float
    read_codes_ms: float
    peak_per_s: float
    machine: Machine
    versions: dict[str, str]
    command: str
    peers: tuple[ScanRow, ...]
    filtered: tuple[ScanRow, ...]
    sizes: tuple[ScanRow, ...]

    written_by: ClassVar[str] = "fuserank.bench.scan"


@dataclass(frozen=True)
class _Catalogue:
    """Item states, their codes, and the queries for them, of one piece of work."""

    work: str
    items: States
    codes: Codes
    weights: FloatArray | None
    draw: Callable[[int], States]

    def scorers(self, threads: int) -> dict[str, Any]:
        """Return the scorers of this package by name."""
        given: dict[str, Any] = {"threads": threads}
        if self.weights is not None:
            given |= {"weights": self.weights, "activation": "relu"}
        return {
            OURS: QuantizedScorer(self.items, self.codes, **given),
            OURS_FLOAT: FusedScorer(self.items, **given),
        }


def measure_scan(
    *, n_items: int, sizes: Sequence[int], k: int, threads: int, command: str
) -> ScanReport:
    """Measure the scan of synthetic catalogues: normal numbers, `WIDTH` of them a state.

    Every system's scores are compared with ours before it is timed. Systems take turns, so that a
    busy moment hits all; a turn is a rest, some passes that are not timed, and five that are.

    Args:
        n_items: items of the catalogue where peers are measured.
        sizes: items of the catalogues where only our two scans are.
        k: items wanted.
        threads: of every system.
        command: what the report says to run to measure again.

    Raises:
        DataError: a system found other scores.
    """
    machine = this_machine()
    made = _perceptron_parts()
    catalogues = [_dot(n_items), _perceptron(n_items, made)]
    peers: list[ScanRow] = []
    filtered: list[ScanRow] = []
    for catalogue in catalogues:
        scorers = catalogue.scorers(threads)
        every = Eligibility(n_items).words([(_NO_ROWS, None)])
        mine = [ours(name, scorer, every) for name, scorer in scorers.items()]
        for queries in (1, BATCH):
            with console.progress(f"{catalogue.work}, {queries}", 1) as advance:
                searches = mine + _peers(catalogue, made, queries, threads)
                peers += _time(catalogue, searches, queries, k)
                advance(1)
        for share in (1.0, 0.1, 0.0001):
            chosen = np.random.default_rng(1).permutation(n_items)[: round(n_items * share)]
            words = Eligibility(n_items).words([(_NO_ROWS, chosen)])
            filtered += _time(catalogue, [ours(OURS, scorers[OURS], words)], 1, k, share)
        for scorer in scorers.values():
            scorer.close()
    codes = catalogues[0].codes
    coded: dict[str, npt.NDArray[Any]] = {
        "codes": codes.blocks,
        "constants": catalogues[0].items["item_constant"],
    }
    floors = [
        statistics.median(read_floor_ms(read, threads=threads))
        for read in (dict[str, npt.NDArray[Any]](catalogues[0].items), coded)
    ]
    peak = byte_products_per_s(threads)
    catalogues.clear()
    rows: list[ScanRow] = []
    for size in sizes:
        for catalogue in (_dot(size), _perceptron(size, made)):
            scorers = catalogue.scorers(threads)
            words = Eligibility(size).words([(_NO_ROWS, None)])
            mine = [ours(name, scorer, words) for name, scorer in scorers.items()]
            for queries in (1, BATCH):
                rows += _time(catalogue, mine, queries, k)
            for scorer in scorers.values():
                scorer.close()
    return ScanReport(
        width=WIDTH,
        k=k,
        n_items=n_items,
        threads=threads,
        read_states_ms=floors[0],
        read_codes_ms=floors[1],
        peak_per_s=peak,
        machine=machine,
        versions=installed_versions(),
        command=command,
        peers=tuple(peers),
        filtered=tuple(filtered),
        sizes=tuple(rows),
    )


def _dot(n_items: int) -> _Catalogue:
    """Random vectors without constants, which the peers do not have."""
    rng = np.random.default_rng(0)
    items = {
        "item_state": rng.standard_normal((n_items, WIDTH), dtype=np.float32),
        "item_constant": np.zeros(n_items, dtype=np.float32),
    }

    def draw(queries: int) -> States:
        vectors = np.random.default_rng(2).standard_normal((queries, WIDTH), dtype=np.float32)
        return {"user_state": vectors, "user_constant": np.zeros(queries, dtype=np.float32)}

    codes = quantize(items["item_state"], items["item_constant"])
    return _Catalogue(DOT, items, codes, None, draw)


def _perceptron_parts() -> Factorised:
    full = perceptron(WIDTH, WIDTH, 0)
    return factorise(full, sides_by_name([USER, ITEM]))


def _perceptron(n_items: int, made: Factorised) -> _Catalogue:
    """A factorised perceptron's states of random vectors."""
    vectors = SyntheticItems(n_items=n_items, width=WIDTH).all()
    sides = [
        ort.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
        for part in (made.user, made.item)
    ]

    def run(session: Any, inputs: States) -> States:
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    def draw(queries: int) -> States:
        drawn = np.random.default_rng(3).standard_normal((queries, WIDTH), dtype=np.float32)
        return run(sides[0], {USER: drawn}) | {"vector": drawn}

    states = run(sides[1], vectors)
    items = {name: states[name] for name in ("item_state", "item_constant")}
    codes = quantize(items["item_state"], items["item_constant"], made.weights)
    return _Catalogue(PERCEPTRON, items, codes, made.weights, draw)


def _peers(catalogue: _Catalogue, made: Factorised, queries: int, threads: int) -> list[Search]:
    items = catalogue.items["item_state"]
    if catalogue.work == DOT:
        return [faiss_flat(items, threads), onnx_product(items, threads), numpy_product(items)]
    found = [joint_graph(made.joint, catalogue.items, threads, _TILE)]
    if queries == 1:  # in one run, the intermediate values of 32 users would be 8 GB
        vectors = SyntheticItems(n_items=len(items), width=WIDTH).all()[ITEM]
        full = perceptron(WIDTH, WIDTH, 0)
        found += [
            joint_graph(made.joint, catalogue.items, threads, None),
            full_graph(full, vectors, threads, _TILE),
            full_graph(full, vectors, threads, None),
        ]
    return found


def _time(
    catalogue: _Catalogue, searches: Sequence[Search], queries: int, k: int, eligible: float = 1.0
) -> list[ScanRow]:
    users = catalogue.draw(queries)
    n_items = len(catalogue.items["item_state"])
    expected = searches[0].scores(users, k)
    timings: dict[str, list[float]] = {}
    for round_ in range(_ROUNDS):
        for search in searches:
            mine = timings.setdefault(search.name, [])
            if round_ == 0:  # not timed: this is where pages are touched and memory is taken
                scores = search.scores(users, k)
                if not np.allclose(scores, expected, rtol=1e-4, atol=1e-3):
                    raise DataError(f"{search.name}: found other scores than {searches[0].name}")
            slow = bool(mine) and statistics.median(mine) > _SLOW_S * 1e3
            if slow and len(mine) >= _SLOW_ROUNDS:
                continue
            time.sleep(_REST_S)
            awake = time.perf_counter()
            while not slow and time.perf_counter() - awake < _WARM_S:
                search.scores(users, k)
            passes = []
            for _ in range(1 if slow else _PASSES):
                started = time.perf_counter()
                search.scores(users, k)
                passes.append((time.perf_counter() - started) * 1e3)
            mine.append(statistics.median(passes))
    own = timings[searches[0].name]
    return [
        ScanRow(
            work=catalogue.work,
            n_items=n_items,
            eligible=eligible,
            queries=queries,
            system=name,
            median_ms=statistics.median(mine),
            times_ours=statistics.median(
                theirs / own_ms for theirs, own_ms in zip(mine, own, strict=False)
            ),
        )
        for name, mine in timings.items()
    ]


def main(
    out: Path,
    *,
    n_items: int = 1_000_000,
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000, 4_000_000),
    k: int = 100,
    threads: int = 0,
) -> None:
    """Measure the scan.

    Args:
        out: File to write the report to.
        n_items: Items of the catalogue where peers are measured.
        sizes: Items of the catalogues where only the scan is.
        k: Items wanted.
        threads: Threads of every system; 0 takes one for each core.
    """
    report = measure_scan(
        n_items=n_items,
        sizes=sizes,
        k=k,
        threads=threads or cores(),
        command=shlex.join(["python", "-m", "fuserank.bench.scan", *sys.argv[1:]]),
    )
    report.save(out)
    for row in (*report.peers, *report.filtered, *report.sizes):
        console.out.print(
            f"{row.work}, {row.n_items:,} items, {row.eligible:.2%} eligible, {row.queries} "
            f"queries: {row.system} {row.median_ms:.2f} ms, {row.times_ours:.1f} times ours"
        )


if __name__ == "__main__":
    cyclopts.run(main)
