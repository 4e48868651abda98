"""Items that a user has not interacted with."""

import numpy as np
import numpy.typing as npt

__all__ = ["Unseen"]

Rows = npt.NDArray[np.int64]
"""Row numbers; any shape."""


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
        self._first = np.searchsorted(owner, np.arange(n_users + 1))
        self._gaps = pairs - (np.arange(len(pairs)) - self._first[owner])
        self._n_items = n_items
        self.counts = n_items - np.diff(self._first)
        """(n_users,) int64: items that each user has not interacted with."""

    def draw(self, users: Rows, n: int, rng: np.random.Generator) -> Rows:
        """Return (len(users), n) item rows, with replacement; any rows where nothing is left."""
        available = np.maximum(self.counts[users], 1)[:, None]
        rank = rng.integers(0, available, size=(len(users), n))
        found = np.searchsorted(self._gaps, users[:, None] * self._n_items + rank, side="right")
        rows: Rows = rank + found - self._first[users][:, None]
        return np.minimum(rows, self._n_items - 1)
