"""Live items in the engine: held against bundles that were made of the same items."""

import threading

import numpy as np
import pytest

from fuserank.engine.caps import Cap
from fuserank.engine.diversity import Diversity
from fuserank.engine.engine import load
from fuserank.engine.predicates import Predicate
from fuserank.engine.scorers import open_resident_scorer
from fuserank.engine.scoring import FusedScorer, QuantizedScorer
from fuserank.errors import BundleStateError, RequestError, UnknownItemError
from fuserank.export.assemble import ItemTable, Ranker, assemble
from fuserank.schema import Side

KINDS = ["dot", "additive", "deep", "generic"]
DIM = 4


def vector(seed):
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32).tolist()


def an_item(seed, **more):
    return {"title": f"New {seed}", "year": 2000 + seed, "vector": vector(seed)} | more


@pytest.fixture
def open_live(tiny_bundle, tmp_path):
    """Return a function that loads the tiny bundle over one directory; all are closed after."""
    opened = []

    def start(bundle=tiny_bundle, directory=tmp_path / "live"):
        engine = load(bundle.path, device="cpu", live=directory, threads=2)
        opened.append(engine)
        return engine

    yield start
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(open_live):
    return open_live()


KNOWN = {"user_id": "u5"}


def everything(engine, user=KNOWN):
    return engine.recommend(user, k=10_000, include_seen=True)


def scores_of(engine, user=KNOWN):
    found = everything(engine, user)
    return dict(zip(found.item_ids, found.scores.tolist(), strict=True))


def test_an_item_is_recommended_as_soon_as_it_is_taken(engine):
    assert engine.upsert({"new": an_item(1)}) == 1
    assert "new" in everything(engine).item_ids
    assert engine.info.n_items == 151
    item = engine.item("new")
    assert (item.item_id, item.live) == ("new", True)
    assert item.attributes["title"] == "New 1"
    assert engine.attributes(["new", "i3"])[1]["title"] == "Film 3"


def test_a_deleted_item_is_gone_at_once(engine):
    engine.upsert({"new": an_item(1)})
    assert engine.delete(["new", "i3", "nothing"]) == 2
    assert {"new", "i3"}.isdisjoint(everything(engine).item_ids)
    assert engine.info.n_items == 149
    for gone in ("new", "i3"):
        with pytest.raises(UnknownItemError, match="the catalogue of 149 items"):
            engine.item(gone)
        with pytest.raises(UnknownItemError):
            engine.score({}, [gone])
        with pytest.raises(UnknownItemError):
            engine.recommend({"history": [gone]})
    assert engine.delete(["i3"]) == 0


def test_an_item_comes_back_after_it_was_deleted(engine):
    engine.delete(["i3"])
    engine.upsert({"i3": an_item(3)})
    assert engine.item("i3").live
    assert everything(engine).item_ids.count("i3") == 1


def test_a_replaced_item_is_there_once_and_scores_as_it_is_now(engine):
    before = scores_of(engine)
    engine.upsert({"i3": an_item(1)})
    engine.upsert({"i3": an_item(2)})
    after = scores_of(engine)
    assert len(everything(engine)) == 150
    assert after["i3"] != before["i3"]
    assert all(after[i] == before[i] for i in before if i != "i3")
    assert engine.attributes(["i3"])[0]["title"] == "New 2"
    assert engine.info.n_items == 150


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folded", [False, True])
def test_the_same_attributes_give_the_score_of_the_bundle(make_bundle, open_live, kind, folded):
    bundle = make_bundle(kind)
    engine = open_live(bundle)
    users = [{"user_id": "u5"}, {"history": ["i9"], "hour": 3}, {}]
    before = [scores_of(engine, user) for user in users]
    rows = [3, 64, 149, 0]
    vectors = bundle.items.inputs(slice(0, 150))["item.vector"]
    engine.upsert({f"i{row}": {"vector": vectors[row]} for row in rows})
    if folded:
        assert engine.fold()
    for user, expected in zip(users, before, strict=True):
        found = scores_of(engine, user)
        assert found.keys() == expected.keys()
        for item_id, score in expected.items():
            assert found[item_id] == pytest.approx(score, rel=1e-5, abs=1e-5)
        ids = [f"i{row}" for row in (0, 1, 149)]
        np.testing.assert_array_equal(
            engine.score(user, ids).scores, [np.float32(found[i]) for i in ids]
        )


def test_an_item_that_training_never_met_has_the_row_of_unknown_ids(engine):
    engine.upsert({"a": an_item(1), "b": an_item(1)})
    found = scores_of(engine)
    assert found["a"] == found["b"]
    ids = everything(engine).item_ids
    assert ids.index("b") == ids.index("a") + 1  # equal scores stand in the order of changes


def test_missing_values_are_filled_as_in_training(engine):
    engine.upsert({"bare": {}, "none": {"vector": None}, "zeros": {"vector": [0.0] * DIM}})
    found = scores_of(engine)
    assert found["bare"] == found["none"] == found["zeros"]
    assert engine.item("none").attributes == {}


@pytest.mark.parametrize(
    ("items", "message", "field"),
    [
        ({"x": {"vector": "long"}}, "item 'x': field 'vector': expected 4 finite", "vector"),
        ({"x": {"vector": [1.0]}}, "item 'x': field 'vector'", "vector"),
        ({"x": {"year": float("nan")}}, "item 'x', attribute 'year'", "year"),
        ({"x": {"year": {1, 2}}}, "item 'x', attribute 'year'", "year"),
        ({"x": {"title": "\ud800"}}, "item 'x', attribute 'title'", "title"),
        ({"x": {3: 4}}, "item 'x': found an attribute called 3", "items"),
        ({"x": ["title"]}, "item 'x': found list, expected a mapping", "items"),
        ({"": {}}, "items: found the id ''", "items"),
        ({7: {}}, "items: found the id 7", "items"),
        (["x"], "items: found list, expected a mapping", "items"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_all_that_came_with_it(engine, items, message, field):
    with pytest.raises(RequestError, match=message) as error:
        engine.upsert(items if isinstance(items, list) else {"fine": an_item(1)} | items)
    assert error.value.field == field
    assert engine.info.n_items == 150
    assert "fine" not in everything(engine).item_ids


def test_without_a_directory_nothing_can_change(tiny_bundle):
    with load(tiny_bundle.path, device="cpu") as engine:
        for change in (
            lambda: engine.upsert({"x": {}}),
            lambda: engine.delete(["i3"]),
            engine.fold,
        ):
            with pytest.raises(BundleStateError, match=r"load\(…, live=…\)"):
                change()
        item = engine.item("i3")
        assert (item.attributes["title"], item.live) == ("Film 3", False)


def test_histories_may_name_live_items(engine):
    engine.upsert({"new": an_item(1), "twin": an_item(1)})
    plain = engine.recommend({"history": ["i9", "new"]}, k=1000)
    assert {"i9", "new"}.isdisjoint(plain.item_ids)
    other = engine.recommend({"history": ["i9", "twin"]}, k=1000)
    # Both look the same to the user's history.
    assert dict(plain)["i20"] == dict(other)["i20"]
    assert dict(plain)["i20"] != dict(engine.recommend({"history": ["i9"]}, k=1000))["i20"]


def test_what_replaces_an_item_that_a_user_has_met_is_not_recommended_to_them(engine):
    engine.upsert({"i1": an_item(1), "i11": an_item(2)})  # u1 has chosen i1 and i2, and met i11
    found = engine.recommend({"user_id": "u1"}, k=1000).item_ids
    assert {"i1", "i2", "i11"}.isdisjoint(found)
    assert len(found) == 147


def test_a_deleted_item_still_says_what_its_users_like(engine):
    before = scores_of(engine, {"user_id": "u1"})
    engine.delete(["i1"])
    after = scores_of(engine, {"user_id": "u1"})
    assert all(after[i] == before[i] for i in after)


def test_exclude_allow_and_predicates_reach_live_items(engine):
    engine.upsert({"a": an_item(1, kind="x"), "b": an_item(2, kind="y"), "i3": an_item(3)})
    assert engine.recommend({}, 10, allow=["a", "i3"], exclude=["i3", "gone"]).item_ids == ("a",)
    found = engine.recommend({}, 10, where=[Predicate.equals("kind", "y")])
    assert found.item_ids == ("b",)
    found = engine.recommend({}, 10, where=[Predicate.between("year", 1901, 1903)])
    assert set(found.item_ids) == {"i1", "i2"}  # i3 is of 2003 now
    engine.fold()
    found = engine.recommend({}, 1000, where=[Predicate.between("year", least=2001)])
    assert set(found.item_ids) >= {"a", "b", "i3"}
    with pytest.raises(RequestError, match="no item has the attribute 'colour'"):
        engine.recommend({}, 10, where=[Predicate.equals("colour", "red")])


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalogue_may_begin_empty(make_bundle, open_live, kind):
    engine = open_live(make_bundle(kind, n_items=0))
    assert len(everything(engine)) == 0
    engine.upsert({"a": an_item(1), "b": an_item(2)})
    assert set(everything(engine).item_ids) == {"a", "b"}
    engine.fold()
    engine.delete(["a"])
    assert everything(engine).item_ids == ("b",)
    engine.delete(["b"])
    engine.fold()
    assert len(everything(engine)) == 0


def test_items_are_there_after_a_restart(open_live):
    engine = open_live()
    engine.upsert({"a": an_item(1), "i3": an_item(2)})
    engine.delete(["i4"])
    expected = scores_of(engine)
    engine.close()
    again = open_live()
    assert scores_of(again) == expected
    assert again.info.n_items == 150


def test_another_bundle_keeps_the_live_items(make_bundle, open_live):
    engine = open_live()
    engine.upsert({"a": an_item(1), "i3": an_item(2), "bad": {"vector": vector(4), "year": "?"}})
    engine.delete(["i4"])
    engine.fold()
    engine.close()
    other = open_live(make_bundle("dot"))
    assert {"a", "i3", "bad"} <= set(everything(other).item_ids)
    assert "i4" not in everything(other).item_ids
    assert other.info.n_items == 151
    # Its scores are those of its own item graph.
    fresh = open_live(make_bundle("dot"), other._live._journal.directory.parent / "fresh")
    fresh.upsert({"a": an_item(1)})
    assert scores_of(other)["a"] == pytest.approx(scores_of(fresh)["a"], rel=1e-5, abs=1e-6)


def test_requests_see_one_state_of_the_catalogue(engine):
    """A pair of items is replaced again and again: a reader finds both of one edition."""
    stop, failures = threading.Event(), []
    pair = {"left": an_item(1), "right": an_item(1)}
    engine.upsert(pair)

    def read():
        while not stop.is_set():
            found = dict(engine.recommend({}, 10, allow=["left", "right"]))
            if len(found) != 2 or found["left"] != found["right"]:
                failures.append(found)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for edition in range(60):
        engine.upsert({name: an_item(edition) for name in pair})
        if edition % 20 == 10:
            engine.fold()
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures


@pytest.mark.parametrize(
    ("kind", "seed"), [("dot", 0), ("additive", 1), ("deep", 2), ("generic", 3)]
)
def test_whatever_was_changed_the_items_are_those_of_a_bundle_made_of_them(
    make_bundle, open_live, tmp_path, kind, seed
):
    """Random changes, folds and restarts, against a bundle that is assembled of what is left."""
    rng = np.random.default_rng(seed)
    made = make_bundle(kind)
    vectors = made.items.inputs(slice(0, 150))["item.vector"]
    alive = {f"i{row}": vectors[row] for row in range(150)}
    engine = open_live(made)
    for _ in range(25):
        ids = [f"i{rng.integers(220)}" for _ in range(rng.integers(1, 30))]
        match rng.integers(6):
            case 0 | 1 | 2:
                sent = {i: rng.standard_normal(DIM).astype(np.float32) for i in ids}
                engine.upsert({i: {"vector": vector} for i, vector in sent.items()})
                alive = {i: v for i, v in alive.items() if i not in sent} | sent
            case 3 | 4:
                held = len({i for i in ids if i in alive})
                assert engine.delete(ids) == held
                alive = {i: v for i, v in alive.items() if i not in ids}
            case _:
                assert engine.fold()
                if rng.integers(2):
                    engine.close()
                    engine = open_live(made)
    columns = {"item_id": list(alive), "vector": list(alive.values())}
    tensors = made.schema.encode(Side.ITEM, columns, len(alive))
    items = ItemTable(
        ids=list(alive),
        attributes=[{}] * len(alive),
        inputs=lambda rows: {name: tensor[rows] for name, tensor in tensors.items()},
        vectors={"vector": tensors["item.vector"]},
    )
    ranker = Ranker(name=kind, full=made.full, schema=made.schema)
    assemble(tmp_path / "rebuilt", "tiny", ranker, items)
    with load(tmp_path / "rebuilt", device="cpu", threads=1) as rebuilt:
        assert engine.info.n_items == rebuilt.info.n_items == len(alive)
        some = list(alive)
        for user in ({}, {"age": 40, "hour": 3}, {"history": [some[0], some[-1], some[5]]}):
            expected, found = (e.recommend(user, k=1000) for e in (rebuilt, engine))
            np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
            theirs = dict(expected)
            assert theirs.keys() == dict(found).keys()
            for item_id, score in found:
                assert score == pytest.approx(theirs[item_id], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_folded_items_have_codes_where_the_bundle_has_them(
    make_bundle, open_live, monkeypatch, kind
):
    monkeypatch.setattr("fuserank.export.items._MIN_CODED_BYTES", 0)
    engine = open_live(make_bundle(kind, 1500))
    engine.upsert({f"n{i}": an_item(i) for i in range(400)})
    users = [{}, {"user_id": "u1"}, {"age": 33, "history": ["i3", "n7"]}]
    before = engine.recommend_many(users, 20)
    near = engine.recommend_many(users, 20, plan="quantized")
    assert {found.plan for found in near} == {"quantized"}
    assert engine.fold()
    kinds = [type(part.segment.scorer) for part in engine._view.items.parts]
    assert kinds == [QuantizedScorer, QuantizedScorer]
    for mine, theirs in zip(engine.recommend_many(users, 20), before, strict=True):
        assert mine.item_ids == theirs.item_ids
        np.testing.assert_array_equal(mine.scores, theirs.scores)
    near = engine.recommend_many(users, 20, plan="quantized")
    assert all(len({*a.item_ids} & {*b.item_ids}) > 15 for a, b in zip(near, before, strict=True))


@pytest.mark.parametrize("kind", ["dot", "additive", "deep"])
def test_new_items_are_scanned_on_the_cpu_where_the_others_lie_on_a_device(
    make_bundle, open_live, monkeypatch, kind
):
    """The graphs of a device run on the CPU here; who scans what is the same."""
    made = make_bundle(kind)
    plain = open_live(made)

    def resident(bundle, catalogue, device, threads, *, shared):
        return open_resident_scorer(bundle, catalogue, device, threads)

    monkeypatch.setattr("fuserank.engine.engine.open_scorer", resident)
    engine = open_live(made)
    assert not isinstance(engine._scorer, FusedScorer)
    engine.upsert({f"n{i}": an_item(i) for i in range(100)} | {"i3": an_item(9)})
    plain._live.refresh()
    for _ in range(2):
        parts = engine._view.items.parts
        assert isinstance(parts[-1].segment.scorer, FusedScorer)
        found, expected = (dict(everything(e, {"age": 30})) for e in (engine, plain))
        assert found.keys() == expected.keys()
        assert all(found[i] == pytest.approx(expected[i], rel=1e-4, abs=1e-4) for i in found)
        engine.fold()


def test_diversity_and_caps_see_live_items(engine):
    engine.upsert({f"n{i}": an_item(i % 3, kind=f"k{i % 2}") for i in range(30)})
    capped = engine.recommend(
        {}, 10, allow=[f"n{i}" for i in range(30)], caps=[Cap(attribute="kind", most=2)]
    )
    assert len(capped) == 4
    spread = engine.recommend(
        {}, 3, allow=[f"n{i}" for i in range(30)], diversity=Diversity(weight=0.1)
    )
    # Items of one vector are alike: one of each comes.
    assert {int(i[1:]) % 3 for i in spread.item_ids} == {0, 1, 2}


def test_a_scan_of_parts_is_that_of_one_segment_to_the_bit(make_bundle, open_live):
    """Base, folded and new items are scanned as if their states lay in one array."""
    rng = np.random.default_rng(0)
    engine = open_live(make_bundle("additive", 300))
    alive = {f"i{row}": None for row in range(300)}
    for step in range(12):
        ids = [f"i{rng.integers(360)}" for _ in range(40)]
        if step % 3 == 2:
            engine.delete(ids)
            for item_id in ids:
                alive.pop(item_id, None)
        else:
            engine.upsert({i: an_item(int(rng.integers(1000))) for i in ids})
            for item_id in dict.fromkeys(ids):
                alive.pop(item_id, None)
                alive[item_id] = None
        if step == 6:
            engine.fold()
        assert engine.info.n_items == len(alive)
        check_one_segment(engine, list(alive), k=int(rng.integers(1, 80)))


def check_one_segment(engine, alive, k):
    view = engine._view
    rows = view.items.rows(alive, "ids")
    assert (np.diff(rows) > 0).all()  # the bundle's first, then in the order of changes
    whole = {name: np.ascontiguousarray(array[rows]) for name, array in view.items.states.items()}
    scorer = engine._live._replay._scorers.make(whole, None, 1)
    assert isinstance(scorer, FusedScorer)
    users = [{"user_id": "u5"}, {"age": 3}, {"history": [alive[0], alive[-1]]}]
    _, states, _ = engine._answerer.states(view, users)
    words = np.full((1, -(-len(rows) // 64)), ~np.uint64(0))
    expected = scorer.top_k(states, words, k)
    for at, found in enumerate(engine.recommend_many(users, k, include_seen=True)):
        size = expected.sizes[at]
        assert list(found.item_ids) == [alive[row] for row in expected.rows[at, :size]]
        np.testing.assert_array_equal(found.scores, expected.scores[at, :size])
