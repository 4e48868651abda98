"""The index of a catalogue's attributes, held against predicates on one item after the other."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.engine.attribute_index import AttributeIndex
from fuserank.engine.predicates import Predicate
from fuserank.errors import RequestError

# Few different values, so that items share them, and those that are easily mixed up.
scalars = st.one_of(
    st.sampled_from(["", "a", "b", "1", "nan", "True", 0, 1, 2, 2.0, 1.5, -0.0, True, False]),
    st.sampled_from([2**53, 2**53 + 1, float(2**53), 1e308]),
    st.integers(-3, 3),
    st.floats(-3, 3),
)
odd = st.sampled_from([None, math.nan, math.inf, -math.inf, 10**400, {"a": 1}, [["a"]]])
items = st.lists(
    st.dictionaries(
        st.sampled_from(["x", "y"]),
        st.one_of(scalars, odd, st.lists(st.one_of(scalars, odd), max_size=4)),
    ),
    max_size=150,
)
bounds = st.none() | st.floats(-4, 4) | st.just(2.0**53)
predicates = st.one_of(
    st.builds(Predicate.equals, st.sampled_from(["x", "y"]), scalars),
    st.builds(Predicate.one_of, st.sampled_from(["x", "y"]), st.lists(scalars, max_size=4)),
    st.tuples(st.sampled_from(["x", "y"]), bounds, bounds)
    .filter(lambda args: args[1] is None or args[2] is None or args[1] <= args[2])
    .map(lambda args: Predicate.between(*args)),
)


def rows_of(words, n_items):
    assert words.dtype == np.uint64
    assert words.shape == (-(-n_items // 64),)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
    assert not bits[n_items:].any()
    return np.flatnonzero(bits).tolist()


def index_of(attributes):
    return AttributeIndex(len(attributes), attributes.__getitem__)


@given(items, st.lists(predicates, max_size=3))
def test_the_index_finds_what_matches(attributes, where):
    attributes = [*attributes, {"x": None, "y": None}]  # both attributes exist
    expected = [
        row for row, mine in enumerate(attributes) if all(test.matches(mine) for test in where)
    ]
    index = index_of(attributes)
    for _ in range(2):  # computed, then kept
        assert rows_of(index.words(where), len(attributes)) == expected


@given(items, st.lists(scalars, max_size=5))
def test_rows_with_some_values(attributes, values):
    expected = [
        row for row, mine in enumerate(attributes) if Predicate.one_of("x", values).matches(mine)
    ]
    assert rows_of(index_of(attributes).words_with("x", values), len(attributes)) == expected


def test_what_is_kept_is_not_changed_by_those_who_use_it():
    index = index_of([{"x": row % 2} for row in range(100)])
    odd_rows = Predicate.equals("x", 1)
    words = index.words([odd_rows])
    words[:] = 0
    assert len(rows_of(index.words([odd_rows]), 100)) == 50


def test_an_attribute_is_read_once():
    looks = []

    def attributes_of(row):
        looks.append(row)
        return {"x": row, "y": str(row)}

    index = AttributeIndex(70, attributes_of)
    assert not looks
    for least in range(70):
        assert len(rows_of(index.words([Predicate.between("x", least)]), 70)) == 70 - least
    assert len(looks) == 70
    index.words([Predicate.equals("y", "3"), Predicate.equals("x", 3)])
    assert len(looks) == 140


def test_an_attribute_that_no_item_has_is_named():
    index = index_of([{"year": 1979, "genres": []}, {"title": "Alien"}])
    with pytest.raises(
        RequestError,
        match="where: no item has the attribute 'genre'; the attributes are genres, title, year; "
        "did you mean 'genres'",
    ) as error:
        index.words([Predicate.equals("genre", "War")])
    assert error.value.field == "where"
    with pytest.raises(RequestError, match=r"caps: no item has the attribute 'x'.*year$"):
        index.check(["year", "x"], "caps")
    assert rows_of(index.words([Predicate.equals("genres", "War")]), 2) == []


def test_made_up_attributes_cost_no_second_look_and_no_memory():
    looks = []

    def attributes_of(row):
        looks.append(row)
        return {f"a{name}": 1 for name in range(30)}

    index = AttributeIndex(3, attributes_of)
    for name in ("b", "c", "b"):
        with pytest.raises(RequestError, match=r"a0, a1, a10.* and 10 more"):
            index.words([Predicate.equals(name, 1)])
    assert len(looks) == 6  # for the attribute, and for the names of all
    assert not index._columns


def test_no_items_no_attributes():
    with pytest.raises(RequestError, match="the attributes are none at all"):
        index_of([]).words([Predicate.equals("x", 1)])
    assert index_of([]).words([]).shape == (0,)


def test_callers_at_once_share_one_column():
    barrier, looks = threading.Barrier(4, timeout=30), []

    def attributes_of(row):
        looks.append(row)
        return {"x": row}

    index = AttributeIndex(1000, attributes_of)

    def ask(least):
        barrier.wait()
        return len(rows_of(index.words([Predicate.between("x", least)]), 1000))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [1000, 999, 998, 997]
    assert len(looks) == 1000


def test_what_is_kept_is_bounded():
    index = index_of([{"x": row} for row in range(10)])
    for value in range(1000):
        index.words([Predicate.equals("x", value)])
    kept = index._words_of.cache_info()
    assert kept.currsize <= 64
    for values in (["x" * 20_000], range(20_000)):
        index.words([Predicate.one_of("x", values)])
    assert index._words_of.cache_info() == kept


@given(items, items, items, st.lists(predicates, min_size=1, max_size=3))
def test_an_index_that_grows_is_that_of_all_items(first, second, third, where):
    first = [*first, {"x": None}]
    index = index_of(first)
    index.holding(where)  # reads what is asked for, of the first items
    for more in (second, third):
        first = [*first, *more]
        index = index.grown(len(first), first.__getitem__)
    whole = index_of(first)
    np.testing.assert_array_equal(index.holding(where), whole.holding(where))
    assert index.names() == whole.names()
    for name in ("x", "y"):
        assert index.has(name) == whole.has(name)


def test_what_was_read_is_not_read_again_of_an_index_that_grows():
    looks = []

    def attributes_of(row):
        looks.append(row)
        return {"x": row % 3}

    index = AttributeIndex(70, attributes_of)
    index.words([Predicate.equals("x", 1)])
    for n_items in (71, 80, 200):
        index = index.grown(n_items, attributes_of)
    assert len(looks) == 70
    assert len(rows_of(index.words([Predicate.equals("x", 1)]), 200)) == 67
    assert looks[70:] == [*range(70, 200)]
