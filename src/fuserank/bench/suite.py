"""The suite: every system through both scenarios, beside the floor, in one run."""

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from fuserank.bench.config import BenchConfig
from fuserank.bench.limits import read_floor_ms
from fuserank.bench.report import Report, Result, installed_versions, this_machine
from fuserank.bench.scenarios import poisson, poisson_arrivals, single_stream
from fuserank.bench.stats import Summary, summarise
from fuserank.bench.systems import NAIVE, TILE, Grpc, InProcess, NaiveFullGraph, System
from fuserank.bench.workloads import Workload
from fuserank.bundle import Bundle, layout
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.engine import load
from fuserank.engine.providers import cores, resolve_device
from fuserank.server.process import serve_in_background

__all__ = ["run_bench"]

_WARM_REQUESTS = 3
_SINGLE_STREAM, _POISSON = "single stream", "Poisson"

Step = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    system: str
    scenario: str
    offered_per_s: float | None
    summary: Summary


def run_bench(
    workload: Workload, config: BenchConfig, *, command: str, on_progress: Step | None = None
) -> Report:
    """Measure a workload.

    The floor is measured before and after the engine, on the same threads: a busy machine slows
    both, and only figures of one run compare.

    Args:
        workload: bundle and requests.
        config: how it is measured.
        command: what the report says to run to measure again.
        on_progress: called with 1 after each system.

    Raises:
        BundleError: the bundle cannot be used.
        ServerError: its server does not start.
        DataError: a system answered nothing.
    """
    machine = this_machine()
    step = on_progress or (lambda _: None)
    threads = config.threads or cores()
    device = resolve_device(config.device)
    bundle = Bundle.open(workload.bundle)
    states = _read_by_a_scan(bundle)
    with load(workload.bundle, device, threads=threads) as engine:
        floor = read_floor_ms(states, threads=threads)
        measured = asyncio.run(_measure(InProcess(engine), workload, config))
        floor += read_floor_ms(states, threads=threads)
        step(1)
    if config.grpc:
        with serve_in_background(workload.bundle, device=device.value) as address:
            measured += asyncio.run(_measure_server(address, workload, config))
        step(1)
    if workload.item_inputs is not None:
        for tile in (None, TILE):
            naive = NaiveFullGraph(bundle, workload.item_inputs, device, threads=threads, tile=tile)
            measured += asyncio.run(_measure(naive, workload, config))
            step(1)
    floor_ms = statistics.median(floor)
    return Report(
        workload=workload.name,
        n_items=bundle.manifest.n_items,
        scorer=bundle.manifest.scorer.kind.value,
        device=device.value,
        k=config.k,
        threads=threads,
        state_bytes=sum(state.nbytes for state in states.values()),
        floor_ms=floor_ms,
        machine=machine,
        versions=installed_versions(),
        command=command,
        results=tuple(_compare(measured, floor_ms)),
    )


def _read_by_a_scan(bundle: Bundle) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that a scan of the whole catalogue reads."""
    states = Catalogue(bundle).states
    if bundle.manifest.codes is None:
        return states
    codes = bundle.array(layout.item_codes("blocks"))
    return {"codes": codes, "item_constant": states["item_constant"]}


async def _measure_server(address: str, workload: Workload, config: BenchConfig) -> list[_Measured]:
    async with Grpc(address) as system:
        return await _measure(system, workload, config)


async def _measure(system: System, workload: Workload, config: BenchConfig) -> list[_Measured]:
    """Take a system through both scenarios, after a few requests that are not counted."""
    requests, k, seconds = workload.requests[: config.requests], config.k, config.seconds
    await single_stream(system, requests[:_WARM_REQUESTS], k, seconds=seconds)
    closed = summarise(await single_stream(system, requests, k, seconds=seconds))
    rate = config.rate or closed.throughput_per_s / 2
    arrivals = poisson_arrivals(rate, config.requests, seconds, config.seed)
    opened = summarise(await poisson(system, requests, k, arrivals=arrivals))
    return [
        _Measured(system=system.name, scenario=_SINGLE_STREAM, offered_per_s=None, summary=closed),
        _Measured(system=system.name, scenario=_POISSON, offered_per_s=rate, summary=opened),
    ]


def _compare(measured: list[_Measured], floor_ms: float) -> list[Result]:
    """Hold every median against the floor, and against the naive way's under the same demand.

    Two systems in an open loop compare at one rate only, and each has its own unless one is set.
    """
    naive_ms = {
        (m.scenario, m.offered_per_s): m.summary.p50_ms for m in measured if m.system == NAIVE
    }
    results = []
    for m in measured:
        theirs = naive_ms.get((m.scenario, m.offered_per_s))
        results.append(
            Result(
                system=m.system,
                scenario=m.scenario,
                offered_per_s=m.offered_per_s,
                summary=m.summary,
                naive_ratio=None if theirs is None else theirs / m.summary.p50_ms,
                floor_ratio=m.summary.p50_ms / floor_ms,
            )
        )
    return results
