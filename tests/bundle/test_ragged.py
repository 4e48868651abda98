"""Rows of different length in flat arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.bundle import Ragged, Strings


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=6))
def test_rows_come_back_as_they_were(rows):
    ragged = Ragged.build([np.array(row, dtype=np.int64) for row in rows], np.int32)
    assert len(ragged) == len(rows)
    assert [ragged[i].tolist() for i in range(len(rows))] == rows
    assert ragged.values.dtype == np.int32
    assert ragged.offsets.dtype == np.int64
    assert (ragged.offsets[0], ragged.offsets[-1]) == (0, len(ragged.values))


def test_a_row_is_a_view():
    ragged = Ragged.build([np.array([1, 2]), np.array([3])], np.int64)
    assert np.shares_memory(ragged[0], ragged.values)


@given(st.lists(st.text(), max_size=6))
def test_strings_come_back_as_they_were(texts):
    strings = Strings.build(texts)
    assert list(strings) == texts
    assert [strings[i] for i in range(len(strings))] == texts


@given(st.lists(st.text(), max_size=6), st.slices(6), st.data())
def test_strings_are_read_as_a_list_is(texts, some, data):
    strings = Strings.build(texts)
    assert strings[some] == texts[some]
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=9)) if texts else []
    assert strings.take(np.array(rows, dtype=np.int64)) == tuple(texts[row] for row in rows)
    assert [strings[row - len(texts)] for row in rows] == [texts[row] for row in rows]
    for row in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError):
            strings[row]


def test_more_strings_than_are_read_at_once():
    texts = [str(row) for row in range(10_000)]
    assert list(Strings.build(texts)) == texts


@pytest.mark.parametrize("texts", [[], [""], ["", "a\0b", "日本"]])
def test_strings_of_odd_content(texts):
    assert list(Strings.build(iter(texts))) == texts
