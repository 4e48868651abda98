import pytest

from fuserank.bench.soak import SoakConfig, SoakReport, soak
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle
from fuserank.errors import ConfigError, DataError

# Allowed growth is left wide: seconds say whether it works, not whether memory is flat.
SHORT = {"seconds": 3.0, "warm_s": 0.5, "sample_s": 0.1, "callers": 2, "items": 500}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    items = SyntheticItems(n_items=500, width=64)
    return synthetic_bundle(tmp_path_factory.mktemp("soak") / "bundle", items)


def test_every_kind_is_called_and_none_fails(bundle, tmp_path):
    report = soak(bundle, SoakConfig(**SHORT, max_growth_mib=1e6, processes=1), command="it")
    assert report.failures == {}
    assert len(report.calls) == 8
    assert min(report.calls.values()) > 0
    assert [s.second for s in report.samples] == sorted(s.second for s in report.samples)
    assert report.samples[-1].calls <= sum(report.calls.values())
    report.save(tmp_path / "soak.json")
    assert SoakReport.load(tmp_path / "soak.json") == report


def test_growth_beyond_what_is_allowed_is_not_flat(bundle, monkeypatch):
    held = iter(range(1_000_000))
    monkeypatch.setattr("fuserank.bench.soak._growth", lambda *_: next(held) + 20.0)
    assert not soak(bundle, SoakConfig(**SHORT, processes=1), command="it").flat


def test_calls_are_bounded(bundle):
    with pytest.raises(DataError, match="after the warm-up"):
        soak(bundle, SoakConfig(**SHORT | {"max_calls": 20}, processes=1), command="it")


@pytest.mark.parametrize(
    ("name", "value"), [("callers", 0), ("warm_s", 2000.0), ("sample_s", 0.0), ("max_calls", 0)]
)
def test_options_are_checked(name, value):
    with pytest.raises(ConfigError, match=name):
        SoakConfig(**{name: value})
