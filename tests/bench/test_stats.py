from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.bench.stats import Run, Sample, percentile, summarise
from fuserank.engine.results import Timings
from fuserank.errors import DataError

latencies = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=300)


@given(latencies, st.sampled_from([500, 900, 990, 999]))
def test_percentile_is_numpys_inverted_cdf(values, per_mille):
    ordered = sorted(values)
    # The level a hair lower: numpy multiplies binary fractions, which may pass the exact rank.
    level = np.nextafter(per_mille / 1000, 0.0)
    assert percentile(ordered, per_mille) == np.quantile(ordered, level, method="inverted_cdf")


@given(latencies, st.integers(1, 1000))
def test_percentile_is_the_least_value_that_covers_the_share(values, per_mille):
    ordered = sorted(values)
    found = percentile(ordered, per_mille)
    share = Fraction(per_mille, 1000)
    assert Fraction(sum(v <= found for v in values), len(values)) >= share
    assert Fraction(sum(v < found for v in values), len(values)) < share


@given(latencies, st.floats(0.001, 1e3), st.integers(0, 5))
def test_summary_agrees_with_numpy(values, seconds, failed):
    samples = [Sample(latency_ms=v, timings=Timings(scan_ms=v / 2)) for v in values]
    found = summarise(Run(samples=samples, failed=failed, seconds=seconds))
    assert found.count == len(values)
    assert found.failed == failed
    assert found.mean_ms == pytest.approx(np.mean(values))
    assert found.throughput_per_s == pytest.approx(len(values) / seconds)
    assert found.stages.scan_ms == pytest.approx(np.median(values) / 2)
    assert found.stages.encode_ms == 0.0
    assert found.p50_ms <= found.p90_ms <= found.p99_ms <= found.p99_9_ms == max(values)


def test_order_of_samples_changes_nothing():
    samples = [Sample(latency_ms=v, timings=Timings()) for v in (9.0, 1.0, 5.0, 3.0)]
    one = summarise(Run(samples=samples, failed=0, seconds=1.0))
    other = summarise(Run(samples=samples[::-1], failed=0, seconds=1.0))
    assert one == other


def test_nothing_answered_is_an_error():
    with pytest.raises(DataError, match=r"no answered request \(3 failed\)"):
        summarise(Run(samples=[], failed=3, seconds=1.0))
