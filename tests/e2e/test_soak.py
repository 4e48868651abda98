"""Two minutes of mixed calls; FUSERANK_SOAK_S sets another time, such as 20 for a quick look."""

import os

import pytest

from fuserank.bench.soak import SoakConfig, soak
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_memory_stays_flat_under_mixed_calls(tmp_path):
    seconds = float(os.environ.get("FUSERANK_SOAK_S", "120"))
    config = SoakConfig(seconds=seconds, warm_s=seconds / 3, sample_s=seconds / 120)
    bundle = synthetic_bundle(tmp_path / "bundle", SyntheticItems(n_items=config.items, width=64))
    report = soak(bundle, config, command="pytest")
    assert report.failures == {}
    assert min(report.calls.values()) > 10
    assert report.flat, (report.growth_mib, report.growth_bytes_a_call, report.slope_mib_a_minute)
