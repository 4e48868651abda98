"""What a training example's history holds: never the example's own target."""

import numpy as np
import numpy.typing as npt

from fuserank.training.histories import Histories

__all__ = ["HistorySampler"]

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

_SAMPLE = 500
"""Items among which the nearest to a target is looked for: the text of the nearest of 500 is
about the same things, and the cost does not grow with the catalogue."""


class HistorySampler:
    """Mean histories of training examples, each of which has an event as its target."""

    def __init__(self, histories: Histories, vectors: Vectors, max_length: int) -> None:
        """Prepare the sums of each user's latest events.

        Args:
            histories: the events, each of which can be a target.
            vectors: (n_items, dim) the vector of an event.
            max_length: L, events counted at most.
        """
        self._histories = histories
        self._vectors = vectors
        self._max_length = max_length
        self._owner = histories.user
        self._latest = histories.sums(vectors, max_length).astype(np.float32)
        self._one_more = histories.sums(vectors, max_length + 1).astype(np.float32)

    def latest(self, targets: Rows) -> Vectors:
        """Return (n, dim) means of the latest L events but the target; zeros without any.

        They are either the latest L or the latest L + 1 less the target, so two sums a user
        answer for all of that user's targets.

        Args:
            targets: (n,) positions in ``histories.items``.
        """
        users = self._owner[targets]
        end, others = self._histories.start[users + 1], self._histories.counts[users] - 1
        near = end - targets <= self._max_length + 1
        sums = self._latest[users]
        sums[near] = self._one_more[users[near]] - self._of_targets(targets[near])
        kept = np.minimum(others, self._max_length)
        sums *= ((kept > 0) / np.maximum(kept, 1)).astype(np.float32)[:, None]
        return sums

    def excerpt(self, targets: Rows, longest: int, rng: np.random.Generator) -> Vectors:
        """Return (n, dim) means of one to `longest` neighbouring events from a random time.

        Args:
            targets: (n,) positions in ``histories.items``, left out.
            longest: events kept at most.
            rng: draws how many events and from what time.
        """
        longest = min(longest, self._max_length)
        users = self._owner[targets]
        start, others = self._histories.start[users], self._histories.counts[users] - 1
        kept = np.minimum(rng.integers(1, longest + 1, size=len(users)), others)
        first = start + rng.integers(0, others - kept + 1)
        steps = np.arange(longest)
        position = first[:, None] + steps
        position += position >= targets[:, None]  # step over the target
        present = steps < kept[:, None]
        events = self._histories.items[np.where(present, position, 0)]
        sums = (self._vectors[events] * present[:, :, None]).sum(axis=1)
        means: Vectors = sums / np.maximum(kept, 1).astype(np.float32)[:, None]
        return means

    def alike(self, targets: Rows, rng: np.random.Generator) -> Vectors:
        """Return (n, dim) vectors of other items that are much like the targets.

        They stand for what a visitor says who looks for such an item.

        Args:
            targets: (n,) positions in ``histories.items``.
            rng: draws the items among which the nearest is taken.
        """
        n_items = len(self._vectors)
        sample = rng.choice(n_items, min(_SAMPLE, n_items), replace=False)
        likeness = self._of_targets(targets) @ self._vectors[sample].T
        likeness[self._histories.items[targets][:, None] == sample] = -np.inf
        nearest: Vectors = self._vectors[sample[likeness.argmax(axis=1)]]
        return nearest

    def _of_targets(self, targets: Rows) -> Vectors:
        vectors: Vectors = self._vectors[self._histories.items[targets]]
        return vectors
