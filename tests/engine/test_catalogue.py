"""Items and users are found by id without any list of all ids being made."""

from unittest import mock

import numpy as np
import pytest

from fuserank.bundle import Bundle, IdIndex, Strings
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.engine import load
from fuserank.engine.stored_users import StoredUsers
from fuserank.errors import RequestError, UnknownItemError


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle.path)


@pytest.fixture(scope="module")
def catalogue(bundle):
    return Catalogue(bundle)


def test_ids_and_rows_are_those_of_the_table(catalogue, tiny_bundle):
    ids = list(tiny_bundle.items.ids)
    assert list(catalogue.every_id) == ids
    assert dict(catalogue.row_of) == {each: row for row, each in enumerate(ids)}
    rows = np.array([149, 0, 7, 7])
    assert catalogue.ids(rows) == ("i149", "i0", "i7", "i7")
    assert catalogue.rows(catalogue.ids(rows), "history").tolist() == rows.tolist()
    assert catalogue.rows([], "history").dtype == np.int64


UNKNOWN = ["i150", "I1", "i1 ", "", "\ud800", 1, None, [1]]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_id_is_named_and_counted(catalogue, unknown):
    with pytest.raises(UnknownItemError, match=r"^history: found 2 item id\(s\)") as raised:
        catalogue.rows(["i1", unknown, "i2", unknown], "history")
    assert f"the first being {unknown!r}" in str(raised.value)


def test_unknown_ids_are_passed_over_where_they_may_be(catalogue):
    assert catalogue.known_rows(["i3", *UNKNOWN, "i1"], "exclude").tolist() == [3, 1]
    assert sorted(catalogue.known_rows({"i3", "i1"}, "exclude").tolist()) == [1, 3]


@pytest.mark.parametrize("given", ["i1", 3, None])
def test_what_is_no_list_of_ids_is_refused(catalogue, given):
    for rows in (catalogue.rows, catalogue.known_rows):
        with pytest.raises(RequestError, match="expected a list of item ids"):
            rows(given, "exclude")


def test_stored_users_are_those_of_the_table(bundle, tiny_bundle):
    users = StoredUsers(bundle)
    ids = list(tiny_bundle.users.ids)
    assert len(users) == len(ids)
    assert [users.row(each) for each in ids] == list(range(len(ids)))
    assert users.row("nobody") is None
    assert users.ids(2) == tuple(ids[:2])
    assert users.ids(99) == tuple(ids)


def test_loading_serving_and_changing_items_read_no_list_of_all_ids(tiny_bundle, tmp_path):
    n_users, read = len(tiny_bundle.users.ids), Strings.__iter__

    def short_alone(strings):  # such as the names of attributes
        assert len(strings) < n_users, "all ids are read"
        return read(strings)

    with (
        mock.patch.object(Strings, "__iter__", short_alone),
        mock.patch.object(IdIndex, "__iter__", short_alone),
    ):
        engine = load(tiny_bundle.path, "cpu", live=tmp_path / "live", threads=1)
        try:
            user = {"user_id": "u1", "history": ["i4", "i5"]}
            before = engine.recommend(user, k=3, exclude=["i9", "nothing"]).item_ids
            assert len(before) == 3
            engine.upsert({"new": {"vector": [9.0] * 4}, "i4": {"vector": [0.0] * 4}})
            assert engine.delete([before[0], "never"]) == 1
            after = engine.recommend(user, k=3).item_ids
            assert before[0] not in after
            assert engine.item("new").live
            assert engine.score(user, ["i1", "new"]).item_ids == ("i1", "new")
        finally:
            engine.close()
