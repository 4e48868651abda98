"""What users chose, in order: the raw material of histories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

__all__ = ["Histories", "LatestEvents", "with_nothing"]

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

    @property
    def user(self) -> Rows:
        """(n_events,) int64: the user row of every event."""
        return np.repeat(np.arange(len(self.start) - 1), self.counts)

    def owner(self, events: Rows) -> Rows:
        """Return (n,) user rows of some events, given as positions in `items`."""
        return np.searchsorted(self.start, events, side="right") - 1

    @property
    def counts(self) -> Rows:
        """(n_users,) int64: events of every user."""
        return np.diff(self.start)

    def latest(self, user: int, length: int) -> Rows:
        """Return the item rows of a user's latest events, the most recent last."""
        first, end = self.start[user : user + 2]
        return self.items[max(first, end - length) : end]

    def events(self, first: Rows, kept: Rows, width: int, skipping: Rows | None = None) -> Rows:
        """Return (n, width) int64 item rows of neighbouring events, -1 in front where fewer.

        Args:
            first: (n,) position of the first in `items`.
            kept: (n,) how many, at most `width`.
            width: columns.
            skipping: (n,) positions that are stepped over.
        """
        steps = np.arange(width) - (width - kept[:, None])
        position = first[:, None] + steps
        if skipping is not None:
            position += position >= skipping[:, None]
        present = steps >= 0
        if not len(self.items):
            return np.full(present.shape, -1)
        rows: Rows = np.where(present, self.items[np.where(present, position, 0)], -1)
        return rows

    def draw(self, users: Rows, rng: np.random.Generator) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Return a random event's item of each user, and whether the user has any event."""
        counts = self.counts[users]
        position = self.start[users] + rng.integers(0, np.maximum(counts, 1))
        if not len(self.items):
            return np.zeros_like(position), counts > 0
        drawn = self.items[np.minimum(position, len(self.items) - 1)]
        return np.where(position < len(self.items), drawn, 0), counts > 0

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


class LatestEvents:
    """The histories of users as a tensor, made for those users that are asked for.

    For all of them it would be far larger than the tables that it is made of.
    """

    def __init__(self, histories: Histories, vectors: npt.NDArray[np.float32], length: int) -> None:
        """Take the events.

        Args:
            histories: of all users.
            vectors: (n_items, dim) the vector of an event.
            length: events kept at most.
        """
        self._histories = histories
        self._vectors = with_nothing(vectors)
        self._length = length

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_users, length, dim), of the tensor for all users."""
        return len(self._histories.counts), self._length, self._vectors.shape[1]

    def __getitem__(self, users: slice | npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Return (n, length, dim): the latest events, the most recent last, zeros in front."""
        kept = np.minimum(self._histories.counts[users], self._length)
        first = self._histories.start[1:][users] - kept
        return self._vectors[self._histories.events(first, kept, self._length)]


def with_nothing(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the vectors and one of zeros behind them, which row -1 stands for."""
    return np.concatenate([vectors, np.zeros_like(vectors[:1])])
