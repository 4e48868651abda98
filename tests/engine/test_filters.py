"""Filters of a call's users, held against calls in which all users have the same one."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuserank.bundle import Bundle
from fuserank.engine.caps import Cap
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.diversity import Diversity
from fuserank.engine.engine import load
from fuserank.engine.filters import EVERYTHING, ItemFilter, rows_of
from fuserank.engine.predicates import Predicate
from fuserank.engine.providers import Device
from fuserank.engine.scorers import open_resident_scorer
from fuserank.engine.scoring import QuantizedScorer, ResidentScorer
from fuserank.errors import RequestError

CODED = {"dot, coded": "dot", "additive, coded": "additive"}
KINDS = ["dot", "additive", "deep", "generic", *CODED]
N_ITEMS = 1500
USERS = [
    {},
    {"user_id": "u1"},
    {"user_id": "u5", "hour": 7},
    {"user_id": "nobody", "age": 44},
    {"age": 33, "history": ["i3", "i700"]},
    {"history": ["i1", "i2", "i3", "i4", "i5"]},
]


@pytest.fixture(scope="module", params=KINDS)
def bundle(request, make_bundle):
    with pytest.MonkeyPatch.context() as patch:
        if request.param in CODED:
            patch.setattr("fuserank.export.items._MIN_CODED_BYTES", 0)
        return make_bundle(CODED.get(request.param, request.param), N_ITEMS)


@pytest.fixture(scope="module", params=["plain", "changed", "resident"])
def engine(request, bundle, tmp_path_factory):
    """An engine of the bundle's items, of those that came, changed and went, or as on a device."""
    live = tmp_path_factory.mktemp("live") if request.param == "changed" else None
    with load(bundle.path, device="cpu", threads=2, live=live) as engine:
        if request.param == "changed":
            vectors = np.random.default_rng(5).normal(size=(60, 4)).tolist()
            items = {f"n{row}": {"vector": vector} for row, vector in enumerate(vectors[:40])}
            engine.upsert(items | {f"i{row}": {"vector": vectors[row]} for row in range(40, 60)})
            engine.delete([*(f"i{row}" for row in range(0, 100, 7)), "n3"])
        if request.param == "resident":
            opened = Bundle.open(bundle.path)
            scorer = open_resident_scorer(opened, Catalogue(opened), Device.CPU, 1)
            engine._view = replace(engine._view, scorer=scorer)
        yield engine


ids = st.sampled_from([f"{kind}{row}" for kind in "inx" for row in range(60)])


@st.composite
def calls(draw, engine):
    users = draw(st.lists(st.sampled_from(USERS), min_size=1, max_size=6))
    # Those that score well come often, else hardly any filter would change an answer.
    best = engine.recommend({}, 40, include_seen=True).item_ids
    some = st.lists(ids | st.sampled_from(best), max_size=40)
    each = st.builds(
        ItemFilter, exclude=some, allow=st.none() | st.none() | some, include_seen=st.booleans()
    )
    filters = draw(st.lists(each | st.just(EVERYTHING), min_size=len(users), max_size=len(users)))
    return users, filters, draw(st.sampled_from([1, 10, 300]))


def assert_same(found, expected):
    assert found.item_ids == expected.item_ids
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert (found.served_as, found.plan) == (expected.served_as, expected.plan)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_each_user_has_what_its_filter_leaves(engine, data):
    users, filters, k = data.draw(calls(engine))
    # ONNX Runtime adds up in another order for another number of users.
    to_the_bit = not isinstance(engine._view.scorer, ResidentScorer)
    together = engine.recommend_many(users, k, filters=filters)
    for at, (mine, user, found) in enumerate(zip(filters, users, together, strict=True)):
        assert_same(found, engine.recommend_many(users, k, **asdict(mine))[at])
        alone = engine.recommend(user, k, **asdict(mine))
        if to_the_bit:
            assert_same(found, alone)
        else:
            np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-5, atol=1e-5)


def test_filters_join_what_else_is_asked(engine, bundle):
    best = engine.recommend({}, 30).item_ids
    filters = [ItemFilter(exclude=best[:5]), EVERYTHING, ItemFilter(allow=best[10:])]
    options = {
        "where": [Predicate.between("year", 0, 10_000)],
        "caps": [Cap(attribute="title", most=1)],
        "diversity": Diversity(weight=0.5),
    }
    together = engine.recommend_many([{}] * 3, 9, filters=filters, **options)
    for at, (mine, found) in enumerate(zip(filters, together, strict=True)):
        assert len(found) == 9
        assert_same(found, engine.recommend_many([{}] * 3, 9, **asdict(mine), **options)[at])


def test_codes_are_scanned_where_there_are_some(make_bundle, monkeypatch):
    """Else the cases above that name codes would test nothing of them."""
    monkeypatch.setattr("fuserank.export.items._MIN_CODED_BYTES", 0)
    with load(make_bundle("dot", N_ITEMS).path, device="cpu") as engine:
        assert isinstance(engine._scorer, QuantizedScorer)


def test_ids_of_one_filter_are_looked_up_once():
    class Items:
        asked = 0

        def known_rows(self, item_ids, field):
            self.asked += 1
            return np.array([int(item_id) for item_id in item_ids])

    items, one = Items(), ItemFilter(exclude=["4", "5"], allow=["6"])
    seen = [np.array([user]) for user in range(3)]
    found = rows_of([one, ItemFilter(include_seen=True), one], seen, items)
    assert items.asked == 3
    assert [
        (rows.tolist(), allow if allow is None else allow.tolist()) for rows, allow in found
    ] == [
        ([4, 5, 0], [6]),
        ([], None),
        ([4, 5, 2], [6]),
    ]


@pytest.mark.parametrize(
    ("options", "message", "field"),
    [
        ({"filters": [EVERYTHING]}, "found 1 for 2 users, expected a list of", "filters"),
        ({"filters": EVERYTHING}, "filters: found ItemFilter, expected a list of", "filters"),
        ({"filters": "ab"}, "filters: found str, expected a list of", "filters"),
        ({"filters": [EVERYTHING, None]}, "filters: found NoneType among them", "filters"),
        ({"filters": [ItemFilter(exclude="i1"), EVERYTHING]}, "exclude: found one str", "exclude"),
        ({"filters": [EVERYTHING, ItemFilter(allow=5)]}, "allow: found int", "allow"),
        ({"exclude": ["i1"]}, "filters: found exclude, allow or include_seen beside", "filters"),
        ({"exclude": 5}, "filters: found exclude, allow or include_seen beside", "filters"),
        ({"allow": []}, "filters: found exclude, allow or include_seen beside", "filters"),
        ({"include_seen": True}, "filters: found exclude, allow or include_seen", "filters"),
    ],
)
def test_what_is_no_filter_for_each_is_refused(tiny_bundle, options, message, field):
    with load(tiny_bundle.path, device="cpu") as engine:
        with pytest.raises(RequestError, match=message) as error:
            engine.recommend_many([{}, {}], **{"filters": [EVERYTHING] * 2, **options})
        assert error.value.field == field
