"""Figures of a run: percentiles, throughput, and where the time went."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fuserank.engine.results import Timings
from fuserank.errors import DataError

__all__ = ["Run", "Sample", "Stages", "Summary", "percentile", "summarise"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answered request.

    Attributes:
        latency_ms: from when the request was due to its answer.
        timings: what the system says of its stages.
    """

    latency_ms: float
    timings: Timings


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a scenario recorded.

    Attributes:
        samples: answered requests.
        failed: requests that raised.
        seconds: from the first request's due time to the last answer.
    """

    samples: Sequence[Sample]
    failed: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Median milliseconds of each stage, as the system reports them; 0 where it reports none."""

    tokenize_ms: float
    encode_ms: float
    user_graph_ms: float
    scan_ms: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of one run; latencies in milliseconds."""

    count: int
    failed: int
    throughput_per_s: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_9_ms: float
    stages: Stages


def percentile(ordered: Sequence[float], per_mille: int) -> float:
    """Return the nearest-rank percentile of ascending values: always one that occurred.

    Whole numbers keep the rank exact: 99.9 has no binary form.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 500)
    2.0
    """
    rank = -(-per_mille * len(ordered) // 1000)
    return ordered[max(rank, 1) - 1]


def summarise(run: Run) -> Summary:
    """Return the figures of a run.

    Raises:
        DataError: no request was answered.
    """
    if not run.samples:
        raise DataError(
            f"measurement: found no answered request ({run.failed} failed), expected 1 or more; "
            "see that the system answers at all, and allow more seconds"
        )
    ordered = sorted(sample.latency_ms for sample in run.samples)

    def median(stage: str) -> float:
        return float(statistics.median(getattr(s.timings, stage) for s in run.samples))

    return Summary(
        count=len(ordered),
        failed=run.failed,
        throughput_per_s=len(ordered) / run.seconds,
        mean_ms=statistics.fmean(ordered),
        p50_ms=percentile(ordered, 500),
        p90_ms=percentile(ordered, 900),
        p99_ms=percentile(ordered, 990),
        p99_9_ms=percentile(ordered, 999),
        stages=Stages(**{stage: median(stage) for stage in Stages.__dataclass_fields__}),
    )
