"""Rows by id, as of a version."""

from fuserank.engine.live.row_index import RowIndex


def test_each_version_sees_what_was_true_of_it():
    index = RowIndex({"a": 0, "b": 1})
    index.put("a", 1, 64)
    index.put("c", 2, 65)
    index.put("a", 3, None)
    index.put("a", 5, 70)
    assert [index.find("a", version) for version in range(6)] == [0, 64, 64, None, None, 70]
    assert [index.find("c", version) for version in (1, 2, 9)] == [None, 65, 65]
    assert index.find("b", 9) == 1
    assert index.find("z", 9) is None
    assert index.n_changed == 2


def test_folded_items_lie_over_the_bundle_and_under_changes():
    index = RowIndex({"a": 0, "b": 1, "c": 2}, {"a": 64, "b": None})
    assert [index.find(i, 0) for i in "abc"] == [64, None, 2]
    index.put("b", 1, 128)
    assert (index.find("b", 0), index.find("b", 1)) == (None, 128)


def test_an_item_is_live_once_it_is_elsewhere_than_in_the_bundle():
    index = RowIndex({"a": 0, "b": 1}, {"b": 64})
    index.put("a", 2, 70)
    assert [index.is_live("a", version) for version in (1, 2)] == [False, True]
    assert index.is_live("b", 0)
    assert not index.is_live("z", 9)
