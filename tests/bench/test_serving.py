import pytest

from fuserank.bench.serving import ServingConfig, ServingReport, Target, _targets, measure_serving
from fuserank.bench.serving_client import Mode, Seen
from fuserank.errors import ConfigError


def seen(**figures):
    nothing = dict.fromkeys(Seen.__dataclass_fields__, 0.0) | {"users": 1}
    return Seen(**nothing | figures)


def test_everything_is_measured(tmp_path):
    config = ServingConfig(
        items=2_000,
        small_items=50,
        width=8,
        at_once=8,
        seconds=0.5,
        max_requests=60,
        warm_requests=4,
        rounds=2,
    )
    report = measure_serving(config, command="it")
    assert report.seen.keys() == {
        "unary calls, saturated",
        "streams, saturated",
        "batches, saturated",
        "one at a time, idle",
        "no-op, idle",
        "no-op after a call, idle",
        "unary calls, small",
        "streams, small",
    }
    for name, found in report.seen.items():
        assert found.users > 0, name
        assert found.p50_ms > found.reported_p50_ms, name
        assert (found.reported_p50_ms == 0) == ("no-op" in name), name
    assert report.seen["streams, small"].users <= 2 * config.max_requests
    assert report.engine_users_per_s > 0
    assert report.engine_p50_ms > 0
    assert len(report.targets) == 7
    report.save(tmp_path / "serving.json")
    assert ServingReport.load(tmp_path / "serving.json") == report


def test_ratios_are_taken_within_a_round():
    """The second round is one of a machine half as fast: its ratios are those of the first."""
    found = {
        "unary calls, saturated": [seen(users=90, seconds=1.0), seen(users=45, seconds=1.0)],
        "streams, saturated": [seen(users=80, seconds=1.0), seen(users=40, seconds=1.0)],
        "batches, saturated": [seen(users=200, seconds=2.0), seen(users=100, seconds=2.0)],
        "one at a time, idle": [
            seen(p50_ms=5.0, overhead_p50_ms=0.75),
            seen(p50_ms=10.0, overhead_p50_ms=1.5),
        ],
        "no-op, idle": [seen(p50_ms=0.5), seen(p50_ms=1.0)],
        "no-op after a call, idle": [seen(p50_ms=0.75), seen(p50_ms=1.5)],
        "unary calls, small": [seen(server_cpu_ms=0.4), seen(server_cpu_ms=0.8)],
        "streams, small": [seen(server_cpu_ms=0.2), seen(server_cpu_ms=0.4)],
    }
    saturated = (Mode.UNARY, Mode.STREAM, Mode.BATCH)
    targets = _targets(found, {mode: [100.0, 50.0] for mode in saturated}, [4.5, 9.0])
    ratios = [target.found for target in targets]
    assert ratios == pytest.approx([0.9, 0.8, 1.0, 1.0, 1.5, 1.0, 0.5])
    assert [target.met for target in targets] == [True, False, True, True, False, True, True]


def test_a_bound_holds_from_its_own_side():
    assert Target(name="", found=1.0, bound=1.0, at_least=True).met
    assert Target(name="", found=1.0, bound=1.0, at_least=False).met
    assert not Target(name="", found=0.9, bound=1.0, at_least=True).met
    assert not Target(name="", found=1.1, bound=1.0, at_least=False).met


@pytest.mark.parametrize(("name", "value"), [("rounds", 0), ("seconds", 0.0), ("k", 201)])
def test_options_are_checked(name, value):
    with pytest.raises(ConfigError, match=name):
        ServingConfig(**{name: value})
