"""Predicates on the attributes of one item."""

import math

import numpy as np
import pytest

from fuserank.engine.predicates import Predicate, check_where
from fuserank.errors import RequestError

equals, one_of, between = Predicate.equals, Predicate.one_of, Predicate.between
FILM = {"title": "Alien", "year": 1979, "stars": 4.5, "genres": ["Horror", "Sci-Fi", 3, None]}


@pytest.mark.parametrize(
    ("predicate", "attributes", "expected"),
    [
        (equals("title", "Alien"), FILM, True),
        (equals("title", "alien"), FILM, False),
        (equals("year", 1979), FILM, True),
        (equals("year", 1979.0), FILM, True),
        (equals("year", np.int64(1979)), FILM, True),
        (equals("stars", np.float32(4.5)), FILM, True),
        # Numbers compare with numbers, strings with strings.
        (equals("year", "1979"), FILM, False),
        (equals("zip", 1), {"zip": "1"}, False),
        (between("zip"), {"zip": "1"}, False),
        # A boolean is a number.
        (equals("free", True), {"free": True}, True),
        (equals("free", 1), {"free": True}, True),
        (equals("free", 0), {"free": False}, True),
        (equals("free", True), {"free": False}, False),
        (equals("free", "true"), {"free": True}, False),
        (between("free", least=1), {"free": True}, True),
        # Of a list, one entry is enough.
        (equals("genres", "Sci-Fi"), FILM, True),
        (equals("genres", "Drama"), FILM, False),
        (one_of("genres", ["Drama", "Horror"]), FILM, True),
        (between("genres", 3, 3), FILM, True),
        (one_of("genres", []), FILM, False),
        (equals("genres", "Horror"), {"genres": [["Horror"]]}, False),
        # Bounds are included.
        (between("year", 1979, 1979), FILM, True),
        (between("year", least=1980), FILM, False),
        (between("year", most=1978.5), FILM, False),
        (between("year"), FILM, True),
        (between("title"), FILM, False),
        # What is missing fails.
        (equals("director", "Scott"), FILM, False),
        (between("director"), FILM, False),
        (between("year", most=3000), {"year": None}, False),
        (between("year", most=3000), {"year": {"of": 1979}}, False),
        (between("year"), {"year": math.nan}, False),
        (between("year", least=1e308), {"year": 10**400}, True),
        (between("year", most=0), {"year": -(10**400)}, True),
        (equals("id", 2**53 + 1), {"id": 2**53}, False),
        (equals("id", 2**53 + 1), {"id": 2**53 + 1}, True),
    ],
)
def test_what_is_true_of_an_item(predicate, attributes, expected):
    assert predicate.matches(attributes) is expected


def test_equal_predicates_are_one_key():
    assert len({one_of("a", [1, "x"]), one_of("a", ("x", 1.0)), one_of("a", {True, "x"})}) == 1
    assert equals("a", "x") == one_of("a", ["x", "x"])
    assert between("a", 1) == between("a", 1.0)
    assert between("a", 1) != between("b", 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: equals("year", None), "attribute 'year': found NoneType, expected a string or"),
        (lambda: equals("year", [1, 2]), "attribute 'year': found list, expected a string or"),
        (lambda: equals("year", math.nan), "attribute 'year': found nan, expected a string or a"),
        (lambda: one_of("year", [1, math.inf]), "attribute 'year': found inf"),
        (lambda: one_of("title", "Alien"), "'title': found str, expected a list of values"),
        (lambda: one_of("year", 5), "'year': found int, expected a list of values"),
        (lambda: between("year", 2000, 1999), "found a range from 2000 to 1999, expected the leas"),
        (lambda: between("year", "1999"), "found the bound '1999', expected a finite number"),
        (lambda: between("year", most=math.inf), "'year': found inf, expected a .*finite number"),
        (lambda: between("year", most=10**400), "expected a finite number or none"),
        (lambda: equals("", 1), "found the attribute '', expected a name"),
        (lambda: equals(3, 1), "found the attribute 3, expected a name"),
        (lambda: check_where(equals("a", 1)), "where: found Predicate, expected a list of pred"),
        (lambda: check_where({"year": 1979}), "where: found dict, expected a list of predicates"),
        (lambda: check_where(["year"]), "where: found list, expected a list of predicates"),
    ],
)
def test_what_says_nothing_is_refused(make, message):
    with pytest.raises(RequestError, match=message) as error:
        make()
    assert error.value.field == "where"
