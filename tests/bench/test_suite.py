import json

import pytest

from fuserank.bench import suite
from fuserank.bench.cli import app, bench
from fuserank.bench.config import BenchConfig
from fuserank.bench.report import Report
from fuserank.bench.suite import run_bench
from fuserank.bench.synthetic import SyntheticItems, synthetic_workload
from fuserank.bench.workloads import Workload, requests_of
from fuserank.bundle import Bundle
from fuserank.errors import ConfigError

QUICK = BenchConfig(k=5, requests=8, seconds=30.0, rate=10_000.0, threads=1, grpc=False)


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    out = tmp_path_factory.mktemp("suite") / "bundle"
    return synthetic_workload(out, SyntheticItems(n_items=2_000), 8)


def test_all_systems_run_through_both_scenarios(workload):
    steps = []
    report = run_bench(workload, QUICK, command="fuserank bench", on_progress=steps.append)
    assert [(row.system, row.scenario) for row in report.results] == [
        ("in-process", "single stream"),
        ("in-process", "Poisson"),
        ("naive", "single stream"),
        ("naive", "Poisson"),
        ("naive tiled", "single stream"),
        ("naive tiled", "Poisson"),
    ]
    assert steps == [1, 1, 1]
    assert (report.n_items, report.k, report.threads) == (2_000, 5, 1)
    assert report.state_bytes == 2_000 * (64 + 1) * 4
    for row in report.results:
        assert row.summary.count == 8
        assert row.summary.failed == 0
        assert row.floor_ratio == pytest.approx(row.summary.p50_ms / report.floor_ms)
    naive_ms = {row.scenario: row.summary.p50_ms for row in report.results[2:4]}
    for row in report.results:  # one rate was set, so that open loops compare as well
        assert row.naive_ratio == pytest.approx(naive_ms[row.scenario] / row.summary.p50_ms)


def test_open_loops_at_rates_of_their_own_do_not_compare(workload):
    config = BenchConfig(requests=8, threads=1, grpc=False)
    report = run_bench(workload, config, command="")
    ratios = {(row.system, row.scenario): row.naive_ratio for row in report.results}
    assert ratios["in-process", "Poisson"] is None
    assert ratios["in-process", "single stream"] is not None
    offered = report.results[1].offered_per_s
    assert offered == pytest.approx(report.results[0].summary.throughput_per_s / 2)


def test_without_item_inputs_naive_scoring_is_left_out(workload):
    bare = Workload(name="bare", bundle=workload.bundle, requests=workload.requests)
    report = run_bench(bare, QUICK, command="")
    assert {row.system for row in report.results} == {"in-process"}
    assert all(row.naive_ratio is None for row in report.results)


@pytest.mark.e2e
def test_server_is_measured(workload):
    config = BenchConfig(requests=8, threads=1)
    report = run_bench(workload, config, command="")
    rows = [row for row in report.results if row.system == "gRPC"]
    assert [row.summary.count for row in rows] == [8, 8]


def test_command_prints_only_json_and_writes_the_report(tmp_path, capsys):
    out = tmp_path / "report.json"
    arguments = "--synthetic-items 500 --requests 3 --no-grpc --threads 1 --json --out"
    app([*arguments.split(), str(out)], result_action="return_value")
    printed = json.loads(capsys.readouterr().out)
    assert printed["workload"] == "synthetic-500"
    assert printed == json.loads(out.read_text())
    assert Report.load(out).n_items == 500


@pytest.mark.parametrize(("items", "found"), [(0, "neither"), (10, "both")])
def test_command_wants_one_thing_to_measure(tmp_path, items, found):
    with pytest.raises(ConfigError, match=f"found {found}"):
        bench(tmp_path if items else None, synthetic_items=items)


def test_a_bundle_without_users_has_nobody_to_ask_about(workload):
    with pytest.raises(ConfigError, match="no stored users"):
        requests_of(Bundle.open(workload.bundle), 5)


def test_a_workload_without_requests_is_refused(workload):
    with pytest.raises(ConfigError, match="'empty': found no requests"):
        Workload(name="empty", bundle=workload.bundle, requests=[])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: found 0, expected 1 or more"),
        ({"requests": 0}, "requests: found 0"),
        ({"threads": -1}, "threads: found -1"),
        ({"seed": -1}, "seed: found -1"),
        ({"seconds": 0.0}, "seconds: found 0.0, expected more than 0"),
        ({"seconds": float("nan")}, "seconds: found nan"),
        ({"rate": -1.0}, "rate: found -1.0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        BenchConfig(**options)


def test_floor_is_measured_on_the_threads_of_the_engine(workload, monkeypatch):
    asked = []

    def fake_floor(states, *, threads):
        asked.append((sorted(states), threads))
        return [2.0, 4.0]

    monkeypatch.setattr(suite, "read_floor_ms", fake_floor)
    report = run_bench(workload, QUICK, command="")
    assert report.floor_ms == 3.0
    assert asked == [(["item_constant", "item_state"], 1)] * 2
