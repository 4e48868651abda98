from pathlib import Path

import numpy as np
import pytest

import fuserank
from fuserank.bench.peers.client import Observed, users
from fuserank.bench.peers.environments import PEERS, install
from fuserank.bench.peers.graph import ranking_graph
from fuserank.bench.peers.ranking import Ranking
from fuserank.bench.peers_serving import PeersConfig, PeersReport, _check, measure_peers
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle
from fuserank.errors import ConfigError, DataError

SMALL = {"items": 300, "width": 8, "k": 5, "rounds": 1, "calls": 30, "warm_calls": 5}


def test_the_graph_ranks_as_the_engine_does(tmp_path):
    items = SyntheticItems(n_items=500, width=8, seed=3)
    path = tmp_path / "graph.onnx"
    path.write_bytes(ranking_graph(items, 20).SerializeToString())
    scores, rows = Ranking(str(path))(users(8))
    with fuserank.load(synthetic_bundle(tmp_path / "bundle", items), "cpu") as engine:
        expected = engine.recommend_many([{"vector": v} for v in users(8).tolist()], 20)
    for one, found_scores, found_rows in zip(expected, scores, rows, strict=True):
        assert [f"item-{row}" for row in found_rows] == list(one.item_ids)
        np.testing.assert_allclose(found_scores, one.scores, rtol=1e-5, atol=1e-5)


def test_ours_are_measured_and_peers_that_are_not_there_are_missing(tmp_path):
    config = PeersConfig(**SMALL, callers=(1, 3), environments=tmp_path / "none")
    report = measure_peers(config, command="it")
    assert report.missing.keys() == {peer.name for peer in PEERS}
    assert all("not installed" in why for why in report.missing.values())
    assert [(row.system, row.callers) for row in report.rows] == [
        ("fuserank", 1),
        ("fuserank-graph", 1),
        ("fuserank", 3),
        ("fuserank-graph", 3),
    ]
    for row in report.rows:
        assert 0 < row.p50_ms <= row.p99_ms
        assert row.calls_per_s > 0
        assert (row.times_ours == 1.0) == (row.system == "fuserank-graph")
    report.save(tmp_path / "peers.json")
    assert PeersReport.load(tmp_path / "peers.json") == report


def test_a_peer_that_does_not_come_up_is_missing_with_its_words(tmp_path):
    python = tmp_path / "litserve" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho the wheels came off >&2\nexit 3\n")
    python.chmod(0o755)
    config = PeersConfig(
        **SMALL, only=("litserve",), environments=tmp_path, start_timeout_s=0.5, callers=(1,)
    )
    report = measure_peers(config, command="it")
    assert report.rows == ()
    assert "did not answer" in report.missing["litserve"]
    assert "the wheels came off" in report.missing["litserve"]


def test_other_items_than_the_engines_do_not_compare():
    observed = Observed(rows=[[1, 2]], latencies_ms=[1.0], seconds=1.0, cpu_s=0.5)
    _check("some", observed, [("item-1", "item-2")])
    with pytest.raises(DataError, match=r"some: found \('item-1', 'item-2'\)"):
        _check("some", observed, [("item-2", "item-1")])


def test_an_environment_that_cannot_be_made_is_reported_and_leaves_nothing(tmp_path):
    failed = install(tmp_path, ["bentoml"], Path("/bin/false"))
    assert failed.keys() == {"bentoml"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("rounds", 0), ("callers", ()), ("callers", (0,)), ("only", ("tomcat",)), ("k", 3_000)],
)
def test_options_are_checked(name, value):
    with pytest.raises(ConfigError, match=name):
        PeersConfig(**{name: value})
