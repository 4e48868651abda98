"""What a training example's history holds: never the example's own target."""

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from fuserank.training.data.histories import Histories, with_nothing

__all__ = ["HistorySampler", "MeanSampler", "SequenceSampler"]

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

_SAMPLE = 500
"""Items among which the nearest to a target is looked for: the text of the nearest of 500 is
about the same things, and the cost does not grow with the catalogue."""


class HistorySampler(ABC):
    """Histories of training examples, each of which has an event as its target.

    They are (n, length, dim) float32 as the user tower reads them, zeros without any event. Targets
    are (n,) positions in ``histories.items``.
    """

    def __init__(self, histories: Histories, vectors: Vectors, max_length: int) -> None:
        """Take the events.

        Args:
            histories: the events, each of which can be a target.
            vectors: (n_items, dim) the vector of an event.
            max_length: L, events counted at most.
        """
        self._histories = histories
        self._vectors = with_nothing(vectors)
        self._max_length = max_length

    @abstractmethod
    def latest(self, targets: Rows) -> Vectors:
        """Return histories of the latest L events but the target."""

    @abstractmethod
    def excerpt(self, targets: Rows, longest: int, rng: np.random.Generator) -> Vectors:
        """Return histories of one to `longest` neighbouring events from a random time.

        Args:
            targets: left out.
            longest: events kept at most.
            rng: draws how many events and from what time.
        """

    @abstractmethod
    def alike(self, targets: Rows, rng: np.random.Generator) -> Vectors:
        """Return histories of one event: another item that is much like the target.

        They stand for what a visitor says who looks for such an item.

        Args:
            targets: left out.
            rng: draws the items among which the nearest is taken.
        """

    def _excerpt(
        self, targets: Rows, available: Rows, longest: int, rng: np.random.Generator
    ) -> tuple[Rows, Rows]:
        """Return (n, longest) item rows, -1 in front, and how many each has.

        `available` counts the events to choose from, from the user's first on but the target.
        """
        longest = min(longest, self._max_length)
        kept = np.minimum(rng.integers(1, longest + 1, size=len(targets)), available)
        start = self._histories.start[self._histories.owner(targets)]
        first = start + rng.integers(0, available - kept + 1)
        return self._histories.events(first, kept, longest, skipping=targets), kept

    def _others(self, targets: Rows) -> Rows:
        """Return (n,) how many events of the same user there are besides the target."""
        others: Rows = self._histories.counts[self._histories.owner(targets)] - 1
        return others

    def _alike(self, targets: Rows, rng: np.random.Generator) -> Rows:
        """Return (n,) item rows."""
        n_items = len(self._vectors) - 1
        sample = rng.choice(n_items, min(_SAMPLE, n_items), replace=False)
        likeness = self._of_targets(targets) @ self._vectors[sample].T
        likeness[self._histories.items[targets][:, None] == sample] = -np.inf
        nearest: Rows = sample[likeness.argmax(axis=1)]
        return nearest

    def _of_targets(self, targets: Rows) -> Vectors:
        vectors: Vectors = self._vectors[self._histories.items[targets]]
        return vectors


class MeanSampler(HistorySampler):
    """Histories of one row that is already the mean of its events."""

    def __init__(self, histories: Histories, vectors: Vectors, max_length: int) -> None:
        """Prepare the sums of each user's latest events; arguments as of `HistorySampler`."""
        super().__init__(histories, vectors, max_length)
        self._latest = histories.sums(vectors, max_length).astype(np.float32)
        self._one_more = histories.sums(vectors, max_length + 1).astype(np.float32)

    def latest(self, targets: Rows) -> Vectors:
        """Return (n, 1, dim).

        The events are either the latest L or the latest L + 1 less the target, so two sums a user
        answer for all of that user's targets.
        """
        users = self._histories.owner(targets)
        near = self._histories.start[users + 1] - targets <= self._max_length + 1
        sums = self._latest[users]
        sums[near] = self._one_more[users[near]] - self._of_targets(targets[near])
        kept = np.minimum(self._others(targets), self._max_length)
        sums *= ((kept > 0) / np.maximum(kept, 1)).astype(np.float32)[:, None]
        return sums[:, None, :]

    def excerpt(self, targets: Rows, longest: int, rng: np.random.Generator) -> Vectors:
        """Return (n, 1, dim)."""
        rows, kept = self._excerpt(targets, self._others(targets), longest, rng)
        sums = self._vectors[rows].sum(axis=1)
        means: Vectors = sums / np.maximum(kept, 1).astype(np.float32)[:, None]
        return means[:, None, :]

    def alike(self, targets: Rows, rng: np.random.Generator) -> Vectors:
        """Return (n, 1, dim)."""
        nearest: Vectors = self._vectors[self._alike(targets, rng)][:, None, :]
        return nearest


class SequenceSampler(HistorySampler):
    """Histories of L rows, the most recent event last and zeros in front."""

    def __init__(
        self, histories: Histories, vectors: Vectors, max_length: int, *, before: bool
    ) -> None:
        """Take the events; other arguments as of `HistorySampler`.

        Args:
            histories: see there.
            vectors: see there.
            max_length: see there.
            before: whether a history holds only what came before its target, as for a model that
                reads the order of events: it is to say what comes next.
        """
        super().__init__(histories, vectors, max_length)
        self._before = before

    def latest(self, targets: Rows) -> Vectors:
        """Return (n, L, dim)."""
        available = self._available(targets)
        kept = np.minimum(available, self._max_length)
        first = self._histories.start[self._histories.owner(targets)] + available - kept
        return self._vectors[self._histories.events(first, kept, self._max_length, targets)]

    def excerpt(self, targets: Rows, longest: int, rng: np.random.Generator) -> Vectors:
        """Return (n, L, dim)."""
        rows, _ = self._excerpt(targets, self._available(targets), longest, rng)
        return self._packed(rows)

    def alike(self, targets: Rows, rng: np.random.Generator) -> Vectors:
        """Return (n, L, dim)."""
        return self._packed(self._alike(targets, rng)[:, None])

    def _available(self, targets: Rows) -> Rows:
        """Return (n,) how many events a history can be made of."""
        if not self._before:
            return self._others(targets)
        return targets - self._histories.start[self._histories.owner(targets)]

    def _packed(self, rows: Rows) -> Vectors:
        """Return (n, L, dim) of (n, width) item rows."""
        packed = np.zeros((len(rows), self._max_length, self._vectors.shape[1]), dtype=np.float32)
        packed[:, self._max_length - rows.shape[1] :] = self._vectors[rows]
        return packed
