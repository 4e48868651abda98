"""The engine on small real bundles, held against the full graph by brute force."""

import json
import math
import mmap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import pytest

from fuserank.bundle import Bundle, layout
from fuserank.engine.cli import inspect
from fuserank.engine.engine import load
from fuserank.engine.scoring import QuantizedScorer
from fuserank.errors import (
    BundleFormatError,
    BundleIntegrityError,
    ProviderError,
    RequestError,
    UnknownItemError,
)
from fuserank.schema import Side, pack_history

KINDS = ["dot", "additive", "deep", "generic"]


@pytest.fixture(scope="module", params=KINDS)
def bundle(request, make_bundle):
    return make_bundle(request.param)


@pytest.fixture(scope="module")
def engine(bundle):
    with load(bundle.path, device="cpu", threads=2) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def tiny(tiny_bundle):
    with load(tiny_bundle.path, device="cpu") as loaded:
        yield loaded


def brute_force(bundle, user):
    """Return the full graph's score of every item for one user, from the training side's code."""
    n = len(bundle.items.ids)
    history = user.get("history", [])
    columns = {name: [user.get(name)] for name in ("user_id", "age")}
    tensors = bundle.schema.encode(Side.USER, columns, 1)
    tensors |= bundle.schema.encode(Side.CONTEXT, {"hour": [user.get("hour")]}, 1)
    vectors = bundle.items.vectors["vector"]
    rows = np.array([bundle.items.ids.index(item) for item in history], dtype=int)
    field = bundle.schema.find(Side.USER, "history")
    tensors["user.history"] = pack_history([vectors[rows]], field)
    feeds = {name: np.repeat(tensor, n, axis=0) for name, tensor in tensors.items()}
    feeds |= bundle.items.inputs(slice(0, n))
    session = ort.InferenceSession(
        bundle.full.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)[0]


def stored(bundle, row):
    """Return the request that says of a stored user what the bundle knows."""
    ages = [20, 30, None, 50, 60, 70]
    chosen = [bundle.items.ids[item] for item in bundle.users.history[row]]
    request = {"user_id": bundle.users.ids[row], "age": ages[row], "history": chosen}
    return {name: value for name, value in request.items() if value is not None}


def ranking(bundle, scores, without=()):
    order = np.argsort(-scores, kind="stable")
    ids = [bundle.items.ids[row] for row in order]
    return [item for item in ids if item not in without]


def assert_ranks(bundle, found, scores, without=()):
    """Compare ids and scores; ids may change places within the tolerance of reordered sums."""
    expected = ranking(bundle, scores, without)
    assert sorted(found.item_ids) == sorted(expected)
    of_item = dict(zip(bundle.items.ids, scores, strict=True))
    np.testing.assert_allclose(found.scores, [of_item[i] for i in expected], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        found.scores, [of_item[i] for i in found.item_ids], rtol=1e-4, atol=1e-4
    )
    assert (np.diff(found.scores) <= 0).all()


def test_the_bundle_has_the_scorer_under_test(bundle, engine):
    kind = bundle.path.parent.name.rstrip("0123456789")
    assert engine.info.scorer == {"deep": "additive"}.get(kind, kind)
    assert engine.info.n_items == len(bundle.items.ids)
    assert engine.info.n_users == len(bundle.users.ids)
    assert engine.info.title == "title"
    assert engine.info.device == "cpu"
    assert engine.info.encoder is None
    assert [(f.name, f.kind) for f in engine.info.user_fields] == [
        ("user_id", "id"),
        ("age", "number"),
        ("history", "history"),
        ("hour", "number"),
    ]


def test_every_stored_user_is_ranked_as_by_the_full_graph(bundle, engine):
    for row, user_id in enumerate(bundle.users.ids):
        found = engine.recommend({"user_id": user_id}, k=1000, include_seen=True)
        assert_ranks(bundle, found, brute_force(bundle, stored(bundle, row)))
        assert found.served_as == "known"
        assert found.plan == "exact"


@pytest.mark.parametrize(
    ("user", "served_as"),
    [
        ({"user_id": "nobody", "age": 33, "hour": 12}, "unknown"),
        ({"user_id": "nobody"}, "unknown"),
        ({"age": 33.5, "history": ["i3", "i140", "i3", "i9"]}, "cold"),
        ({"history": []}, "cold"),
        ({"hour": 23}, "cold"),
        ({}, "cold"),
    ],
)
def test_new_users_are_ranked_as_by_the_full_graph(bundle, engine, user, served_as):
    found = engine.recommend(user, k=1000)
    assert found.served_as == served_as
    assert_ranks(bundle, found, brute_force(bundle, user), user.get("history", ()))


def test_what_a_request_says_wins_over_what_is_stored(bundle, engine):
    user = {"user_id": "u1", "age": 65, "history": ["i50"], "hour": 3}
    found = engine.recommend(user, k=1000, include_seen=True)
    assert_ranks(bundle, found, brute_force(bundle, user))
    assert found.served_as == "known"


def test_probabilities_are_the_logistic_of_the_scores(engine):
    found = engine.recommend({"user_id": "u0"}, k=20)
    expected = 1 / (1 + np.exp(-found.scores.astype(float)))
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5, atol=1e-7)
    assert list(found) == list(zip(found.item_ids, found.scores.tolist(), strict=True))


def test_many_users_get_what_each_gets_alone(bundle, engine):
    users = [{"user_id": "u0"}, {}, {"user_id": "new", "age": 1}, {"history": ["i7"]}] * 3
    options = {"exclude": ["i1", "i2"], "allow": bundle.items.ids[:99]}
    for user, mine in zip(users, engine.recommend_many(users, 30, **options), strict=True):
        alone = engine.recommend(user, 30, **options)
        assert mine.item_ids == alone.item_ids
        assert mine.served_as == alone.served_as
        np.testing.assert_allclose(mine.scores, alone.scores, rtol=1e-5, atol=1e-5)
    assert engine.recommend_many([]) == []


def test_scores_come_in_the_order_of_the_items(bundle, engine):
    ids = ["i149", "i0", "i77", "i0"]
    found = engine.score({"user_id": "u3"}, ids)
    scores = brute_force(bundle, stored(bundle, 3))
    np.testing.assert_allclose(found.scores, scores[[149, 0, 77, 0]], rtol=1e-4, atol=1e-4)
    assert found.item_ids == tuple(ids)
    assert found.served_as == "known"
    assert engine.score({}, []).scores.shape == (0,)


def test_a_score_is_that_of_the_recommendation(engine):
    best = engine.recommend({"user_id": "u0"}, k=50)
    np.testing.assert_allclose(
        engine.score({"user_id": "u0"}, best.item_ids).scores, best.scores, rtol=1e-6, atol=1e-6
    )


def test_threads_get_the_same_results(engine):
    users = [{"user_id": f"u{row % 6}", "hour": row % 24} for row in range(64)]
    alone = [engine.recommend(user, k=20) for user in users]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda user: engine.recommend(user, k=20), users))
    for a, b in zip(alone, together, strict=True):
        assert a.item_ids == b.item_ids
        np.testing.assert_array_equal(a.scores, b.scores)


def test_what_a_user_has_met_is_not_recommended_again(tiny):
    found = set(tiny.recommend({"user_id": "u1"}, k=1000).item_ids)
    assert len(found) == 147
    assert found.isdisjoint({"i1", "i2", "i11"})
    assert len(tiny.recommend({"user_id": "u1"}, k=1000, include_seen=True)) == 150


def test_the_history_of_a_request_is_not_recommended_again(tiny):
    user = {"history": ["i0", "i1", "i2", "i3", "i4"]}  # longer than what the model reads
    assert {"i0", "i4"}.isdisjoint(tiny.recommend(user, k=1000).item_ids)
    assert len(tiny.recommend(user, k=1000)) == 145
    assert len(tiny.recommend(user, k=1000, include_seen=True)) == 150
    # A stored user is still spared what it has met.
    known = tiny.recommend({"user_id": "u1"} | user, k=1000)
    assert "i11" not in known.item_ids


def test_exclude_and_allow(tiny):
    best = tiny.recommend({}, k=3).item_ids
    found = tiny.recommend({}, k=3, exclude=[best[0], "not in the catalogue"])
    assert found.item_ids[:2] == best[1:]
    allowed = tiny.recommend({}, k=10, allow={"i5", "i6", "nothing"})
    assert set(allowed.item_ids) == {"i5", "i6"}
    assert tiny.recommend({}, k=10, allow=["i5"], exclude=["i5"]).item_ids == ()
    assert len(tiny.recommend({}, k=10, allow=[])) == 0
    assert len(tiny.recommend({"history": ["i5"]}, k=10, allow=["i5", "i6"])) == 1


@pytest.mark.parametrize("k", [0, -1, True, "3", 2.0, None])
def test_k_must_be_a_whole_number_of_1_or_more(tiny, k):
    with pytest.raises(RequestError, match=f"k: found {k!r}, expected a whole number") as error:
        tiny.recommend({}, k=k)
    assert error.value.field == "k"


@pytest.mark.parametrize(
    ("user", "message", "field"),
    [
        ({"user": "u0"}, "has no field 'user', its fields are age, history, hour, user_id", "user"),
        ({"histori": []}, "no field 'histori'.*did you mean 'history'", "histori"),
        ({3: 4}, "no field 3", "3"),
        ({"age": math.nan}, "user field 'age': found nan, expected a value; leave", "age"),
        ({"age": math.inf}, "user field 'age': found inf", "age"),
        ({"age": None}, "user field 'age': found None, expected a value", "age"),
        ({"age": "old"}, "user: field 'age', row 0: found str, expected a finite number", "age"),
        ({"age": 10**400}, "field 'age', row 0: found int, expected a finite number", "age"),
        ({"user_id": ["u0"]}, "field 'user_id', row 0: found list, expected text", "user_id"),
        ({"history": "i1"}, "user field 'history': found str, expected a list", "history"),
        ({"history": {"i1": 1}}, "user field 'history': found dict, expected a list", "history"),
        ("u0", "user: found str, expected a mapping", ""),
        (None, "user: found NoneType, expected a mapping", ""),
    ],
)
def test_a_request_that_is_malformed_is_refused(tiny, user, message, field):
    for ask in (tiny.recommend, lambda u: tiny.score(u, ["i0"])):
        with pytest.raises(RequestError, match=message) as error:
            ask(user)
        assert error.value.field == field


@pytest.mark.parametrize("items", [["i0", "film"], ["i0", 3], ["i0", None], ["i0", ["i1"]]])
def test_items_that_do_not_exist_are_named(tiny, items):
    with pytest.raises(UnknownItemError, match=r"history: found 1 item id.* the catalogue of 150"):
        tiny.recommend({"history": items})
    with pytest.raises(UnknownItemError, match="item_ids: found 1 item id") as error:
        tiny.score({}, items)
    assert error.value.field == "item_ids"


def test_one_string_is_no_list_of_ids(tiny):
    for option in ("exclude", "allow"):
        with pytest.raises(RequestError, match=f"{option}: found one string, expected a list"):
            tiny.recommend({}, **{option: "i1"})
    with pytest.raises(RequestError, match="item_ids: found one string"):
        tiny.score({}, "i1")


def test_what_is_no_list_of_ids_is_refused(tiny):
    for option in ("exclude", "allow"):
        with pytest.raises(RequestError, match=f"{option}: found int, expected a list of") as error:
            tiny.recommend({}, **{option: 5})
        assert error.value.field == option
    with pytest.raises(RequestError, match="item_ids: found NoneType, expected a list of item ids"):
        tiny.score({}, None)
    with pytest.raises(RequestError, match="item_ids: found one string"):
        tiny.attributes("i1")


def test_what_is_no_id_excludes_and_allows_nothing(tiny):
    odd = [3, None, ["i1"], {}]
    assert len(tiny.recommend({}, k=1000, exclude=odd)) == 150
    assert len(tiny.recommend({}, k=1000, allow=[*odd, "i1"])) == 1


def test_a_bundle_without_encoder_encodes_nothing(tiny):
    with pytest.raises(RequestError, match="texts: this bundle has no text encoder"):
        tiny.encode(["words"])


def test_attributes_belong_to_the_items_asked_for(tiny):
    assert tiny.attributes(["i7", "i0"]) == [
        {"title": "Film 7", "year": 1907},
        {"title": "Film 0", "year": 1900},
    ]
    with pytest.raises(UnknownItemError, match="'film'"):
        tiny.attributes(["film"])


def test_timings_are_reported(tiny):
    timings = tiny.recommend({"user_id": "u0"}).timings
    assert timings.tokenize_ms == timings.encode_ms == 0
    assert 0 < timings.user_graph_ms < timings.total_ms
    assert 0 < timings.scan_ms < timings.total_ms


def test_two_engines_of_one_bundle_close_independently(tiny_bundle):
    first, second = (load(tiny_bundle.path, device="cpu", threads=2) for _ in range(2))
    first.close()
    assert len(second.recommend({}, k=5)) == 5
    second.close()
    second.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_catalogue_recommends_nothing(make_bundle, kind):
    bundle = make_bundle(kind, n_items=0)
    with load(bundle.path, device="cpu") as engine:
        assert len(engine.recommend({"user_id": "u0"}, k=5)) == 0
        assert len(engine.score({}, []).scores) == 0


@pytest.mark.parametrize(
    ("kind", "scorer"), [("additive", "additive (relu)"), ("deep", "additive (relu, tanh) + dot")]
)
def test_inspect_says_what_is_computed_of_a_pair(make_bundle, capsys, kind, scorer):
    inspect(make_bundle(kind).path)
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith(" scorer")]
    assert line.split(maxsplit=1)[1].strip() == scorer


def test_a_manifest_that_knows_of_no_layers_is_read(tiny, make_bundle):
    made = make_bundle("additive")
    path = made.path / layout.MANIFEST
    manifest = json.loads(path.read_bytes())
    for name in ("layers", "products"):
        del manifest["scorer"][name]
    path.write_text(json.dumps(manifest))
    with load(made.path, device="cpu") as engine:
        assert (
            engine.recommend({"user_id": "u1"}).item_ids
            == tiny.recommend({"user_id": "u1"}).item_ids
        )


def test_every_byte_is_reported_on_loading(tiny_bundle):
    done = []
    load(tiny_bundle.path, device="cpu", on_progress=done.append).close()
    files = [path for path in tiny_bundle.path.rglob("*") if path.is_file()]
    manifest = tiny_bundle.path / layout.MANIFEST
    assert sum(done) == sum(path.stat().st_size for path in files) - manifest.stat().st_size


def test_what_cannot_be_loaded_is_refused(tiny_bundle, tmp_path):
    with pytest.raises(BundleFormatError, match="no such bundle"):
        load(tmp_path / "nothing", device="cpu")
    with pytest.raises(ProviderError, match="expected one of auto, cpu, cuda"):
        load(tiny_bundle.path, device="tpu")


def test_a_damaged_graph_is_named(make_bundle):
    path = make_bundle("dot").path
    (path / layout.GRAPHS["user"]).write_bytes(b"x")
    with pytest.raises(BundleIntegrityError, match=r"user.onnx: found 1 bytes"):
        load(path, device="cpu")


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_codes_in_a_bundle_change_nothing_but_the_bytes_read(kind, make_bundle, monkeypatch):
    plain = make_bundle(kind, 1500)
    monkeypatch.setattr("fuserank.export.items._MIN_CODED_BYTES", 0)
    coded = make_bundle(kind, 1500)
    users = [{}, {"user_id": "u1"}, {"age": 33, "history": ["i3", "i700"]}]
    with load(plain.path, device="cpu") as a, load(coded.path, device="cpu") as b:
        assert isinstance(b._scorer, QuantizedScorer)
        assert not isinstance(a._scorer, QuantizedScorer)
        for mine, theirs in zip(
            a.recommend_many(users, 20), b.recommend_many(users, 20), strict=True
        ):
            assert mine.item_ids == theirs.item_ids
            np.testing.assert_array_equal(mine.scores, theirs.scores)


@pytest.mark.parametrize("shared", [True, False])
def test_processes_that_share_a_bundle_copy_no_codes(make_bundle, monkeypatch, shared):
    monkeypatch.setattr("fuserank.export.items._MIN_CODED_BYTES", 0)
    path = make_bundle("dot", 1500).path
    users = [{}, {"user_id": "u1"}]
    with load(path, device="cpu") as alone, load(path, device="cpu", shared=shared) as engine:
        base = engine._scorer._blocks
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base, mmap.mmap) == shared
        expected = [found.item_ids for found in alone.recommend_many(users, 20)]
        assert [found.item_ids for found in engine.recommend_many(users, 20)] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_small_catalogues_have_no_codes(kind, make_bundle):
    bundle = make_bundle(kind)
    assert Bundle.open(bundle.path).manifest.codes is None
    assert not (bundle.path / "catalogue" / "codes").exists()
