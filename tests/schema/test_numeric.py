"""Numbers: limits, filling, marks and scale."""

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.errors import SchemaError
from fuserank.schema.numeric import LARGEST, Fill, NumberRepairs, NumberScaling, Outliers

ANY = st.floats(-LARGEST, LARGEST)


def test_the_scaled_values_have_mean_0_and_deviation_1():
    column = list(np.random.default_rng(0).normal(50, 7, 1000))
    encoded = NumberScaling.fit(column, "age").encode(column, "age")
    assert encoded.dtype == np.float32
    assert encoded.shape == (1000, 2)
    assert encoded[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert encoded[:, 0].std() == pytest.approx(1, abs=1e-6)
    assert not encoded[:, 1].any()


def test_a_missing_value_becomes_the_median_and_is_marked():
    scaling = NumberScaling.fit([1, 2, 9, None, math.nan], "age")
    encoded = scaling.encode([None, 2, math.nan, np.float32(2)], "age")
    assert encoded[:, 1].tolist() == [1, 0, 1, 0]
    assert encoded[0, 0] == encoded[1, 0] == encoded[2, 0] == encoded[3, 0]


def test_outliers_are_limited_to_the_fitted_percentiles():
    scaling = NumberScaling.fit(list(range(101)), "age")
    low, high, beyond_low, beyond_high = scaling.encode([1, 99, -1e30, 1e30], "age")[:, 0]
    assert (beyond_low, beyond_high) == (low, high)


@pytest.mark.parametrize("column", [[], [None, math.nan]])
def test_a_column_without_values_scales_to_zeros(column):
    scaling = NumberScaling.fit(column, "age")
    assert scaling.encode([5, None], "age").tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("value", [3, 0.1, -1e9])
def test_a_constant_column_scales_to_zeros(value):
    scaling = NumberScaling.fit([value] * 3, "age")
    assert scaling.encode([value, 77, None], "age")[:, 0].tolist() == [0, 0, 0]


def test_a_deviation_too_small_for_a_float_divides_nothing():
    assert NumberScaling.fit([0.0, 7e-262], "n").std == 1.0


SPREAD = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1000]


@pytest.mark.parametrize(
    ("outliers", "low", "high"),
    [
        # The median is 5.5, MAD 2.5; the quartiles are 3.25 and 7.75.
        ("robust_z", 5.5 - 3.5 * 1.4826 * 2.5, 5.5 + 3.5 * 1.4826 * 2.5),
        ("iqr", 3.25 - 1.5 * 4.5, 7.75 + 1.5 * 4.5),
        ("winsorise", 1.09, 9 + 0.91 * 991),
    ],
)
def test_limits_of_outliers(outliers, low, high):
    scaling = NumberScaling.fit(SPREAD, "n", outliers=outliers)
    assert (scaling.low, scaling.high) == (pytest.approx(low), pytest.approx(high))
    limited = np.clip(SPREAD, low, high)
    assert scaling.mean == pytest.approx(limited.mean())
    assert scaling.std == pytest.approx(limited.std())
    assert scaling.encode([1e9, high], "n")[:, 0].tolist() == pytest.approx(
        [(high - limited.mean()) / limited.std()] * 2
    )


def test_outliers_may_be_kept():
    scaling = NumberScaling.fit(SPREAD, "n", outliers="keep")
    expected = (np.array([-1e6, 5, 1e6]) - np.mean(SPREAD)) / np.std(SPREAD)
    assert scaling.encode([-1e6, 5, 1e6], "n")[:, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("outliers", ["robust_z", "iqr"])
def test_where_most_values_are_equal_nothing_is_limited(outliers):
    scaling = NumberScaling.fit([0] * 9 + [5], "n", outliers=outliers)
    assert scaling == NumberScaling.fit([0] * 9 + [5], "n", outliers="keep")


@pytest.mark.parametrize(
    ("missing", "fill"), [("median", 5.5), ("mean", 104.5), ("learned", 104.5), (-3, -3)]
)
def test_what_a_missing_value_becomes(missing, fill):
    scaling = NumberScaling.fit([*SPREAD, None], "n", outliers="keep", missing=missing)
    (found, mark), (expected, _) = scaling.encode([None, fill], "n")
    assert mark == 1
    assert found == expected
    if missing == "learned":
        assert found == 0


def test_a_constant_may_lie_outside_the_limits():
    scaling = NumberScaling.fit([10.0, 20.0, None], "n", outliers="iqr", missing=-100)
    assert scaling.low > -100
    assert scaling.encode([None], "n")[0, 0] == pytest.approx((-100 - 15) / 5)


def test_repairs_are_counted():
    scaling = NumberScaling.fit(SPREAD, "n", outliers="iqr")
    found = scaling.repairs([None, *SPREAD, -500, math.nan], "n")
    assert found == NumberRepairs(limited=2, filled=2)


@given(
    st.lists(ANY | st.none()),
    st.lists(ANY | st.none(), min_size=1),
    st.sampled_from(get_args(Outliers)),
    st.sampled_from(get_args(Fill)) | ANY,
)
def test_whatever_is_finite_stays_finite(fitted, column, outliers, missing):
    scaling = NumberScaling.fit(fitted, "n", outliers=outliers, missing=missing)
    encoded = scaling.encode(column, "n")
    assert np.isfinite(encoded).all()
    assert encoded[:, 1].tolist() == [value is None for value in column]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("7", "str"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (1e39, r"1e\+39"),
        ([1], "list"),
        (10**400, "int"),
    ],
)
def test_a_value_that_is_no_finite_number_is_named(value, shown):
    message = rf"field 'age', row 1: found {shown}, expected a finite number of at most 3.4e\+38"
    with pytest.raises(SchemaError, match=message):
        NumberScaling.fit([1, value], "age")
    with pytest.raises(SchemaError, match=message):
        NumberScaling.fit([1, 2], "age").encode([1, value], "age")
