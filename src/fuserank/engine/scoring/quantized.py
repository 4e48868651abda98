"""The fused scorers over int8 codes: what could be among the best is found there, then rescored.

Result and scores are those of the float32 scan, to the bit. For a user, let F_i be the score of
item i as the float32 scan computes it, A_i the one computed of the codes, and |F_i - A_i| ≤ β for
all i. The k items of the largest A have F ≥ A_(k) - β, so F_(k) ≥ A_(k) - β; and an item among the
k best, ties included, has A_i ≥ F_i - β ≥ A_(k) - 2β. So a pass that keeps every item within 2β of
its k-th best A misses none, and the float32 scan of those alone decides.

What β consists of. Let s_j be a state, g_j its scale, c_j its code, e_j = s_j - g_j·c_j.

- *Inner product*, Σ u_j·s_j + b. With whole numbers q_j for which u_j·g_j = unit·q_j + δ_j, the
  codes give unit·Σ q_j·c_j + b. The difference is Σ u_j·e_j + Σ δ_j·c_j; each sum is bounded by
  Σ|·||·| over the largest of any item, and by Cauchy and Schwarz with the largest norms.
- *Perceptron*, Σ w_j·max(0, u_j + s_j) + b = Σ w_j·(u_j + max(s_j, -u_j)) + b. All |s_j| are at
  most 127·g_j: -u_j may be cut to that, p_j, where the cut is made good in the constant. With the
  code r_j = rint(p_j / g_j), d_j = p_j - g_j·r_j, and w_j·g_j = unit·m_j, the codes give
  unit·Σ m_j·max(c_j, r_j). A maximum moves no more than the more moved of its two, so the
  difference is at most Σ|w_j|·max(|e_j|, |d_j|), again by either bound, and what float64 left
  between w_j·g_j and unit·m_j.
- *Rounding*. The float32 scan adds, in an unknown order, at most width + 4 roundings a term: with
  γ_m = mε / (1 - mε), ε = 2⁻²⁴, it errs by γ times the sum of its terms' sizes. The sums of codes
  are whole numbers and exact; completing a score takes four roundings. Underflow adds less than
  2⁻¹⁰⁰ a term; where a sum could overflow, the float32 scan answers.

Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 4.2 (any
order of summation).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.block_scores import GROUP
from fuserank.engine.scoring.code_kernels import OFFSET, OVERFLOW, scan_codes
from fuserank.engine.scoring.codes import LARGEST_CODE, Codes
from fuserank.engine.scoring.fused import FusedScorer
from fuserank.engine.scoring.kernels import BLOCK
from fuserank.engine.scoring.scorer import TopK
from fuserank.engine.scoring.shares import Shares

__all__ = ["QuantizedScorer"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_EPSILON = 2.0**-24
_LARGEST_SCORE = 1e30
"""Sums below it are far from the overflow of float32."""

_MAX_SHARE = 8
"""More candidates than one item in so many cost more than the float32 scan saves."""

_ROOM, _ROOM_A_RESULT = 2048, 8
"""Candidates a user may have: so many, and so many more for each item wanted."""


@dataclass(frozen=True)
class _Queries:
    """Users as `scan_codes` takes them, and their margins (q,) float64: 2β and a rounding."""

    multipliers: npt.NDArray[np.int8]
    floors: npt.NDArray[np.uint8]
    units: DoubleArray
    constants: DoubleArray
    margins: DoubleArray


class QuantizedScorer:
    """The same items and scores as a `FusedScorer`, for a quarter of the reading."""

    def __init__(
        self,
        item_states: Mapping[str, Array],
        codes: Codes,
        *,
        weights: FloatArray | None = None,
        activation: str | None = None,
        threads: int = 1,
    ) -> None:
        """Take the item states and the codes that `quantize` made of them.

        Args:
            item_states: as for `FusedScorer`.
            codes: of these states, constants and weights.
            weights: as for `FusedScorer`.
            activation: None or ``relu``.
            threads: threads a pass may use.
        """
        self._exact = FusedScorer(
            item_states, weights=weights, activation=activation, threads=threads
        )
        self._codes = codes
        self._constants = np.asarray(item_states["item_constant"])
        self._weights = None if weights is None else np.asarray(weights).astype(np.float64)
        self._scan = scan_codes[activation]
        self._shares = Shares(threads)
        self._regular = _without(len(self._constants), codes.irregular)
        finite = np.abs(self._constants[np.isfinite(self._constants)])
        self._largest_constant = float(finite.max(initial=0.0))

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self._exact.n_items

    def top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        k = min(k, self.n_items)
        if k == 0 or k > self.n_items // _MAX_SHARE:
            return self._exact.top_k(users, words, k)
        with np.errstate(all="ignore"):  # what is not finite, or too large, has no finite margin
            queries = self._queries(users)
        if not np.isfinite(queries.margins).all():
            return self._exact.top_k(users, words, k)
        candidates = self._candidates(queries, words, k)
        if candidates is None:
            return self._exact.top_k(users, words, k)
        return self._exact.top_k_of(users, candidates, k)

    def score(self, users: Mapping[str, Array], rows: Rows) -> FloatArray:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        return self._exact.score(users, rows)

    def close(self) -> None:
        """Release the scan's threads."""
        self._exact.close()
        self._shares.close()

    def _queries(self, users: Mapping[str, Array]) -> _Queries:
        user = users["user_state"].astype(np.float64)
        constant = users["user_constant"].astype(np.float64)
        if self._weights is None:
            return self._products(user, constant)
        return self._perceptrons(user, constant, self._weights)

    def _products(self, user: DoubleArray, constant: DoubleArray) -> _Queries:
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
        floors = np.zeros(scaled.shape, dtype=np.uint8)
        return self._bounded(multipliers, floors, units, constant, (of_items + of_users, mass))

    def _perceptrons(
        self, user: DoubleArray, constant: DoubleArray, weights: DoubleArray
    ) -> _Queries:
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
        mass = (np.abs(user) + reach) @ sizes * 2.0
        constant = constant + (user + np.maximum(-user - reach, 0.0)) @ weights
        shape = (len(user), len(weights))
        return self._bounded(
            np.broadcast_to(multipliers, shape),
            floors + OFFSET,
            np.full(len(user), codes.unit),
            constant,
            (beta + left, mass),
        )

    def _bounded(
        self,
        multipliers: DoubleArray,
        floors: Array,
        units: DoubleArray,
        constants: DoubleArray,
        bounds: tuple[DoubleArray, DoubleArray],
    ) -> _Queries:
        """Add the roundings of float32 to the bounds.

        These are (q,) differences in exact arithmetic, and (q,) sums of the sizes of all terms but
        the constants.
        """
        beta, mass = bounds
        mass = mass + np.abs(constants) + self._largest_constant
        width = multipliers.shape[1]
        roundings = 2 * (width + 8) * _EPSILON  # of the float32 scan and of completing a score
        beta = beta + roundings / (1.0 - roundings) * mass + width * 2.0**-100
        margins = (2.0 * beta + 2.0**-22 * (mass + beta)) * (1 + 1e-6)
        behind = [(0, 0), (0, -width % GROUP)]
        return _Queries(  # the scan reads whole rows by their address: they must be contiguous
            multipliers=np.pad(multipliers.astype(np.int8, order="C"), behind),
            floors=np.pad(floors.astype(np.uint8, order="C"), behind),
            units=units,
            constants=constants,
            margins=np.where(mass < _LARGEST_SCORE, margins, np.inf),
        )

    def _candidates(self, queries: _Queries, words: Words, k: int) -> list[Rows] | None:
        """Return the rows that could be among each user's k best; None where they are too many."""
        irregular = self._codes.irregular
        regular = words & self._regular if len(irregular) else words
        n_users = len(queries.margins)
        room = min(self.n_items, _ROOM + _ROOM_A_RESULT * k)
        starts = -OFFSET * queries.multipliers.sum(axis=1, dtype=np.int32)

        def scan(first: int, last: int) -> tuple[Array, Array, Array]:
            scores = np.empty((n_users, room), dtype=np.float32)
            rows = np.empty((n_users, room), dtype=np.int32)
            counts = np.empty(n_users, dtype=np.int64)
            self._scan(
                self._codes.blocks,
                self._constants,
                queries.multipliers,
                queries.floors,
                starts,
                queries.units.astype(np.float32),
                queries.constants.astype(np.float32),
                regular,
                first,
                last,
                queries.margins,
                k,
                scores,
                rows,
                counts,
            )
            return scores, rows, counts

        parts = self._shares.run(scan, words.shape[1])
        if any((counts == OVERFLOW).any() for *_, counts in parts):
            return None
        candidates = []
        for user, margin in enumerate(queries.margins):
            scores = np.concatenate([scores[user, : counts[user]] for scores, _, counts in parts])
            rows = np.concatenate([rows[user, : counts[user]] for _, rows, counts in parts])
            if len(scores) > k:
                kth = np.partition(scores, len(scores) - k)[len(scores) - k]
                rows = rows[scores >= kth - margin]
            if len(irregular):
                mine = _eligible(words[user % len(words)], irregular)
                rows = np.sort(np.concatenate([rows, mine]))
            candidates.append(rows.astype(np.int64))
        if sum(map(len, candidates)) > n_users * (self.n_items // _MAX_SHARE):
            return None
        return candidates


def _without(n_items: int, rows: Rows) -> Words:
    """Return the bitmap of a catalogue without some rows."""
    bits = np.ones(-(-n_items // BLOCK) * BLOCK, dtype=np.uint8)
    bits[rows] = 0
    words: Words = np.packbits(bits, bitorder="little").view(np.dtype("<u8"))
    return words


def _eligible(words: Words, rows: Rows) -> Rows:
    """Return those of the rows whose bit is set."""
    bits = (words[rows // BLOCK] >> (rows % BLOCK).astype(np.uint64)) & np.uint64(1)
    eligible: Rows = rows[bits.astype(bool)]
    return eligible
