"""Vocabularies: rows of known, unknown and missing values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.errors import SchemaError
from fuserank.schema.categorical import UNKNOWN, Vocabulary


def test_frequent_values_come_first_then_order_of_appearance():
    assert Vocabulary.fit(["b", "a", "c", "a", None, ""], "f").values == ("a", "b", "c")


def test_lists_count_each_entry():
    assert Vocabulary.fit([["x", "y"], ("y",), None, []], "f").values == ("y", "x")


def test_whole_numbers_are_known_however_they_are_written():
    vocabulary = Vocabulary.fit([7, 7.0, "7", np.int64(7)], "f")
    assert vocabulary.values == ("7",)
    assert vocabulary.rows([7, 7.0, "7", np.int32(7)], "id").tolist() == [1, 1, 1, 1]


def test_missing_and_unseen_values_have_the_unknown_row():
    vocabulary = Vocabulary.fit(["a"], "f")
    found = vocabulary.rows(["a", "b", None, math.nan, ""], "f")
    assert found.tolist() == [1, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]
    assert found.dtype == np.int64
    assert len(vocabulary) == 2


def test_lists_drop_the_unknown_and_the_repeated_and_are_cut_and_filled():
    vocabulary = Vocabulary.fit([["a", "b", "c"]], "f")
    rows = vocabulary.lists([["z", "c", "c", "a", "b"], None, [], ["b"]], "f", width=2)
    assert rows.tolist() == [[3, 1], [0, 0], [0, 0], [2, 0]]
    assert rows.dtype == np.int64


@given(st.lists(st.text(min_size=1) | st.none()))
def test_every_fitted_value_finds_its_own_row(column):
    vocabulary = Vocabulary.fit(column, "f")
    rows = vocabulary.rows(column, "f").tolist()
    for value, row in zip(column, rows, strict=True):
        assert row == UNKNOWN if value is None else vocabulary.values[row - 1] == value


@pytest.mark.parametrize(
    ("value", "name"), [(0.5, "float"), (["a"], "list"), ({}, "dict"), (math.inf, "float")]
)
def test_a_value_that_is_no_category_is_named(value, name):
    with pytest.raises(
        SchemaError, match=f"field 'genre', row 1: found {name}, expected text or a whole number"
    ):
        Vocabulary.fit(["a"], "f").rows(["a", value], "genre")


def test_a_single_value_is_no_list():
    with pytest.raises(SchemaError, match="field 'genres', row 0: found str, expected a list"):
        Vocabulary.fit(["a"], "f").lists(["a"], "genres", width=3)


def test_a_list_within_a_list_is_named():
    with pytest.raises(SchemaError, match="field 'genres', row 1: found list, expected text"):
        Vocabulary.fit(["a"], "f").lists([None, [["a"]]], "genres", width=3)


def test_fitting_a_value_that_is_no_category_is_named():
    with pytest.raises(SchemaError, match="field 'f', row 1: found float, expected text or"):
        Vocabulary.fit(["a", 0.5], "f")


def test_a_value_cannot_occur_twice():
    with pytest.raises(SchemaError, match="a value occurs twice"):
        Vocabulary(("a", "a"))
