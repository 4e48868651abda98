"""Cleaning leaves out what it says, in its order, and counts it."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.schema import Field, Kind, Schema, Side
from fuserank.training.data.cleaning import CleaningReport, Step, clean, repaired_values
from fuserank.training.data.dataset_config import CleaningConfig
from fuserank.training.data.interactions import Interactions

N = 8
"""Rows of either table."""


def make(*rows: tuple[int, int, float, int]) -> Interactions:
    """Interactions of (user, item, rating, time); a rating of 4 or more is a positive."""
    user, item, rating, time = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Interactions(
        user=np.array(user, np.int32),
        item=np.array(item, np.int32),
        rating=np.array(rating, np.float32),
        timestamp=np.array(time, np.int64),
        positive=np.array(rating, np.float32) >= 4,
    )


def cleaned(interactions: Interactions, **options) -> tuple[list[tuple[int, int]], CleaningReport]:
    """The (user, item) pairs that are left, and the report."""
    left, report = clean(interactions, CleaningConfig(**options), n_users=N, n_items=N)
    return list(zip(left.user.tolist(), left.item.tolist(), strict=True)), report


def test_only_repeated_pairs_go_unless_more_is_asked_for():
    left, report = clean(
        make((0, 0, 9, -5), (0, 0, 1, 3), (0, 0, 2, 1)), CleaningConfig(), n_users=N, n_items=N
    )
    assert left.rating.tolist() == [1]
    assert report.steps == (Step(name="repeated pairs", affected=2, total=3),)


@pytest.mark.parametrize("rating", [0.9, 5.1, -1, np.inf])
def test_impossible_ratings_go(rating):
    left, report = cleaned(
        make((0, 0, rating, 1), (0, 1, 1, 1), (1, 0, 5, 1)), rating_range=(1.0, 5.0)
    )
    assert left == [(0, 1), (1, 0)]
    assert report.affected("impossible ratings") == 1


def test_a_limit_that_float32_cannot_write_exactly_is_possible():
    left, _ = cleaned(make((0, 0, 0.1, 1), (0, 1, 4.9, 1)), rating_range=(0.1, 4.9))
    assert left == [(0, 0), (0, 1)]


def test_an_impossible_rating_does_not_replace_a_possible_one():
    left, report = clean(
        make((0, 0, 4, 1), (0, 0, 99, 2)),
        CleaningConfig(rating_range=(1, 5)),
        n_users=N,
        n_items=N,
    )
    assert left.rating.tolist() == [4]
    assert [step.affected for step in report.steps] == [1, 0]


def test_negative_times_go():
    left, report = cleaned(make((0, 0, 5, -1), (0, 1, 5, 0)), drop_negative_times=True)
    assert left == [(0, 1)]
    assert report.affected("negative times") == 1


def test_contradictions_go_whole_and_mere_repetitions_keep_their_latest():
    rows = make((0, 0, 5, 1), (0, 0, 2, 2), (0, 1, 4, 1), (0, 1, 5, 2), (1, 0, 1, 1), (1, 0, 2, 2))
    left, report = cleaned(rows, drop_contradictions=True)
    assert left == [(0, 1), (1, 0)]
    assert [(step.name, step.affected, step.total) for step in report.steps] == [
        ("contradictions", 2, 6),
        ("repeated pairs", 2, 4),
    ]


def test_users_of_too_many_interactions_go():
    rows = make(*((0, item, 5, 1) for item in range(4)), (1, 0, 5, 1), (1, 1, 5, 1))
    left, report = cleaned(rows, max_interactions_per_user=3)
    assert left == [(1, 0), (1, 1)]
    assert report.affected("users of too many interactions") == 4


def test_the_core_is_found_in_as_many_passes_as_it_takes():
    # Item 3 has one user, without whom user 2 has one item, without whom item 2 has one user.
    chain = [(2, 3, 5, 1), (2, 2, 5, 1), (1, 2, 5, 1)]
    core = [(0, 0, 5, 1), (0, 1, 5, 1), (1, 0, 5, 1), (1, 1, 5, 1)]
    left, report = cleaned(make(*chain, *core), min_user_interactions=2, min_item_interactions=2)
    assert left == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert report.affected("users or items of too few interactions") == 3


PAIRS = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=60)


@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_all_of_the_core_have_enough_and_it_is_the_largest_such(pairs, least_user, least_item):
    rows = make(*((user, item, 5, 1) for user, item in pairs))
    left, _ = cleaned(rows, min_user_interactions=least_user, min_item_interactions=least_item)
    expected = set(pairs)
    while True:  # one at a time
        poor = [
            pair
            for pair in expected
            if sum(user == pair[0] for user, _ in expected) < least_user
            or sum(item == pair[1] for _, item in expected) < least_item
        ]
        if not poor:
            break
        expected.remove(poor[0])
    assert sorted(left) == sorted(expected)


@given(PAIRS, st.lists(st.sampled_from([-1.0, 1.0, 4.0, 9.0]), min_size=60, max_size=60))
def test_the_report_accounts_for_every_interaction(pairs, ratings):
    rows = make(
        *(
            (u, i, r, n - 9)
            for n, ((u, i), r) in enumerate(zip(pairs, ratings[: len(pairs)], strict=True))
        )
    )
    left, report = cleaned(
        rows,
        rating_range=(1, 5),
        drop_negative_times=True,
        drop_contradictions=True,
        max_interactions_per_user=5,
        min_user_interactions=2,
    )
    assert len(left) + sum(step.affected for step in report.steps) == len(pairs)
    totals = [step.total for step in report.steps]
    after = [step.total - step.affected for step in report.steps]
    assert totals == [len(pairs), *after[:-1]]
    assert len(set(left)) == len(left)


def test_the_report_is_a_table_and_json():
    report = CleaningReport(
        (
            Step(name="impossible ratings", affected=3, total=1000),
            Step(name="repeated pairs", affected=120, total=997),
        )
    )
    assert str(report) == "impossible ratings    3 of 1000\nrepeated pairs      120 of 997"
    assert json.loads(json.dumps(asdict(report)))["steps"][1]["affected"] == 120
    assert report.affected("no such step") == 0
    assert str(CleaningReport()) == ""


def test_repaired_values_are_named_by_field():
    fields = [
        Field(name="age", side=Side.USER, kind=Kind.NUMBER, column="years", outliers="iqr"),
        Field(name="job", side=Side.USER, kind=Kind.CATEGORY),
        Field(name="full", side=Side.USER, kind=Kind.CATEGORY),
        Field(name="genres", side=Side.ITEM, kind=Kind.CATEGORIES),
        Field(name="cover", side=Side.ITEM, kind=Kind.VECTOR),
        Field(name="terms", side=Side.ITEM, kind=Kind.WORDS, template="{title}", min_rows=1),
        Field(name="text", side=Side.ITEM, kind=Kind.TEXT, template="{title}"),
        Field(name="hour", side=Side.CONTEXT, kind=Kind.NUMBER),
    ]
    tables = {
        Side.USER: {
            "years": [1, 2, 3, 4, 5, 900, None],
            "job": ["cook", None, "", "cook", "cook", None, "cook"],
            "full": ["x"] * 7,
        },
        Side.ITEM: {
            "title": ["Alien", None],
            "genres": [[], ["War"]],
            "cover": [None, [1.0]],
        },
    }
    schema = Schema.fit(fields, tables, text_dim=4)
    assert str(repaired_values(schema, tables)).splitlines() == [
        "user.age: outliers    1 of 7",
        "user.age: missing     1 of 7",
        "user.job: missing     3 of 7",
        "item.genres: missing  1 of 2",
        "item.cover: missing   1 of 2",
        "item.terms: missing   1 of 2",
    ]
