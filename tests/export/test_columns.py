"""Stored columns find what predicates on one item after the other do, through a bundle's files."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.bundle import Bundle, BundleWriter, layout
from fuserank.engine.attribute_index import AttributeIndex
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.predicates import Predicate
from fuserank.engine.stored_columns import StoredColumns
from fuserank.errors import BundleIntegrityError, RequestError
from fuserank.export.columns import build_columns, write_columns

# Few different values, so that items share them, and those that are easily mixed up.
scalars = st.one_of(
    st.sampled_from(["", "a", "b", "1", "nan", "True", "日本", 0, 1, 2, 2.0, 1.5, -0.0, True]),
    st.sampled_from([2**53, 2**53 + 1, float(2**53), 1e308, 10**400, 5e-324]),
    st.integers(-3, 3),
    st.floats(-3, 3),
)
odd = st.sampled_from([None, math.nan, math.inf, -math.inf, {"a": 1}, [["a"]]])
names = st.sampled_from(["x", "y", "a/b", ""])
items = st.lists(
    st.dictionaries(names, st.one_of(scalars, odd, st.lists(st.one_of(scalars, odd), max_size=4))),
    max_size=150,
)
bounds = st.none() | st.floats(-4, 4) | st.just(2.0**53)
asked = st.sampled_from(["x", "y", "a/b"])
predicates = st.one_of(
    st.builds(Predicate.equals, asked, scalars),
    st.builds(Predicate.one_of, asked, st.lists(scalars, max_size=4)),
    st.tuples(asked, bounds, bounds)
    .filter(lambda args: args[1] is None or args[2] is None or args[1] <= args[2])
    .map(lambda args: Predicate.between(*args)),
)


def index_of(attributes):
    """Return an index that would fail if it read an item."""
    return AttributeIndex(len(attributes), None, build_columns(attributes).by_name())


def rows_of(words, n_items):
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
    assert not bits[n_items:].any()
    return np.flatnonzero(bits).tolist()


@given(items, st.lists(predicates, max_size=3), st.lists(scalars, max_size=5))
def test_columns_find_what_matches(attributes, where, values):
    attributes = [*attributes, {"x": None, "y": None, "a/b": []}]  # all exist
    index = index_of(attributes)
    expected = [
        row for row, mine in enumerate(attributes) if all(test.matches(mine) for test in where)
    ]
    for _ in range(2):  # computed, then kept
        assert rows_of(index.words(where), len(attributes)) == expected
    one_of = Predicate.one_of("x", values)
    expected = [row for row, mine in enumerate(attributes) if one_of.matches(mine)]
    assert rows_of(index.words_with("x", values), len(attributes)) == expected


@given(items)
def test_attributes_are_those_that_any_item_has(attributes):
    expected = {name for mine in attributes for name in mine}
    index = index_of(attributes)
    assert index.names() == expected
    for name in ("x", "y", "a/b", "", "z"):
        assert index.has(name) == (name in expected)


def test_many_values_are_all_found():
    rng = np.random.default_rng(0)
    order = rng.permutation(5000).tolist()
    attributes = [{"number": n, "half": n / 2, "text": str(n), "few": n % 3} for n in order]
    index = index_of(attributes)
    for row in rng.integers(0, 5000, 200).tolist():
        for name, value in attributes[row].items():
            if name != "few":
                assert rows_of(index.words([Predicate.equals(name, value)]), 5000) == [row]
    assert len(rows_of(index.words([Predicate.equals("few", 1)]), 5000)) == 1667
    some = Predicate.one_of("text", [str(n) for n in range(4000, 6000)])
    assert len(rows_of(index.words([some]), 5000)) == 1000


def test_a_text_that_no_item_can_have_is_found_nowhere():
    index = index_of([{"x": "a"}, {"x": "?"}])
    assert rows_of(index.words([Predicate.equals("x", "\ud800")]), 2) == []


def test_an_index_that_grows_reads_what_was_stored():
    items = [{"x": row % 3} for row in range(100)]
    index = AttributeIndex(70, None, build_columns(items[:70]).by_name())
    where = [Predicate.equals("x", 1)]
    assert len(rows_of(index.words(where), 70)) == 23
    grown = index.grown(100, items.__getitem__)
    assert rows_of(grown.words(where), 100) == [row for row in range(100) if row % 3 == 1]


@pytest.mark.parametrize(
    "attributes", [[], [{}, {}], [{"b": ["Léon", 1, 2.5], "a": "x" * 100_000}, {"c": None}]]
)
def test_what_is_written_is_what_is_mapped(tmp_path, attributes):
    columns = build_columns(attributes)
    write_columns(BundleWriter(tmp_path), columns)
    mapped = StoredColumns.open(Bundle(tmp_path, None))
    assert list(mapped.names) == sorted({name for mine in attributes for name in mine})
    for name in ("digests", "rows", "numbers"):
        for part in ("values", "offsets"):
            found, expected = (getattr(getattr(c, name), part) for c in (mapped, columns))
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(mapped.number_rows, columns.number_rows)
    if not mapped.by_name():
        with pytest.raises(RequestError, match="the attributes are none at all"):
            AttributeIndex(len(attributes), None, mapped.by_name()).check(["x"], "where")


def test_columns_of_long_texts_are_short():
    columns = build_columns([{"text": f"{row}" * 10_000} for row in range(10)])
    assert columns.digests.values.nbytes == 160


def test_a_bundle_answers_from_its_columns(tiny_bundle):
    bundle = Bundle.open(tiny_bundle.path)
    catalogue = Catalogue(bundle)
    index = AttributeIndex(len(catalogue), None, StoredColumns.open(bundle).by_name())
    assert index.names() == {"title", "year"}
    for where in ([Predicate.between("year", 1910, 1920)], [Predicate.equals("title", "Film 7")]):
        expected = [
            row for row in range(len(catalogue)) if where[0].matches(catalogue.attributes_of(row))
        ]
        assert expected
        assert rows_of(index.words(where), len(catalogue)) == expected


def test_a_bundle_without_columns_is_damaged(tmp_path):
    with pytest.raises(BundleIntegrityError, match="columns/names"):
        StoredColumns.open(Bundle(tmp_path, None))
    assert layout.column("names").startswith("catalogue/")
