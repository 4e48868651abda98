"""The measure by which embeddings are compared."""

import numpy as np
import pytest

from fuserank.export.agreement import cosines


def test_cosines_leave_out_what_is_no_text():
    one = np.array([[1, 0], [0, 2], [0, 0], [3, 4]], np.float32)
    other = np.array([[5, 0], [0, 1], [0, 0], [4, 3]], np.float32)
    found = cosines(one, other)
    assert found.n_texts == 3
    assert found.least == pytest.approx(0.96)
    assert found.mean == pytest.approx((1 + 1 + 0.96) / 3)
    assert found.least <= found.first_percentile <= found.mean
    assert cosines(one[2:3], other[2:3]) is None
