"""What the codes promise about the states they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.engine.scoring import quantize
from fuserank.engine.scoring.code_kernels import OFFSET


def decode(codes, n_items, width):
    """Return (n, width) codes from their blocks."""
    rows = codes.blocks.astype(int).transpose(0, 2, 1, 3).reshape(-1, codes.blocks.shape[1] * 4)
    return rows[:n_items, :width] - OFFSET


def draw(n_items, width, seed):
    rng = np.random.default_rng(seed)
    states = rng.standard_normal((n_items, width)) * 10.0 ** rng.uniform(-20, 10, width)
    states[:, rng.random(width) < 0.1] = 0.0
    return states.astype(np.float32), rng.standard_normal(n_items).astype(np.float32)


@given(
    n_items=st.integers(1, 300),
    width=st.integers(1, 30),
    folded=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_codes_keep_their_promises(n_items, width, folded, seed):
    states, constants = draw(n_items, width, seed)
    weights = None
    if folded:
        rng = np.random.default_rng(seed)
        weights = rng.standard_normal(width) * 10.0 ** rng.uniform(-12, 12, width)
        weights[rng.random(width) < 0.1] = 0.0
    codes = quantize(states, constants, weights)
    whole = decode(codes, n_items, width)
    missed = np.abs(states - codes.scales * whole)
    assert np.abs(whole).max() <= 127
    assert np.all(missed <= codes.errors)
    assert np.all(np.abs(states) <= 127 * codes.scales)
    assert np.linalg.norm(whole, axis=1).max() <= codes.code_norm
    steps = np.divide(missed, codes.scales, where=codes.scales > 0, out=np.zeros_like(missed))
    assert np.linalg.norm(steps, axis=1).max() <= codes.error_norm
    assert np.all(codes.errors <= codes.scales * (0.5 + 1e-6))
    if weights is not None and codes.unit:
        multiples = np.abs(weights) * codes.scales / codes.unit
        assert multiples.max() <= 127 + 1e-6
        np.testing.assert_allclose(multiples, np.rint(multiples), atol=1e-6)


def test_padding_is_zero():
    codes = quantize(np.ones((65, 5), dtype=np.float32), np.zeros(65, dtype=np.float32))
    assert codes.blocks.shape == (2, 2, 64, 4)
    whole = decode(codes, 128, 8)
    assert np.all(whole[:65, :5] == 127)
    assert not whole[65:].any()
    assert not whole[:, 5:].any()


def test_rows_that_are_not_finite_are_named_and_spoil_no_scale():
    states, constants = np.ones((100, 4), dtype=np.float32), np.zeros(100, dtype=np.float32)
    states[7, 1], states[80, 0], constants[99] = np.nan, np.inf, -np.inf
    codes = quantize(states, constants)
    assert codes.irregular.tolist() == [7, 80, 99]
    np.testing.assert_allclose(codes.scales, 1 / 127)


def test_many_rows_are_quantized_as_few_are():
    states, constants = draw(40_000, 6, seed=3)
    codes = quantize(states, constants)
    whole = decode(codes, 40_000, 6)
    assert np.all(np.abs(states - codes.scales * whole) <= codes.errors)


@pytest.mark.parametrize("weights", [None, np.ones(4)])
def test_no_items_have_no_codes(weights):
    codes = quantize(np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=np.float32), weights)
    assert codes.blocks.shape == (0, 1, 64, 4)
    assert codes.code_norm == 0.0
