"""The scan alone: exact top-k of a whole catalogue, beside its peers and the floors, in one run.

The command is ``python -m fuserank.bench.scan scan.json``.
"""

import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cyclopts
import numpy as np
import numpy.typing as npt

from fuserank import console
from fuserank.bench.limits import byte_products_per_s, read_floor_ms
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.bench.scan_catalogues import (
    OURS,
    OURS_FLOAT,
    WIDTH,
    WORKS,
    ScanCatalogue,
    inner_products,
    perceptrons,
)
from fuserank.bench.scan_systems import Search, ours
from fuserank.engine.providers import cores
from fuserank.engine.scoring import Eligibility
from fuserank.errors import DataError

__all__ = ["BATCH", "OURS", "OURS_FLOAT", "WORKS", "ScanReport", "ScanRow", "measure_scan"]

BATCH = 32

_NO_ROWS = np.empty(0, dtype=np.int64)
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
        work: one of `WORKS`, or `DEEP`.
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
    catalogues = [inner_products(n_items), perceptrons(n_items, 1), perceptrons(n_items, 2)]
    peers: list[ScanRow] = []
    filtered: list[ScanRow] = []
    for catalogue in catalogues:
        scorers = catalogue.scorers(threads)
        every = Eligibility(n_items).words([(_NO_ROWS, None)])
        mine = [ours(name, scorer, every) for name, scorer in scorers.items()]
        for queries in (1, BATCH):
            with console.progress(f"{catalogue.work}, {queries}", 1) as advance:
                searches = mine + catalogue.peers(queries, threads)
                peers += _time(catalogue, searches, queries, k)
                advance(1)
        for share in (1.0, 0.1, 0.0001) if OURS in scorers else ():
            chosen = np.random.default_rng(1).permutation(n_items)[: round(n_items * share)]
            words = Eligibility(n_items).words([(_NO_ROWS, chosen)])
            filtered += _time(catalogue, [ours(OURS, scorers[OURS], words)], 1, k, share)
        for scorer in scorers.values():
            scorer.close()
    codes = catalogues[0].codes
    assert codes is not None  # inner products have them
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
        for catalogue in (inner_products(size), perceptrons(size, 1)):
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


def _time(
    catalogue: ScanCatalogue,
    searches: Sequence[Search],
    queries: int,
    k: int,
    eligible: float = 1.0,
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
