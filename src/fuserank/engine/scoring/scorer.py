"""What every scorer does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Scorer", "TopK"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The best items of q users.

    Attributes:
        scores: (q, k) float32, descending; only the first sizes[i] entries of a row hold.
        rows: (q, k) int64 catalogue rows; equal scores stand in catalogue order.
        sizes: (q,) int64, k or fewer where fewer items are eligible.
    """

    scores: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, n_users: int, k: int) -> "TopK":
        """Room for k items of each user."""
        return cls(
            scores=np.full((n_users, k), -np.inf, dtype=np.float32),
            rows=np.zeros((n_users, k), dtype=np.int64),
            sizes=np.zeros(n_users, dtype=np.int64),
        )

    @classmethod
    def join(cls, parts: "Sequence[TopK]") -> "TopK":
        """Put users' results one behind the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            scores=np.concatenate([part.scores for part in parts]),
            rows=np.concatenate([part.rows for part in parts]),
            sizes=np.concatenate([part.sizes for part in parts]),
        )

    @classmethod
    def merge(cls, parts: "Sequence[TopK]", k: int) -> "TopK":
        """Return the k best of several ranges of the catalogue, given in its order."""
        if len(parts) == 1:
            return parts[0]
        n_users = len(parts[0].sizes)
        merged = cls.empty(n_users, k)
        for user in range(n_users):
            scores = np.concatenate([part.scores[user, : part.sizes[user]] for part in parts])
            rows = np.concatenate([part.rows[user, : part.sizes[user]] for part in parts])
            order = np.lexsort((rows, -scores))[:k]
            merged.sizes[user] = len(order)
            merged.scores[user, : len(order)] = scores[order]
            merged.rows[user, : len(order)] = rows[order]
        return merged

    def first(self, k: int) -> "TopK":
        """Return the k best of these, as views."""
        return TopK(
            scores=self.scores[:, :k], rows=self.rows[:, :k], sizes=np.minimum(self.sizes, k)
        )

    def put(self, users: npt.NDArray[np.int64], found: "TopK") -> None:
        """Write what was found for some of the users, by their positions."""
        self.scores[users], self.rows[users] = found.scores, found.rows
        self.sizes[users] = found.sizes


class Scorer(Protocol):
    """Scores items for users from their states; safe under concurrent callers."""

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""

    def top_k(self, users: Mapping[str, Array], words: npt.NDArray[np.uint64], k: int) -> TopK:
        """Return the k best eligible items of each user, out of all items.

        Args:
            users: outputs of the user graph for q users.
            words: (1 or q, n_blocks) uint64 eligibility bitmap, as `Eligibility` makes it.
            k: items wanted; more than there are returns all.
        """

    def score(
        self, users: Mapping[str, Array], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return (q, m) float32 scores of m catalogue rows for each user."""

    def close(self) -> None:
        """Release threads."""
