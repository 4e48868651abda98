import pytest

from fuserank.bench.overload import OverloadConfig, OverloadReport, measure_overload, recovery_s
from fuserank.errors import ConfigError


def test_recovery_is_when_the_last_bad_window_ends():
    assert recovery_s([], []) == 0.0
    assert recovery_s([0.05, 0.15], [True, True]) == 0.0
    assert recovery_s([0.05, 0.15, 0.25, 1.05], [False, True, False, True]) == 0.3


def test_a_window_may_have_one_bad_call_in_twenty():
    due = [0.01 + 0.001 * number for number in range(20)]
    assert recovery_s(due, [False] + [True] * 19) == 0.0
    assert recovery_s(due, [False] * 2 + [True] * 18) == 0.1


@pytest.mark.parametrize("options", [{"items": 0}, {"factors": ()}, {"at_once": (0,)}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        OverloadConfig(**options)


@pytest.mark.e2e
def test_it_measures_a_small_server(tmp_path):
    config = OverloadConfig(
        items=2_000,
        hidden=(8,),
        factors=(1.5,),
        seconds=0.5,
        peak_seconds=0.3,
        recovery_seconds=0.3,
        at_once=(2,),
    )
    report = measure_overload(config, command="overload")
    (level,) = report.levels
    assert report.capacity_per_s > 0
    assert level.offered_per_s > 0
    assert sum(level.statuses.values()) == round(level.offered_per_s * config.seconds)
    assert level.rss_mib >= report.rss_mib > 0
    report.save(tmp_path / "overload.json")
    assert OverloadReport.load(tmp_path / "overload.json") == report
