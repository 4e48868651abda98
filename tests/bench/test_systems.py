import asyncio

import numpy as np
import onnxruntime as ort
import pytest

from fuserank.bench.synthetic import (
    SyntheticItems,
    perceptron,
    synthetic_bundle,
    synthetic_requests,
)
from fuserank.bench.systems import InProcess, NaiveFullGraph
from fuserank.bundle import Bundle
from fuserank.engine.engine import load
from fuserank.errors import ConfigError

ITEMS = SyntheticItems(n_items=10_000, width=16, seed=5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    done = []
    out = tmp_path_factory.mktemp("synthetic") / "bundle"
    path = synthetic_bundle(out, ITEMS, hidden=24, on_progress=done.append)
    assert sum(done) == ITEMS.n_items
    return Bundle.open(path)


@pytest.mark.parametrize("tile", [None, 128])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_engine_returns_what_the_naive_full_graph_returns(bundle, k, tile):
    naive = NaiveFullGraph(bundle, ITEMS.all(), tile=tile)
    with load(bundle.path, "cpu", threads=1) as engine:
        for request in synthetic_requests(5, ITEMS):
            ours = asyncio.run(InProcess(engine).recommend(request, k))
            theirs = asyncio.run(naive.recommend(request, k))
            assert ours.item_ids == theirs.item_ids
            np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=1e-5)


def test_naive_gives_every_item_where_more_are_asked_for(tmp_path):
    items = SyntheticItems(n_items=30, width=4)
    bundle = Bundle.open(synthetic_bundle(tmp_path / "small", items, hidden=4))
    found = asyncio.run(
        NaiveFullGraph(bundle, items.all()).recommend(synthetic_requests(1, items)[0], 50)
    )
    assert sorted(found.item_ids) == sorted(f"item-{row}" for row in range(30))
    assert (np.diff(found.scores) <= 0).all()


def test_items_do_not_depend_on_the_range_that_asks_for_them():
    whole = ITEMS.all()["item.vector"]
    assert whole.shape == (10_000, 16)
    assert whole.dtype == np.float32
    for rows in (slice(0, 1), slice(4095, 4097), slice(100, 9_000), slice(9_999, 12_000)):
        np.testing.assert_array_equal(ITEMS(rows)["item.vector"], whole[rows])


def test_another_seed_gives_other_items_and_requests():
    other = SyntheticItems(n_items=10_000, width=16, seed=6)
    assert not np.array_equal(other(slice(0, 5))["item.vector"], ITEMS(slice(0, 5))["item.vector"])
    assert synthetic_requests(1, other) != synthetic_requests(1, ITEMS)
    assert synthetic_requests(3, ITEMS) == synthetic_requests(3, ITEMS)


@pytest.mark.parametrize("hidden", [[4], [4, 5, 2]])
def test_perceptron_computes_a_perceptron(hidden):
    model = perceptron(width=3, hidden=hidden, seed=0)
    weights = {c.name: np.frombuffer(c.raw_data, np.float32) for c in model.graph.initializer}
    rng = np.random.default_rng(1)
    user, item = rng.standard_normal((2, 7, 3)).astype(np.float32)
    values = np.hstack([user, item])
    for layer, units in enumerate([*hidden, 1], start=1):
        sums = values @ weights[f"W_{layer}"].reshape(-1, units) + weights[f"b_{layer}"]
        values = np.maximum(sums, 0)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logit,) = session.run(None, {"user.vector": user, "item.vector": item})
    np.testing.assert_allclose(logit, sums[:, 0], rtol=1e-5, atol=1e-6)


def test_the_bundle_is_scored_by_the_fused_perceptron(bundle):
    assert bundle.manifest.scorer.kind.value == "additive"
    assert bundle.manifest.scorer.activation == "relu"
    assert bundle.manifest.n_items == 10_000


def test_no_items_are_refused():
    with pytest.raises(ConfigError, match="n_items: found 0, expected 1 or more"):
        SyntheticItems(n_items=0)
