"""The fused scorers over int8 codes: what could be among the best is found there, then rescored.

`candidates` says why the result is that of the float32 scan, `queries` how far codes can be off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.candidates import MAX_SHARE, Irregular, kth_best
from fuserank.engine.scoring.code_kernels import OVERFLOW, scan_codes
from fuserank.engine.scoring.codes import Codes
from fuserank.engine.scoring.fused import FusedScorer
from fuserank.engine.scoring.queries import Queries, QueryMaker
from fuserank.engine.scoring.scorer import TopK
from fuserank.engine.scoring.shares import MIN_BLOCKS

__all__ = ["QuantizedScorer"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_NO_ROWS: Rows = np.empty(0, dtype=np.int64)

_ROOM, _ROOM_A_RESULT = 2048, 8
"""Candidates a user may have: so many, and so many more for each item wanted."""

_SAMPLED = 16
"""One block in so many is scanned first, where several users share the pass."""

_GUESSED_ITEMS = 3
"""A guess is a score that so many times k items surpass, as far as a sample tells."""

_MIN_GUESSED_BY = 8
"""The least rank in a sample that a guess is made by."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a scan found that could be among the best; room is the most that any user has.

    Attributes:
        scores: (q, room) float32, -inf where a user has fewer.
        rows: (q, room) int32, -1 there.
        overflowed: whether there were more for some user than a scan takes up.
    """

    scores: FloatArray
    rows: npt.NDArray[np.int32]
    overflowed: bool


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
        # The scan works out addresses, which says nothing of strides.
        self._blocks = np.ascontiguousarray(codes.blocks)
        self._constants = np.ascontiguousarray(item_states["item_constant"])
        self._irregular = Irregular(codes.irregular, len(self._constants))
        self._queries = QueryMaker(codes, self._constants, weights)
        self._scan_codes = scan_codes[activation]

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self._exact.n_items

    def top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        k = min(k, self.n_items)
        if k == 0 or k > self.n_items // MAX_SHARE:
            return self._exact.top_k(users, words, k)
        queries = self._queries.make(users)
        candidates = None
        if np.isfinite(queries.margins).all():
            candidates = self._candidates(queries, words, k)
        if candidates is None:
            return self._exact.top_k(users, words, k)
        return self._exact.top_k_of(users, candidates, k)

    def near_top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK | None:
        """Return k items that score nearly as the best do, by their codes and not rescored.

        A score is off by half a margin at most, see `queries`. Items whose states are not finite
        have no codes: theirs are exact.

        Returns:
            None where the codes alone do not tell: more than a share of the catalogue is wanted,
            users' sums could overflow, or more items score the same than there is room for.
        """
        k = min(k, self.n_items)
        if k == 0 or k > self.n_items // MAX_SHARE:
            return None
        queries = self._queries.make(users)
        if not np.isfinite(queries.margins).all():
            return None
        queries = replace(queries, margins=np.zeros_like(queries.margins))
        found, _ = self._found(queries, self._irregular.left_out(words), k)
        if found.overflowed:
            return None
        coded = TopK.empty(len(found.scores), k)
        for at, (scores, rows) in enumerate(zip(found.scores, found.rows, strict=True)):
            order = np.lexsort((rows, -scores))[:k]
            order = order[rows[order] >= 0]
            size = len(order)
            coded.scores[at, :size], coded.rows[at, :size] = scores[order], rows[order]
            coded.sizes[at] = size
        others = self._irregular.added([_NO_ROWS] * len(found.scores), words)
        if not any(map(len, others)):
            return coded
        return TopK.merge([coded, self._exact.top_k_of(users, others, k)], k)

    def score(self, users: Mapping[str, Array], rows: Rows) -> FloatArray:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        return self._exact.score(users, rows)

    def close(self) -> None:
        """Release the scan's threads."""
        self._exact.close()

    def _candidates(self, queries: Queries, words: Words, k: int) -> list[Rows] | None:
        """Return the rows that could be among each user's k best; None where they are too many."""
        found, kth = self._found(queries, self._irregular.left_out(words), k)
        kept = found.scores >= (kth - queries.margins)[:, None]
        kept &= found.rows >= 0
        if found.overflowed or kept.sum() > len(kth) * (self.n_items // MAX_SHARE):
            return None
        candidates = [
            mine[chosen].astype(np.int64) for mine, chosen in zip(found.rows, kept, strict=True)
        ]
        return self._irregular.added(candidates, words)

    def _found(self, queries: Queries, words: Words, k: int) -> tuple[_Found, FloatArray]:
        """Return what is within the margin of each user's k-th best score, and (q,) those."""
        guesses = self._guess(queries, words, k)
        found = self._scan(queries, words, k, guesses)
        kth = kth_best(found.scores, k)
        if (kth < guesses).any():  # a guess was too high: fewer than k items surpass it
            found = self._scan(queries, words, k, np.full_like(guesses, -np.inf))
            kth = kth_best(found.scores, k)
        return found, kth

    def _guess(self, queries: Queries, words: Words, k: int) -> FloatArray:
        """Guess (q,) scores that more than k items surpass, from a sample of the blocks.

        A scan that starts from nothing takes up thousands of items before it knows what counts. The
        guess is checked after the scan. For one user, that costs less than the sample.
        """
        rank = max(_MIN_GUESSED_BY, -(-_GUESSED_ITEMS * k // _SAMPLED))
        nothing = np.full(len(queries.margins), -np.inf, dtype=np.float32)
        if len(nothing) == 1:
            return nothing
        # The sample is asked for a score alone, not for all that could be as good.
        sample = self._scan(
            replace(queries, margins=np.zeros_like(queries.margins)), words, rank, nothing, _SAMPLED
        )
        return nothing if sample.overflowed else kth_best(sample.scores, rank)

    def _scan(
        self, queries: Queries, words: Words, k: int, guesses: FloatArray, step: int = 1
    ) -> _Found:
        """Scan every step-th block, taking up what is within the margin of a guess or better."""
        n_users = len(guesses)
        room = min(self.n_items, _ROOM + _ROOM_A_RESULT * k)
        least = (guesses - queries.margins).astype(np.float32)

        def scan(first: int, last: int) -> _Found:
            scores = np.empty((n_users, room), dtype=np.float32)
            rows = np.empty((n_users, room), dtype=np.int32)
            counts = np.zeros(n_users, dtype=np.int64)
            self._scan_codes(
                self._blocks,
                self._constants,
                queries.multipliers,
                queries.floors,
                queries.starts,
                queries.units,
                queries.constants,
                words,
                first,
                last,
                step,
                k,
                queries.margins,
                least,
                scores,
                rows,
                counts,
            )
            used = counts.max(initial=0)
            scores, rows = scores[:, :used], rows[:, :used]
            empty = np.arange(used) >= counts[:, None]
            scores[empty] = -np.inf
            rows[empty] = -1
            return _Found(scores=scores, rows=rows, overflowed=bool((counts == OVERFLOW).any()))

        parts = self._exact.shares.run(scan, words.shape[1], MIN_BLOCKS * step)
        return _Found(
            scores=np.concatenate([part.scores for part in parts], axis=1),
            rows=np.concatenate([part.rows for part in parts], axis=1),
            overflowed=any(part.overflowed for part in parts),
        )
