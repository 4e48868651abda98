"""What the scorers share that look for candidates in coarse numbers and rescore those exactly.

Result and scores are those of the float32 scan, to the bit. For a user, let F_i be the score of
item i as the float32 scan computes it, A_i the one computed of coarse numbers, and |F_i - A_i| ≤ β
for all i. The k items of the largest A have F ≥ A_(k) - β, so F_(k) ≥ A_(k) - β; and an item among
the k best, ties included, has A_i ≥ F_i - β ≥ A_(k) - 2β. So whoever keeps every item within 2β of
the k-th best A misses none, and the float32 scan of those alone decides.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.eligibility import Eligibility
from fuserank.engine.scoring.kernels import BLOCK

__all__ = ["MAX_SHARE", "Irregular", "kth_best"]

FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

MAX_SHARE = 8
"""More candidates than one item in so many cost more than the float32 scan saves."""


def kth_best(scores: FloatArray, k: int) -> FloatArray:
    """Return (q,) float32: the k-th largest of each row, minus infinity where there are fewer.

    >>> kth_best(np.array([[3, 1, 2]], dtype=np.float32), 2)
    array([2.], dtype=float32)
    """
    if scores.shape[1] < k:
        return np.full(len(scores), -np.inf, dtype=np.float32)
    best: FloatArray = np.partition(scores, -k, axis=1)[:, -k]
    return best


class Irregular:
    """Items with a state or constant that is not finite: no bound holds of them.

    They are left out where bounds are relied on, and are always candidates.
    """

    def __init__(self, rows: Rows, n_items: int) -> None:
        """Take their rows, ascending, out of a catalogue of n items."""
        self._rows = rows
        self._others = Eligibility(n_items).words([(rows, None)])

    def left_out(self, words: Words) -> Words:
        """Return the bitmap of the others that are eligible."""
        return words & self._others if len(self._rows) else words

    def added(self, candidates: Sequence[Rows], words: Words) -> list[Rows]:
        """Return each user's candidates and the eligible ones of these, ascending."""
        if not len(self._rows):
            return list(candidates)
        return [
            np.sort(np.concatenate([mine, self._eligible(words[q % len(words)])]))
            for q, mine in enumerate(candidates)
        ]

    def _eligible(self, words: Words) -> Rows:
        rows = self._rows
        bits = (words[rows // BLOCK] >> (rows % BLOCK).astype(np.uint64)) & np.uint64(1)
        eligible: Rows = rows[bits.astype(bool)]
        return eligible
