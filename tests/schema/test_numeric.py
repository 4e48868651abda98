"""Numbers: limits, filling, marks and scale."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.errors import SchemaError
from fuserank.schema.numeric import NumberScaling

NUMBERS = st.floats(-1e6, 1e6)


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


@given(st.lists(NUMBERS | st.none()), st.lists(NUMBERS | st.none(), min_size=1))
def test_whatever_is_finite_stays_finite(fitted, column):
    encoded = NumberScaling.fit(fitted, "n").encode(column, "n")
    assert np.isfinite(encoded).all()
    assert encoded[:, 1].tolist() == [value is None for value in column]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("7", "str"), (math.inf, "inf"), (-math.inf, "-inf"), ([1], "list"), (10**400, "int")],
)
def test_a_value_that_is_no_finite_number_is_named(value, shown):
    message = f"field 'age', row 1: found {shown}, expected a finite number"
    with pytest.raises(SchemaError, match=message):
        NumberScaling.fit([1, value], "age")
    with pytest.raises(SchemaError, match=message):
        NumberScaling.fit([1, 2], "age").encode([1, value], "age")
