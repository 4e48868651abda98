"""The bitmap of eligible items."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fuserank.engine.scoring import Eligibility

NO_ROWS = np.empty(0, dtype=np.int64)


def items_of(words):
    """Read a bitmap back as a set of rows."""
    return {
        64 * i + bit
        for i, word in enumerate(words.tolist())
        for bit in range(64)
        if word >> bit & 1
    }


def test_a_catalogue_starts_eligible_and_ends_where_it_ends():
    for n_items in (0, 1, 63, 64, 65, 130):
        words = Eligibility(n_items).words([(NO_ROWS, None)])
        assert words.shape == (1, -(-n_items // 64))
        assert words.dtype == np.uint64
        assert items_of(words[0]) == set(range(n_items))


def test_no_users_no_rows():
    assert Eligibility(70).words([]).shape == (0, 2)


def test_an_empty_allow_list_allows_nothing():
    assert items_of(Eligibility(70).words([(NO_ROWS, NO_ROWS)])[0]) == set()


def test_one_users_rows_do_not_leak_into_the_next():
    eligibility = Eligibility(70)
    first = eligibility.words([(np.arange(70), None), (NO_ROWS, None)])
    assert [len(items_of(row)) for row in first] == [0, 70]
    assert len(items_of(eligibility.words([(NO_ROWS, None)])[0])) == 70


@st.composite
def catalogues(draw):
    n_items = draw(st.integers(1, 200))
    rows = st.lists(st.integers(0, n_items - 1), max_size=20)
    return n_items, draw(st.lists(st.tuples(rows, st.none() | rows), min_size=1, max_size=4))


@given(catalogues(), st.sampled_from([np.int32, np.int64]))
def test_eligible_is_what_is_allowed_and_not_excluded(catalogue, dtype):
    n_items, users = catalogue
    words = Eligibility(n_items).words(
        [
            (np.array(excluded, dtype), None if allowed is None else np.array(allowed, dtype))
            for excluded, allowed in users
        ]
    )
    for mine, (excluded, allowed) in zip(words, users, strict=True):
        wanted = set(range(n_items)) if allowed is None else set(allowed)
        assert items_of(mine) == wanted - set(excluded)
