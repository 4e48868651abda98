import dataclasses
import io
import json

import pytest
from rich.console import Console

from fuserank.bench.report import Machine, Report, Result, installed_versions, this_machine
from fuserank.bench.stats import Stages, Summary
from fuserank.errors import DataError

SUMMARY = Summary(
    count=1234,
    failed=2,
    throughput_per_s=222.5,
    mean_ms=4.75,
    p50_ms=4.5,
    p90_ms=5.25,
    p99_ms=7.0,
    p99_9_ms=9.0,
    stages=Stages(tokenize_ms=0.0, encode_ms=0.5, user_graph_ms=0.125, scan_ms=4.0),
)


def result(**changes):
    given = {
        "system": "in-process",
        "scenario": "single stream",
        "offered_per_s": None,
        "summary": SUMMARY,
        "naive_ratio": 62.0,
        "floor_ratio": 1.25,
    }
    return Result(**{**given, **changes})


REPORT = Report(
    workload="synthetic-1000000",
    n_items=1_000_000,
    scorer="additive",
    device="cpu",
    k=10,
    threads=2,
    state_bytes=260_000_000,
    floor_ms=3.6,
    machine=Machine(
        cpu="A CPU", cores=2, memory_gib=23.5, system="Linux x86_64", python="3.11.7", load=0.5
    ),
    versions={"numpy": "2.4.6"},
    command="fuserank bench --synthetic-items 1000000",
    results=(result(), result(scenario="Poisson", offered_per_s=111.0, naive_ratio=None)),
)


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "report.json"
    REPORT.save(path)
    assert Report.load(path) == REPORT
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]
    data = json.loads(path.read_text())
    assert data["results"][0]["summary"]["p50_ms"] == 4.5
    assert data["results"][1]["naive_ratio"] is None


@pytest.mark.parametrize("content", ["", "[]", '{"workload": "x"}', "not json"])
def test_a_file_that_is_no_report_is_named(tmp_path, content):
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"odd\.json: expected a report"):
        Report.load(path)
    with pytest.raises(DataError, match="gone"):
        Report.load(tmp_path / "gone.json")


def test_table_shows_figures_and_ratios():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(REPORT.table())
    text = console.export_text()
    shown = ("1,000,000 items", "1,234 (2 failed)", "4.50", "62.0", "1.25", "260.0 MB", "A CPU")
    for part in shown:
        assert part in text


def test_machine_and_versions_are_those_of_this_process():
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.cpu
    assert machine.memory_gib > 0.1
    versions = installed_versions()
    assert {"fuserank", "numpy", "grpcio"} <= set(versions)
    assert any(name.startswith("onnxruntime") for name in versions)


def test_reports_are_values():
    assert dataclasses.replace(REPORT, k=11) != REPORT
