"""What each model has answered, as ModelStatistics tells it."""

import time
from collections import defaultdict
from dataclasses import dataclass, field

from fuserank.server.inference.models import number_of
from fuserank.server.pb import grpc_service_pb2 as pb

__all__ = ["Stages", "Statistics"]

# Bundles come and go while a server runs; the models of the last ones are kept.
_MAX_MODELS = 64


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Nanoseconds of one request: reading tensors, waiting, computing, writing tensors."""

    input_ns: int
    queue_ns: int
    infer_ns: int
    output_ns: int


@dataclass
class _Duration:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def message(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@dataclass
class _Computed:
    """The three stages that are counted for all requests, and for those of one batch size."""

    input: _Duration = field(default_factory=_Duration)
    infer: _Duration = field(default_factory=_Duration)
    output: _Duration = field(default_factory=_Duration)

    def add(self, stages: Stages) -> None:
        self.input.add(stages.input_ns)
        self.infer.add(stages.infer_ns)
        self.output.add(stages.output_ns)

    def messages(self) -> dict[str, pb.StatisticDuration]:
        return {
            "compute_input": self.input.message(),
            "compute_infer": self.infer.message(),
            "compute_output": self.output.message(),
        }


@dataclass
class _Counts:
    last_ms: int = 0
    rows: int = 0
    success: _Duration = field(default_factory=_Duration)
    fail: _Duration = field(default_factory=_Duration)
    queue: _Duration = field(default_factory=_Duration)
    computed: _Computed = field(default_factory=_Computed)
    by_batch: defaultdict[int, _Computed] = field(default_factory=lambda: defaultdict(_Computed))


class Statistics:
    """Counts by model and version. Used on one event loop."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Counts] = {}

    def succeeded(self, model: str, version: str, batch: int, stages: Stages) -> None:
        """Count a request that was answered.

        Args:
            model: its name; must be one that the server has.
            version: of the bundle.
            batch: rows of the request.
            stages: how long it took.
        """
        counts = self._of(model, version)
        counts.rows += batch
        counts.queue.add(stages.queue_ns)
        counts.computed.add(stages)
        counts.by_batch[batch].add(stages)
        counts.success.add(stages.input_ns + stages.queue_ns + stages.infer_ns + stages.output_ns)

    def failed(self, model: str, version: str, ns: int) -> None:
        """Count a request that was refused or went wrong, after so many nanoseconds."""
        self._of(model, version).fail.add(ns)

    def message(self, model: str, version: str) -> pb.ModelStatistics:
        """Return the counts of a model; zeros where nothing has been asked of it."""
        counts = self._counts.get((model, version), _Counts())
        return pb.ModelStatistics(
            name=model,
            version=number_of(version),
            last_inference=counts.last_ms,
            inference_count=counts.rows,
            execution_count=counts.success.count,
            inference_stats=pb.InferStatistics(
                success=counts.success.message(),
                fail=counts.fail.message(),
                queue=counts.queue.message(),
                **counts.computed.messages(),
            ),
            batch_stats=[
                pb.InferBatchStatistics(batch_size=size, **computed.messages())
                for size, computed in sorted(counts.by_batch.items())
            ],
        )

    def _of(self, model: str, version: str) -> _Counts:
        key = model, version
        if key not in self._counts:
            if len(self._counts) >= _MAX_MODELS:
                del self._counts[next(iter(self._counts))]  # the oldest
            self._counts[key] = _Counts()
        counts = self._counts[key]
        counts.last_ms = time.time_ns() // 1_000_000
        return counts
