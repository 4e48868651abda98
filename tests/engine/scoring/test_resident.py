"""The graph that selects, in tiles and on a GPU, against the compiled scans."""

import numpy as np
import pytest

from fuserank.bundle import Bundle, layout
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.engine import Engine, load
from fuserank.engine.providers import Device, resolve_device
from fuserank.engine.scorers import open_resident_scorer
from fuserank.engine.scoring import Eligibility, HalfResidentScorer, ResidentScorer, device_scan
from fuserank.engine.session import GraphSession
from fuserank.errors import ProviderError
from fuserank.export import assemble
from fuserank.export.selection import with_selection

KINDS = ["dot", "additive", "deep", "generic"]
N_ITEMS = 1000


@pytest.fixture(scope="module", params=KINDS)
def bundle(request, make_bundle):
    return Bundle.open(make_bundle(request.param, N_ITEMS).path)


def make_resident(bundle):
    return open_resident_scorer(bundle, Catalogue(bundle), Device.CPU, 1)


def states_of(bundle, n_users):
    """Return outputs of the user graph for random inputs."""
    rng = np.random.default_rng(5)
    graph = GraphSession(bundle.file(layout.GRAPHS["user"]))
    inputs = {}
    for spec in bundle.manifest.graphs["user"].inputs:
        shape = (n_users, *spec.shape[1:])
        if spec.dtype == "int64":
            inputs[spec.name] = rng.integers(0, 3, shape)
        else:
            inputs[spec.name] = rng.standard_normal(shape).astype(np.float32)
    return graph.run(inputs)


@pytest.mark.parametrize("tile", [256, 2048 * 128])
@pytest.mark.parametrize(("n_users", "k"), [(1, 5), (3, 200), (70, 17), (2, 5000)])
def test_finds_what_the_scan_finds(bundle, monkeypatch, tile, n_users, k):
    monkeypatch.setattr(device_scan, "_TILE", tile)
    scorer = make_resident(bundle)
    users = states_of(bundle, n_users)
    excluded = [np.arange(q % 7, N_ITEMS, 3) for q in range(n_users)]
    words = Eligibility(N_ITEMS).words([(rows, None) for rows in excluded])
    with Engine(bundle) as engine:
        expected = engine._scorer.top_k(users, words, k)
        found = scorer.top_k(users, words, k)
        np.testing.assert_array_equal(found.sizes, expected.sizes)
        for mine, theirs, size in zip(found.rows, expected.rows, found.sizes, strict=True):
            assert mine[:size].tolist() == theirs[:size].tolist()
        for mine, theirs, size in zip(found.scores, expected.scores, found.sizes, strict=True):
            np.testing.assert_allclose(mine[:size], theirs[:size], rtol=1e-5, atol=1e-5)
        rows = np.array([7, 7, 0, N_ITEMS - 1])
        np.testing.assert_allclose(
            scorer.score(users, rows), engine._scorer.score(users, rows), rtol=1e-5, atol=1e-5
        )


def test_states_are_float16_where_their_error_is_bounded(bundle):
    has_bound = bundle.manifest.scorer.summary in ("dot", "additive (relu)")
    assert isinstance(make_resident(bundle), HalfResidentScorer if has_bound else ResidentScorer)


def test_a_bundle_whose_graph_selects_over_float32_states_still_serves(make_bundle, monkeypatch):
    monkeypatch.setattr(assemble, "select_graph", lambda joint, scorer: with_selection(joint))
    bundle = Bundle.open(make_bundle("dot", N_ITEMS).path)
    scorer = make_resident(bundle)
    assert isinstance(scorer, ResidentScorer)
    users = states_of(bundle, 2)
    words = Eligibility(N_ITEMS).words([(np.empty(0, dtype=np.int64), None)])
    with Engine(bundle) as engine:
        expected = engine._scorer.top_k(users, words, 20)
    np.testing.assert_array_equal(scorer.top_k(users, words, 20).rows, expected.rows)


def test_shapes_are_bound_once_and_read_anew(bundle):
    scorer = make_resident(bundle)
    words = Eligibility(N_ITEMS).words([(np.empty(0, dtype=np.int64), None)])
    users = states_of(bundle, 4)
    each = [{n: v[q : q + 1] for n, v in users.items()} for q in range(4)]
    alone = [scorer.top_k(user, words, 9) for user in each]
    assert len(scorer._scan._runs) == 1
    together = scorer.top_k(users, words, 9)
    assert len(scorer._scan._runs) == 2
    for q, found in enumerate(alone):
        assert found.rows[0].tolist() == together.rows[q].tolist()
    few = scorer.top_k(each[0], Eligibility(N_ITEMS).words([(np.arange(10, N_ITEMS), None)]), 9)
    assert set(few.rows[0, :9].tolist()) <= set(range(10))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_finds_what_the_cpu_finds(kind, make_bundle):
    try:
        resolve_device(Device.CUDA)
    except ProviderError as error:
        pytest.skip(str(error))
    path = make_bundle(kind, 300_000).path
    users = [{}, {"user_id": "u1"}, {"age": 33, "history": ["i3", "i700"]}]
    with load(path, device="cuda") as cuda, load(path, device="cpu") as cpu:
        for _ in range(3):  # recorded, then replayed
            for mine, theirs in zip(
                cuda.recommend_many(users, 50), cpu.recommend_many(users, 50), strict=True
            ):
                np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-4, atol=1e-4)
                assert len(set(mine.item_ids) & set(theirs.item_ids)) >= 49


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_what_cuda_finds_in_float16_is_what_the_scan_finds(kind, make_bundle, check_same):
    try:
        resolve_device(Device.CUDA)
    except ProviderError as error:
        pytest.skip(str(error))
    bundle = Bundle.open(make_bundle(kind, 300_000).path)
    scorer = open_resident_scorer(bundle, Catalogue(bundle), Device.CUDA, 2)
    words = Eligibility(300_000).words([(np.arange(0, 300_000, 5), None)])
    with Engine(bundle) as engine:
        for n_users, k in ((1, 10), (1, 10), (70, 100)):  # recorded, replayed, another shape
            users = states_of(bundle, n_users)
            check_same(engine._scorer.top_k(users, words, k), scorer.top_k(users, words, k))
    scorer.close()
