"""What the server measures of itself, for Prometheus.

Every label has a bounded set of values: what is not known by name is counted as "other", so that
no caller can make series. Times are in seconds.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine
    from fuserank.engine.results import Timings

__all__ = ["CONTENT_TYPE", "OTHER", "REJECTIONS", "STAGES", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

OTHER = "other"
STAGES = ("tokenize", "encode", "user_graph", "scan", "queue", "total")
REJECTIONS = ("calls", "streams", "queue", "deadline", "cancelled", "draining", "unauthenticated")

# From 50 µs, which a scan of a small catalogue takes, to what nobody waits for.
_SECONDS = (
    *(5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters, histograms and gauges that everybody reports to; thread-safe.

    Attributes:
        started: calls by service and method, as they begin.
        handled: calls by service, method and status, as they end.
        handling_seconds: of a call, or a whole stream, by service and method.
        engine: returns what serves now, as `read_engine` was told.
    """

    def __init__(self) -> None:
        """Make a registry of our own, so that two servers in one process do not mix."""
        self._registry = registry = CollectorRegistry()
        self._on_loop = CollectorRegistry()
        method = ("grpc_service", "grpc_method")
        self.started = Counter(
            "grpc_server_started", "Calls that began.", method, registry=registry
        )
        self.handled = Counter(
            "grpc_server_handled",
            "Calls that ended, whatever their status.",
            (*method, "grpc_code"),
            registry=registry,
        )
        self.handling_seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from a call's arrival at its handler to its end.",
            method,
            buckets=_SECONDS,
            registry=registry,
        )
        self._measure_requests(registry)
        self.engine: Callable[[], Engine | None] = lambda: None
        registry.register(_EngineCollector(self))
        ProcessCollector(registry=registry)

    def _measure_requests(self, registry: CollectorRegistry) -> None:
        stages = Histogram(
            "fuserank_stage_seconds",
            "Time that a request spent in a stage.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        # Every series is there from the start: a rate over one that appears later misses its rise.
        self._stages = {name: stages.labels(name) for name in (*STAGES, OTHER)}
        self._batch_size = Histogram(
            "fuserank_batch_size",
            "Users that shared one pass over the catalogue.",
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        self._queue_depth = Gauge(
            "fuserank_queue_depth", "Requests that wait for the engine.", registry=registry
        )
        rejections = Counter(
            "fuserank_rejections",
            "Requests that were turned away or dropped before they were computed.",
            ("reason",),
            registry=registry,
        )
        self._rejections = {name: rejections.labels(name) for name in (*REJECTIONS, OTHER)}

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Record the time of one stage; one of another name than `STAGES` is "other"."""
        self._stages.get(stage, self._stages[OTHER]).observe(seconds)

    def observe_timings(self, timings: "Timings", *, queue_seconds: float = 0.0) -> None:
        """Record every stage that ran of one request."""
        found = {
            "tokenize": timings.tokenize_ms,
            "encode": timings.encode_ms,
            "user_graph": timings.user_graph_ms,
            "scan": timings.scan_ms,
            "queue": queue_seconds * 1e3,
            "total": timings.total_ms,
        }
        for stage, elapsed_ms in found.items():
            if elapsed_ms:
                self.observe_stage(stage, elapsed_ms / 1e3)

    def observe_batch(self, size: int) -> None:
        """Record how many users one pass answered."""
        self._batch_size.observe(size)

    def set_queue_depth(self, n: int) -> None:
        """Say how many requests wait now."""
        self._queue_depth.set(n)

    def count_rejection(self, reason: str) -> None:
        """Count a request that is not computed; a reason that is not in `REJECTIONS` is "other"."""
        self._rejections.get(reason, self._rejections[OTHER]).inc()

    def read_engine(self, engine: Callable[[], "Engine | None"]) -> None:
        """Take bundle, items and text counters from the engine that serves when somebody asks.

        Args:
            engine: returns it, or None while none is loaded.
        """
        self.engine = engine

    def add(self, collector: Collector) -> None:
        """Show what a collector reads of objects that belong to the event loop; it is quick."""
        self._on_loop.register(collector)

    def render_on_loop(self) -> bytes:
        """Return what the collectors of `add` read, for `render` to follow."""
        return generate_latest(self._on_loop)

    def render(self) -> bytes:
        """Return all else in Prometheus's text format, of type `CONTENT_TYPE`; on any thread."""
        return generate_latest(self._registry)

    def names(self) -> frozenset[str]:
        """Return the names of all series, as a query writes them, whether they have values yet."""
        suffixes = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_sum", "_count"),
            "info": ("_info",),
        }
        families = [*self._registry.collect(), *self._on_loop.collect(), *_engine_families()]
        return frozenset(
            family.name + suffix
            for family in families
            for suffix in suffixes.get(family.type, ("",))
        )


def _engine_families() -> tuple[Metric, ...]:
    """Return what an engine is asked for, without values."""
    return (
        GaugeMetricFamily(
            "fuserank_bundle_info",
            "The bundle that serves; always 1.",
            labels=("name", "version", "model", "scorer", "precision", "device"),
        ),
        GaugeMetricFamily("fuserank_items", "Items that can be recommended."),
        CounterMetricFamily("fuserank_text_cache_hits", "Texts whose embedding was kept."),
        CounterMetricFamily("fuserank_text_cache_misses", "Texts that had to be embedded."),
        GaugeMetricFamily("fuserank_text_cache_entries", "Embeddings that are kept."),
        CounterMetricFamily("fuserank_text_tokens", "Tokens that ran, padding included."),
        CounterMetricFamily("fuserank_text_padding_tokens", "Tokens that were padding."),
        GaugeMetricFamily(
            "fuserank_text_padding_ratio",
            "Share of the tokens that were padding, since the bundle was loaded.",
        ),
    )


class _EngineCollector(Collector):
    """Reads an engine's own counters at every scrape, which costs its requests nothing."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> tuple[Metric, ...]:
        return _engine_families()

    def collect(self) -> Iterator[Metric]:
        engine = self._metrics.engine()
        if engine is None:
            return
        info, text = engine.info, engine.text_stats()
        bundle, items, *texts = _engine_families()
        bundle.add_sample(
            bundle.name,
            {
                "name": info.name,
                "version": info.version,
                "model": info.model,
                "scorer": info.scorer,
                "precision": info.precision or "",
                "device": info.device,
            },
            1.0,
        )
        items.add_sample(items.name, {}, float(info.n_items))
        yield bundle
        yield items
        if text is None:
            return
        cache, tokens = text
        values = (
            *(cache.hits, cache.misses, cache.size),
            *(tokens.padded, tokens.padded - tokens.real, tokens.padding_waste),
        )
        for family, value in zip(texts, values, strict=True):
            suffix = "_total" if family.type == "counter" else ""
            family.add_sample(family.name + suffix, {}, float(value))
            yield family
