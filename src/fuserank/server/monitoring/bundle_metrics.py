"""What Prometheus is told of loaded bundles: their roles, and how candidates compare.

As many versions have series as bundles may be loaded.
"""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.shadow import Shadow

__all__ = ["BundleCollector"]


class BundleCollector(Collector):
    """Reads bundles and comparisons at every scrape, on the event loop that they are used on."""

    def __init__(self, bundles: Bundles[Any], shadow: Shadow[Any, Any]) -> None:
        """Take what is loaded and what compares it."""
        self._bundles, self._shadow = bundles, shadow

    def describe(self) -> tuple[Metric, ...]:
        """Return the families, without values."""
        return _families()

    def collect(self) -> Iterator[Metric]:
        """Yield the values as they are now; no overlap where nothing was compared yet."""
        roles, requests, failures, overlaps = families = _families()
        for one in self._bundles.loaded():
            version = one.info.version
            roles.add_metric((version, str(one.role)), 1.0)
            found = self._shadow.comparison(one)
            if found is None:
                continue
            requests.add_metric((version,), found.request_count)
            failures.add_metric((version,), found.error_count)
            if found.rank_biased_overlap is not None:
                overlaps.add_metric((version,), found.rank_biased_overlap)
        yield from families


def _families() -> tuple[
    GaugeMetricFamily, CounterMetricFamily, CounterMetricFamily, GaugeMetricFamily
]:
    version = ("version",)
    return (
        GaugeMetricFamily(
            "fuserank_bundle_role",
            "A bundle that is loaded, and what it does; always 1.",
            labels=("version", "role"),
        ),
        CounterMetricFamily(
            "fuserank_shadow_requests",
            "Requests that a candidate answered again, or failed to.",
            labels=version,
        ),
        CounterMetricFamily(
            "fuserank_shadow_failures",
            "Requests that a candidate failed to answer again.",
            labels=version,
        ),
        GaugeMetricFamily(
            "fuserank_shadow_rank_biased_overlap",
            "Mean rank-biased overlap (p = .9) of a candidate's items and the active bundle's.",
            labels=version,
        ),
    )
