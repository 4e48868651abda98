"""Both spellings of the block score against numpy, over all bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from fuserank.engine.scoring.block_scores import HAS_VNNI, make_block_scores

N_USERS = 3
WIDTHS = st.integers(1, 20)


def compiled(*, vnni, floored):
    score_block = make_block_scores(vnni=vnni, floored=floored, n_users=N_USERS)

    @njit
    def call(codes, multipliers, floors, starts, bias, units, constants, least, scores, reached):
        score_block(
            codes.ctypes.data,
            multipliers.ctypes.data,
            floors.ctypes.data,
            len(codes),
            starts.ctypes.data,
            bias.ctypes.data,
            units.ctypes.data,
            constants.ctypes.data,
            least.ctypes.data,
            scores.ctypes.data,
            reached.ctypes.data,
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
    multipliers = rng.integers(-127, 128, (N_USERS, n_groups, 4)).astype(np.int8)
    if extreme:  # pairs of these would not fit 16 bits
        codes[:, ::3] = 255
        multipliers[:] = rng.choice([-127, 127], multipliers.shape)
    floors = rng.integers(0, 256, (N_USERS, n_groups, 4)).astype(np.uint8)
    bias = rng.integers(-100, 100, 64).astype(np.float32)
    bias[[3, 60]] = np.nan
    starts = rng.integers(-1000, 1000, N_USERS).astype(np.int32)
    units = rng.choice([0.25, 0.5, 2.0], N_USERS).astype(np.float32)
    constants = rng.integers(-50, 50, N_USERS).astype(np.float32)
    raised = np.broadcast_to(codes, (N_USERS, *codes.shape)).astype(np.int64)
    if floored:
        raised = np.maximum(raised, floors[:, :, None])
    sums = (raised * multipliers[:, :, None]).sum(axis=(1, 3)) + starts[:, None]
    expected = sums * units[:, None] + bias + constants[:, None]  # exact in float32
    least = np.nanmedian(expected, axis=1).astype(np.float32)
    scores = np.empty((N_USERS, 64), dtype=np.float32)
    reached = np.empty(N_USERS, dtype=np.uint64)
    spelling[floored](
        codes, multipliers, floors, starts, bias, units, constants, least, scores, reached
    )
    np.testing.assert_array_equal(scores, expected.astype(np.float32))
    for bits, mine, lowest in zip(reached.tolist(), expected, least, strict=True):
        assert [bits >> i & 1 for i in range(64)] == (mine >= lowest).astype(int).tolist()
