"""Both spellings of the block score against numpy, over all bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from fuserank.engine.scoring.block_scores import HAS_VNNI, make_block_scores

WIDTHS = st.integers(1, 20)


def compiled(*, vnni, floored):
    score_block = make_block_scores(vnni=vnni, floored=floored)

    @njit
    def call(codes, multipliers, floors, start, bias, unit, constant, least, scores):
        return score_block(
            codes.ctypes.data,
            multipliers.ctypes.data,
            floors.ctypes.data,
            len(codes),
            start,
            bias.ctypes.data,
            unit,
            constant,
            least,
            scores.ctypes.data,
        )

    return call


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(True, marks=pytest.mark.skipif(not HAS_VNNI, reason="no AVX-512 VNNI")),
        False,
    ],
    ids=["vnni", "pairs"],
)
def spelling(request):
    return {floored: compiled(vnni=request.param, floored=floored) for floored in (False, True)}


@settings(deadline=None)  # the first call compiles
@given(
    n_groups=WIDTHS, floored=st.booleans(), extreme=st.booleans(), seed=st.integers(0, 2**32 - 1)
)
def test_sums_and_bits_are_those_of_numpy(spelling, n_groups, floored, extreme, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (n_groups, 64, 4)).astype(np.uint8)
    multipliers = rng.integers(-127, 128, (n_groups, 4)).astype(np.int8)
    if extreme:  # pairs of these would not fit 16 bits
        codes[:, ::3] = 255
        multipliers[:] = rng.choice([-127, 127], multipliers.shape)
    floors = rng.integers(0, 256, (n_groups, 4)).astype(np.uint8)
    bias = rng.integers(-100, 100, 64).astype(np.float32)
    bias[[3, 60]] = np.nan
    scores = np.empty(64, dtype=np.float32)
    start = np.int32(rng.integers(-1000, 1000))
    raised = np.maximum(codes, floors[:, None]) if floored else codes
    sums = (raised.astype(np.int64) * multipliers[:, None]).sum(axis=(0, 2)) + start
    expected = sums * 0.5 + bias + 7.0  # exact in float32
    least = np.float32(np.nanmedian(expected))
    bits = spelling[floored](
        codes, multipliers, floors, start, bias, np.float32(0.5), np.float32(7.0), least, scores
    )
    np.testing.assert_array_equal(scores, expected.astype(np.float32))
    assert [bits >> i & 1 for i in range(64)] == (expected >= least).astype(int).tolist()
