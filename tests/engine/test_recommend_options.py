"""What a request may ask of its results, of engines over small real bundles."""

from collections import Counter

import numpy as np
import pytest

from fuserank import Cap, Diversity, Predicate
from fuserank.bundle import Bundle, layout
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.engine import load
from fuserank.engine.stored_columns import StoredColumns
from fuserank.errors import RequestError
from fuserank.export.columns import build_columns

KINDS = ["dot", "additive", "deep", "generic"]
USERS = [{}, {"user_id": "u1"}, {"age": 33, "history": ["i3", "i70"]}]
# Item i of the bundles is of the year 1900 + i.
NINETIES = Predicate.between("year", 1990, 1999)


@pytest.fixture(scope="module", params=KINDS)
def engine(request, make_bundle):
    with load(make_bundle(request.param).path, device="cpu", threads=2) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def coded_bundle(make_bundle):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fuserank.export.items._MIN_CODED_BYTES", 0)
        return make_bundle("dot", 3000)


@pytest.fixture(scope="module")
def coded(coded_bundle):
    with load(coded_bundle.path, device="cpu") as loaded:
        yield loaded


def test_predicates_leave_as_many_as_exist(engine):
    for user in USERS:
        everything = engine.recommend(user, 1000).item_ids
        nineties = [item for item in everything if 90 <= int(item[1:]) < 100]
        assert engine.recommend(user, 1000, where=[NINETIES]).item_ids == tuple(nineties)
        assert engine.recommend(user, 4, where=(NINETIES,)).item_ids == tuple(nineties[:4])
        both = [NINETIES, Predicate.one_of("year", [1993, 1985, 1999.0])]
        assert set(engine.recommend(user, 9, where=both).item_ids) == {"i93", "i99"}
        titled = [Predicate.equals("title", "Film 95")]
        assert engine.recommend(user, where=titled).item_ids == ("i95",)


def test_predicates_join_what_else_is_asked(engine):
    found = engine.recommend_many(
        [{"history": ["i91"]}, {}],
        where=[NINETIES],
        exclude=["i92"],
        allow=["i91", "i92", "i93", "i5"],
    )
    assert [set(one.item_ids) for one in found] == [{"i93"}, {"i91", "i93"}]


@pytest.mark.parametrize("k", [3, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_caps_take_the_best_of_each_value(make_bundle, kind, k, monkeypatch):
    made = make_bundle(kind)
    items = [{"kind": row % 3} for row in range(len(made.items.ids))]
    monkeypatch.setattr(Catalogue, "attributes_of", lambda _, row: items[row])
    monkeypatch.setattr(StoredColumns, "open", lambda _: build_columns(items))
    caps = [Cap(attribute="kind", most=2)]
    with load(made.path, device="cpu") as engine:
        for user, found in zip(USERS, engine.recommend_many(USERS, k, caps=caps), strict=True):
            expected, counts = [], Counter()
            for item in engine.recommend(user, 1000).item_ids:
                if counts[int(item[1:]) % 3] < 2:
                    expected.append(item)
                    counts[int(item[1:]) % 3] += 1
            assert found.item_ids == tuple(expected[:k])
            scores = engine.score(user, found.item_ids).scores
            np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)


def test_diversity_starts_with_the_best_and_keeps_scores_beside_items(engine):
    for user in USERS:
        best = engine.recommend(user, 20)
        assert engine.recommend(user, 20, diversity=Diversity(weight=1)).item_ids == best.item_ids
        spread = engine.recommend(user, 20, diversity=Diversity(weight=0.2))
        assert spread.item_ids[0] == best.item_ids[0]
        assert spread.item_ids != best.item_ids
        assert len(set(spread.item_ids)) == 20
        scores = engine.score(user, spread.item_ids).scores
        np.testing.assert_allclose(spread.scores, scores, rtol=1e-5, atol=1e-5)


def likeness(path, found):
    rows = [int(item[1:]) for item in found.item_ids]
    states = Bundle.open(path).array(layout.item_state("item_state"))[rows].astype(float)
    units = states / np.linalg.norm(states, axis=1, keepdims=True)
    return (units @ units.T)[np.triu_indices(len(rows), 1)].mean()


def test_diverse_items_are_less_alike(coded, coded_bundle):
    for user in USERS:
        plain = coded.recommend(user, 20)
        spread = coded.recommend(user, 20, diversity=Diversity(weight=0.3))
        assert likeness(coded_bundle.path, spread) < likeness(coded_bundle.path, plain) - 0.05


@pytest.mark.parametrize("plan", ["exact", "quantized"])
def test_without_codes_every_plan_is_exact(engine, plan):
    exact = engine.recommend(USERS[1], 20)
    found = engine.recommend(USERS[1], 20, plan=plan)
    assert found.item_ids == exact.item_ids
    assert (found.plan, found.degraded, found.degraded_reason) == ("exact", False, "")


def test_codes_answer_where_they_are_asked_to(coded):
    exact = coded.recommend_many(USERS, 20)
    found = coded.recommend_many(USERS, 20, plan="quantized", where=[Predicate.between("year")])
    for mine, theirs, user in zip(found, exact, USERS, strict=True):
        assert (mine.plan, mine.degraded, mine.degraded_reason) == ("quantized", True, "requested")
        assert (theirs.plan, theirs.degraded) == ("exact", False)
        assert len(set(mine.item_ids) & set(theirs.item_ids)) >= 15
        true = coded.score(user, mine.item_ids).scores
        assert np.any(true != mine.scores)
        np.testing.assert_allclose(true, mine.scores, atol=0.1 * np.ptp(theirs.scores) + 0.1)
    # Of a large share of the catalogue, codes do not tell.
    assert coded.recommend({}, 1000, plan="quantized").plan == "exact"


def test_caps_and_diversity_by_codes(coded):
    caps = [Cap(attribute="year", most=1)]
    found = coded.recommend({}, 20, caps=caps, diversity=Diversity(weight=0.5), plan="quantized")
    assert found.plan == "quantized"
    assert len(set(found.item_ids)) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_live_items_are_capped_and_spread_as_others(make_bundle, kind, tmp_path):
    rng = np.random.default_rng(5)
    with load(make_bundle(kind).path, device="cpu", live=tmp_path / "live") as engine:
        for first in range(0, 60, 20):
            engine.upsert(
                {
                    f"n{row}": {
                        "vector": rng.normal(size=4).tolist(),
                        "kind": ["abc"[row % 3], "n"],
                    }
                    for row in range(first, first + 20)
                }
            )
            ranking = engine.recommend({}, 1000)
            attributes = dict(
                zip(ranking.item_ids, engine.attributes(ranking.item_ids), strict=True)
            )
            expected, counts = [], Counter()
            for item in ranking.item_ids:
                values = attributes[item].get("kind", [])
                if all(counts[value] < 2 for value in values):
                    expected.append(item)
                    counts.update(values)
            assert sum(item.startswith("n") for item in expected) == 2
            caps = [Cap(attribute="kind", most=2)]
            for k in (5, 1000):
                assert engine.recommend({}, k, caps=caps).item_ids == tuple(expected[:k])
            everything = Diversity(weight=0.5, candidates=1000)
            spread = engine.recommend({}, 1000, diversity=everything)
            assert spread.item_ids[0] == ranking.item_ids[0]
            assert sorted(spread.item_ids) == sorted(ranking.item_ids)


@pytest.mark.parametrize(
    ("options", "message", "field"),
    [
        ({"where": [Predicate.equals("yaer", 1)]},
         "where: no item has the attribute 'yaer'; the attributes are title, year; did", "where"),
        ({"where": NINETIES}, "where: found Predicate, expected a list", "where"),
        ({"caps": [Cap(attribute="genre", most=1)]}, "caps: no item has the attribute", "caps"),
        ({"caps": "genre"}, "caps: found str, expected a list of caps", "caps"),
        ({"diversity": 1}, "diversity: found int, expected a Diversity", "diversity"),
        ({"diversity": Diversity(weight=0, candidates=9)}, "found 9, expected k = 10", "diversity"),
        ({"plan": "quick"}, "plan: found 'quick', expected one of 'exact', 'quantized'", "plan"),
        ({"plan": None}, "plan: found None, expected one of", "plan"),
    ],
)  # fmt: skip
def test_what_says_nothing_is_refused(engine, options, message, field):
    for users in ([{}], []):
        if not users and "no item has" in message:
            continue
        with pytest.raises(RequestError, match=message) as error:
            engine.recommend_many(users, **options)
        assert error.value.field == field


@pytest.mark.parametrize("kind", KINDS)
def test_of_no_items_there_is_nothing_to_choose(make_bundle, kind):
    with load(make_bundle(kind, n_items=0).path, device="cpu") as engine:
        found = engine.recommend({}, diversity=Diversity(weight=0.5), plan="quantized")
        assert found.item_ids == ()
        with pytest.raises(RequestError, match="the attributes are none at all"):
            engine.recommend({}, where=[NINETIES])
