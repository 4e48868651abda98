"""Negatives: items that a user has not interacted with, drawn by one chance or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fuserank.training.train_config import NegativesFrom

__all__ = ["NegativeSampler", "Negatives", "Unseen"]

Rows = npt.NDArray[np.int64]
"""Row numbers; any shape."""

_FLATTENED = 0.75
"""The power of the counts that popular items are drawn by, which flattens the distribution.

Source: Mikolov et al., "Distributed Representations of Words and Phrases and their
Compositionality", NeurIPS 2013, section 2.2.
"""


class Unseen:
    """Uniform draws from the items that a user has not interacted with.

    With a user's items s₀ < s₁ < … sorted, the r-th item that is not among them is r + j, where
    j counts the s_i with s_i − i ≤ r: one binary search a draw, and no draw is rejected.
    """

    def __init__(
        self,
        user: npt.NDArray[np.integer],
        item: npt.NDArray[np.integer],
        *,
        n_users: int,
        n_items: int,
    ) -> None:
        """Index the pairs.

        Args:
            user: (n,) user rows.
            item: (n,) item rows, of the same pairs.
            n_users: users in all.
            n_items: items in all.
        """
        pairs = np.unique(user.astype(np.int64) * n_items + item)
        owner = pairs // n_items
        first = np.searchsorted(owner, np.arange(n_users + 1))
        self._set(pairs, pairs - (np.arange(len(pairs)) - first[owner]), first, n_items)

    @classmethod
    def of_sorted(cls, pairs: Rows, gaps: Rows, first: Rows, n_items: int) -> Self:
        """Take pairs that are sorted already; the arrays may be memory-mapped.

        Args:
            pairs: (n,) distinct user·n_items + item, ascending.
            gaps: (n,) pair − its place among those of its user.
            first: (n_users + 1,) user u's pairs are ``pairs[first[u]:first[u + 1]]``.
            n_items: items in all.
        """
        unseen = cls.__new__(cls)
        unseen._set(pairs, gaps, first, n_items)
        return unseen

    def _set(self, pairs: Rows, gaps: Rows, first: Rows, n_items: int) -> None:
        self._pairs, self._gaps, self._first, self._n_items = pairs, gaps, first, n_items
        self.counts = n_items - np.diff(first)
        """(n_users,) int64: items that each user has not interacted with."""

    def draw(self, users: Rows, n: int, rng: np.random.Generator) -> Rows:
        """Return (len(users), n) item rows, with replacement; any rows where nothing is left."""
        available = np.maximum(self.counts[users], 1)[:, None]
        rank = rng.integers(0, available, size=(len(users), n))
        found = np.searchsorted(self._gaps, users[:, None] * self._n_items + rank, side="right")
        rows: Rows = rank + found - self._first[users][:, None]
        return np.minimum(rows, self._n_items - 1)

    def holds(self, users: Rows, items: Rows) -> npt.NDArray[np.bool_]:
        """Return (B, n) bool: whether the (B, n) items are unseen by the (B,) users."""
        pairs = users[:, None] * self._n_items + items
        at = np.minimum(np.searchsorted(self._pairs, pairs), max(len(self._pairs) - 1, 0))
        unseen: npt.NDArray[np.bool_] = self._pairs[at] != pairs if len(self._pairs) else pairs >= 0
        return unseen


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """n items for each of B positives.

    Attributes:
        items: (B, n) int64 item rows.
        usable: (B, n) bool, False where the draw is an item that the user has interacted with.
    """

    items: Rows
    usable: npt.NDArray[np.bool_]


class NegativeSampler:
    """Draws negatives, and says how likely each item was to be drawn."""

    def __init__(
        self,
        kind: NegativesFrom,
        unseen: Unseen,
        like_counts: npt.NDArray[np.int64],
    ) -> None:
        """Prepare the chances.

        Args:
            kind: how negatives are drawn.
            unseen: the items that users have not interacted with.
            like_counts: (n_items,) users who liked each item.
        """
        self._kind = kind
        self._unseen = unseen
        counts = like_counts.astype(np.float64)
        if kind == "popularity":
            counts = np.maximum(counts, 1.0) ** _FLATTENED
        if kind in ("uniform", "hard"):
            counts = np.ones(len(counts))
        chance = np.maximum(counts, 1.0) / np.maximum(counts, 1.0).sum()
        self.log_chance = np.log(chance).astype(np.float32)
        """(n_items,) float32: log of the chance that a draw is this item, whoever the user is."""
        self._upper = np.cumsum(chance)

    def draw(self, users: Rows, positives: Rows, n: int, rng: np.random.Generator) -> Negatives:
        """Draw n negatives for each of B positives.

        Args:
            users: (B,) user rows.
            positives: (B,) item rows, of which the negatives of other rows may be taken.
            n: negatives for each.
            rng: what draws.
        """
        if self._kind in ("uniform", "hard"):
            items = self._unseen.draw(users, n, rng)
            available = self._unseen.counts[users] > 0
            return Negatives(items=items, usable=np.broadcast_to(available[:, None], items.shape))
        if self._kind == "batch":
            items = positives[rng.integers(0, len(positives), (len(users), n))]
        else:
            items = np.searchsorted(self._upper, rng.random((len(users), n)))
            items = np.minimum(items, len(self._upper) - 1)  # the sums may end short of 1
        return Negatives(items=items, usable=self._unseen.holds(users, items))
