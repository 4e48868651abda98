"""What users chose, in order: the raw material of histories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fuserank.training.dataset import Interactions

__all__ = ["Histories"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Histories:
    """The chosen items of every user, the most recent last.

    Attributes:
        start: (n_users + 1,) int64; user u's events are ``items[start[u]:start[u + 1]]``.
        items: (n_events,) int64 item rows.
    """

    start: Rows
    items: Rows

    @classmethod
    def build(
        cls,
        user: npt.NDArray[np.integer],
        item: npt.NDArray[np.integer],
        timestamp: npt.NDArray[np.integer] | None,
        *,
        n_users: int,
    ) -> Self:
        """Sort events by user, then by time; without times they keep the order given.

        Args:
            user: (n_events,) user rows.
            item: (n_events,) item rows.
            timestamp: (n_events,) times in any unit, or None.
            n_users: users in all, those without events included.
        """
        time = np.zeros(len(user), dtype=np.int64) if timestamp is None else timestamp
        order = np.lexsort((time, user))  # stable: equal times keep the order given
        start = np.searchsorted(user[order], np.arange(n_users + 1))
        return cls(start=start.astype(np.int64), items=item[order].astype(np.int64))

    @classmethod
    def of_positives(cls, interactions: Interactions, *, n_users: int) -> Self:
        """Return the histories that the positive ones among some interactions make."""
        liked, time = interactions.positive, interactions.timestamp
        return cls.build(
            interactions.user[liked],
            interactions.item[liked],
            None if time is None else time[liked],
            n_users=n_users,
        )

    @property
    def user(self) -> Rows:
        """(n_events,) int64: the user row of every event."""
        return np.repeat(np.arange(len(self.start) - 1), self.counts)

    @property
    def counts(self) -> Rows:
        """(n_users,) int64: events of every user."""
        return np.diff(self.start)

    def latest(self, user: int, length: int) -> Rows:
        """Return the item rows of a user's latest events, the most recent last."""
        first, end = self.start[user : user + 2]
        return self.items[max(first, end - length) : end]

    def draw(self, users: Rows, rng: np.random.Generator) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Return a random event's item of each user, and whether the user has any event."""
        counts = self.counts[users]
        position = self.start[users] + rng.integers(0, np.maximum(counts, 1))
        padded = np.append(self.items, 0)
        return padded[np.minimum(position, len(self.items))], counts > 0

    def sums(self, vectors: npt.NDArray[np.floating], length: int) -> npt.NDArray[np.float64]:
        """Return (n_users, dim) float64: the sum of each user's latest `length` events.

        Args:
            vectors: (n_items, dim) the vector of an event.
            length: events counted at most.
        """
        found = np.zeros((len(self.counts), vectors.shape[1]))
        for user in np.flatnonzero(self.counts):
            found[user] = vectors[self.latest(int(user), length)].sum(axis=0, dtype=np.float64)
        return found

    def means(self, vectors: npt.NDArray[np.floating], length: int) -> npt.NDArray[np.float32]:
        """Return (n_users, dim) float32: the mean of the latest events; zeros without events."""
        counts = np.minimum(self.counts, length)
        means = self.sums(vectors, length) / np.maximum(counts, 1)[:, None]
        return means.astype(np.float32)
