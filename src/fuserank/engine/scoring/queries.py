"""Users as a scan of codes takes them, and how far its scores can be from the float32 ones.

For a user, let F_i be the score of item i as the float32 scan computes it, and A_i the one computed
of the codes. What a β with |F_i - A_i| ≤ β for all i consists of:

Let s_j be a state, g_j its scale, c_j its code, e_j = s_j - g_j·c_j.

- *Inner product*, Σ u_j·s_j + b. With whole numbers q_j for which u_j·g_j = unit·q_j + δ_j, the
  codes give unit·Σ q_j·c_j + b. The difference is Σ u_j·e_j + Σ δ_j·c_j; each sum is bounded by
  Σ|·||·| over the largest of any item, and by Cauchy and Schwarz with the largest norms.
- *Perceptron*, Σ w_j·max(0, u_j + s_j) + b = Σ w_j·(u_j + max(s_j, -u_j)) + b. All |s_j| are at
  most 127·g_j: -u_j may be cut to that, p_j, where the cut is made good in the constant. With the
  code r_j = rint(p_j / g_j), d_j = p_j - g_j·r_j, and w_j·g_j = unit·m_j, the codes give
  unit·Σ m_j·max(c_j, r_j). A maximum moves no more than the more moved of its two, so the
  difference is at most Σ|w_j|·max(|e_j|, |d_j|), again by either bound, and what float64 left
  between w_j·g_j and unit·m_j.
- *Rounding*. The sums of codes are whole numbers and exact; what float32 does is in `bounds`. Where
  a sum could overflow, the float32 scan answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.block_scores import GROUP
from fuserank.engine.scoring.bounds import LARGEST_SCORE, within_margins
from fuserank.engine.scoring.code_kernels import OFFSET
from fuserank.engine.scoring.codes import LARGEST_CODE, Codes

__all__ = ["Queries", "QueryMaker"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Queries:
    """Users as `scan_codes` takes them.

    Attributes:
        multipliers: (q, 4·n_groups) int8.
        floors: (q, 4·n_groups) uint8.
        starts: (q,) int32.
        units: (q,) float32.
        constants: (q,) float32.
        margins: (q,) float64, as `within_margins` makes them.
    """

    multipliers: npt.NDArray[np.int8]
    floors: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int32]
    units: FloatArray
    constants: FloatArray
    margins: DoubleArray


class QueryMaker:
    """Makes queries for the codes of one catalogue."""

    def __init__(self, codes: Codes, constants: FloatArray, weights: FloatArray | None) -> None:
        """Take the codes, and the item constants and weights they were made with."""
        self._codes = codes
        self._weights = None if weights is None else weights.astype(np.float64)
        finite = np.abs(constants[np.isfinite(constants)])
        self._largest_constant = float(finite.max(initial=0.0))

    def make(self, users: Mapping[str, Array]) -> Queries:
        """Return the queries of q users, who are outputs of the user graph."""
        user = users["user_state"].astype(np.float64)
        constant = users["user_constant"].astype(np.float64)
        with np.errstate(all="ignore"):  # what is not finite, or too large, has no finite margin
            if self._weights is None:
                return self._products(user, constant)
            return self._perceptrons(user, constant, self._weights)

    def _products(self, user: DoubleArray, constant: DoubleArray) -> Queries:
        codes = self._codes
        scaled = user * codes.scales
        sizes = np.abs(scaled)
        units = sizes.max(axis=1, initial=0.0) / LARGEST_CODE
        multipliers = np.rint(scaled / np.where(units > 0, units, 1.0)[:, None])
        missed = np.abs(scaled - units[:, None] * multipliers)
        of_items = np.minimum(
            np.abs(user) @ codes.errors, np.linalg.norm(scaled, axis=1) * codes.error_norm
        )
        of_users = np.minimum(
            missed.sum(axis=1) * LARGEST_CODE, np.linalg.norm(missed, axis=1) * codes.code_norm
        )
        mass = sizes.sum(axis=1) * LARGEST_CODE
        return self._bounded(multipliers, 0, units, constant, (of_items + of_users, mass))

    def _perceptrons(
        self, user: DoubleArray, constant: DoubleArray, weights: DoubleArray
    ) -> Queries:
        codes = self._codes
        sizes = np.abs(weights)
        reach = LARGEST_CODE * codes.scales
        lowest = np.clip(-user, -reach, reach)
        floors = np.rint(lowest / np.where(codes.scales > 0, codes.scales, 1.0))
        missed = np.abs(lowest - codes.scales * floors)
        multipliers = np.rint(weights * codes.scales / (codes.unit or 1.0))
        left = np.abs(weights * codes.scales - codes.unit * multipliers).sum() * LARGEST_CODE
        steps = np.divide(missed, codes.scales, where=codes.scales > 0, out=np.zeros_like(missed))
        beta = np.minimum(
            np.maximum(codes.errors, missed) @ sizes,
            np.linalg.norm(weights * codes.scales)
            * np.hypot(codes.error_norm, np.linalg.norm(steps, axis=1)),
        )
        sums = np.abs(user) + reach
        # A hidden sum that overflows is no number times a weight of zero.
        mass = np.where(sums.max(axis=1, initial=0.0) < LARGEST_SCORE, sums @ sizes * 2.0, np.inf)
        constant = constant + (user + np.maximum(-user - reach, 0.0)) @ weights
        return self._bounded(
            multipliers,
            floors + OFFSET,
            np.full(len(user), codes.unit),
            constant,
            (beta + left, mass),
        )

    def _bounded(
        self,
        multipliers: DoubleArray,
        floors: Array | int,
        units: DoubleArray,
        constants: DoubleArray,
        bounds: tuple[DoubleArray, DoubleArray],
    ) -> Queries:
        """Pad the queries, and make margins of the bounds.

        These are (q,) differences in exact arithmetic, and (q,) sums of the sizes of all terms but
        the constants.
        """
        beta, mass = bounds
        mass = mass + np.abs(constants) + self._largest_constant
        width = len(self._codes.scales)
        shape = (len(units), -(-width // GROUP) * GROUP)
        # The scan reads whole rows by their address: these are contiguous, whatever came in.
        padded, padded_floors = np.zeros(shape, dtype=np.int8), np.zeros(shape, dtype=np.uint8)
        padded[:, :width], padded_floors[:, :width] = multipliers, floors
        return Queries(
            multipliers=padded,
            floors=padded_floors,
            starts=-OFFSET * padded.sum(axis=1, dtype=np.int32),
            units=units.astype(np.float32),
            constants=constants.astype(np.float32),
            margins=within_margins(beta, mass, width),
        )
