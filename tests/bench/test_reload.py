import asyncio
from types import SimpleNamespace

import pytest

from fuserank.bench import reload
from fuserank.bench.reload import ReloadConfig, ReloadReport
from fuserank.engine.results import Timings
from fuserank.errors import ConfigError, ServerError


class FakeServer:
    """Answers at once, and fails what comes between a load and its promotion if told to."""

    name = "fake"

    def __init__(self, breaks=False):
        self.breaks, self.broken = breaks, False
        self.done = []

    async def recommend(self, request, k):
        if self.broken:
            raise ServerError("gone")
        return SimpleNamespace(timings=Timings())

    def load(self, name):
        self.done.append(("load", name))
        self.broken = self.breaks
        return SimpleNamespace(info=SimpleNamespace(version=f"version of {name}"))

    def promote(self, version):
        self.done.append(("promote", version))


def measure(server, **options):
    config = ReloadConfig(**{"seconds": 0.2, "every_s": 0.06, "rate": 400.0, **options})
    return asyncio.run(reload._measure(server, server, [{"user_id": "1"}], config))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reload, "_WARM_SECONDS", 0.01)


def test_bundles_take_turns_and_requests_go_on():
    server = FakeServer()
    measured = measure(server)
    order = ["two", "three", "one", "two"]
    assert server.done == [
        step for name in order for step in (("load", name), ("promote", f"version of {name}"))
    ]
    assert len(measured.reloads_ms) == 4
    assert measured.rate == 400.0
    assert measured.steady.failed == measured.reloading.failed == 0
    # 80 arrivals are expected of each; the bounds are six standard deviations away.
    assert 26 <= len(measured.steady.samples) <= 134
    assert 26 <= len(measured.reloading.samples) <= 134


def test_calls_that_fail_are_counted():
    measured = measure(FakeServer(breaks=True))
    assert measured.reloading.failed > 0


def test_without_a_rate_it_is_half_of_what_one_client_reaches():
    assert measure(FakeServer(), rate=0.0, seconds=0.02).rate > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_items": 0}, "n_items: found 0, expected 1 or more"),
        ({"k": 0}, "k: found 0"),
        ({"seconds": 0.0}, "seconds: found 0.0, expected more than 0"),
        ({"every_s": float("nan")}, "every_s: found nan"),
        ({"rate": -1.0}, "rate: found -1.0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        ReloadConfig(**options)


@pytest.mark.e2e
def test_a_real_server_fails_no_call(tmp_path):
    config = ReloadConfig(n_items=2_000, seconds=4.0, every_s=1.0, rate=50.0)
    report = reload.measure_reload(config, command="test")
    assert (report.steady.failed, report.reloading.failed) == (0, 0)
    assert report.reloads == 4
    report.save(tmp_path / "reload.json")
    assert ReloadReport.load(tmp_path / "reload.json") == report
