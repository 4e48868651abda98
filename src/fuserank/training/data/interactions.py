"""Who chose what."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fuserank.training.data.histories import Histories

__all__ = ["Interactions"]

_ROWS = 1 << 20
"""Interactions that are looked through at once."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who chose what; every array has one entry an interaction.

    Attributes:
        user: int32, the user's row in the table of users.
        item: int32, the item's row in the table of items.
        rating: float32; 1 where the data set has no ratings.
        timestamp: int64, as stored (dates in microseconds since 1970); None without times.
        positive: bool, whether the user liked the item.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    rating: npt.NDArray[np.float32]
    timestamp: npt.NDArray[np.int64] | None
    positive: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """The number of interactions."""
        return len(self.user)

    def of_users(self, users: npt.NDArray[np.integer]) -> "Interactions":
        """The interactions of some users, in their order, copied."""
        rows = [
            first + np.flatnonzero(np.isin(self.user[first : first + _ROWS], users))
            for first in range(0, len(self), _ROWS)
        ]
        return self.select(np.concatenate([np.empty(0, np.int64), *rows]))

    def by_user(self) -> "Interactions":
        """The same by user and within a user by time; equal times keep their order."""
        time = np.zeros(len(self), np.int64) if self.timestamp is None else self.timestamp
        return self.select(np.lexsort((time, self.user)))

    def histories(self, n_users: int) -> Histories:
        """What each of n_users users liked, in order."""
        liked, time = self.positive, self.timestamp
        return Histories.build(
            self.user[liked],
            self.item[liked],
            None if time is None else time[liked],
            n_users=n_users,
        )

    def user_counts(self, n_users: int) -> npt.NDArray[np.int64]:
        """(n_users,) int64: interactions of each user."""
        return _counts(self.user, n_users)

    def item_counts(self, n_items: int) -> npt.NDArray[np.int64]:
        """(n_items,) int64: interactions of each item."""
        return _counts(self.item, n_items)

    def like_counts(self, n_items: int) -> npt.NDArray[np.int64]:
        """(n_items,) int64: positive interactions of each item."""
        return _counts(self.item[self.positive], n_items)

    def joined(self, other: "Interactions") -> "Interactions":
        """Return both, without times: what a user has met needs none."""
        return Interactions(
            user=np.concatenate([self.user, other.user]),
            item=np.concatenate([self.item, other.item]),
            rating=np.concatenate([self.rating, other.rating]),
            timestamp=None,
            positive=np.concatenate([self.positive, other.positive]),
        )

    def select(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> "Interactions":
        """The interactions of a mask, or of row numbers in their order."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Interactions(
            user=self.user[chosen],
            item=self.item[chosen],
            rating=self.rating[chosen],
            timestamp=None if self.timestamp is None else self.timestamp[chosen],
            positive=self.positive[chosen],
        )


def _counts(rows: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.int64]:
    """Return (n,) how often each row number occurs, without a copy of them all."""
    found = np.zeros(n, dtype=np.int64)
    for first in range(0, len(rows), _ROWS):
        found += np.bincount(rows[first : first + _ROWS], minlength=n)
    return found
