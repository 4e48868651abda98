"""Choosing k items under caps and for diversity, out of as much of the ranking as that takes."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fuserank.engine.caps import Cap, CapCounts, check_caps
from fuserank.engine.diversity import Diversity, Spread, check_diversity, directions
from fuserank.engine.predicates import Scalar
from fuserank.engine.results import probabilities
from fuserank.engine.scoring import Eligibility, TopK

__all__ = ["Scan", "Selection", "Selector"]

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
FloatArray = npt.NDArray[np.float32]

Scan = Callable[[Rows, Words, int], TopK]
"""Returns the best eligible items of some users, by their positions; their bitmaps, (q, n_words);
how many."""

_LEAST, _A_RESULT = 64, 2
"""Items looked at first where values are capped: so many, or so many for each one wanted."""


class Items(Protocol):
    """What is read of the items, such as a `Catalogue`."""

    @property
    def states(self) -> Mapping[str, Any]:
        """Arrays by name, (n_items, …)."""

    def __len__(self) -> int:
        """Return how many rows there are."""

    def attributes_of(self, row: int) -> dict[str, Any]:
        """Return the attributes of a row."""


class Index(Protocol):
    """What finds items by their attributes, such as an `AttributeIndex`."""

    def check(self, attributes: Iterable[str], field: str) -> None:
        """Raise RequestError of an attribute that no item has."""

    def words_with(self, attribute: str, values: Collection[Scalar]) -> Words:
        """Return the bitmap of the items that have one of these values."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How k items are chosen of the ranking.

    Attributes:
        k: items wanted.
        caps: all of them hold.
        diversity: None keeps to the order of the ranking.
    """

    k: int
    caps: Sequence[Cap] = ()
    diversity: Diversity | None = None

    def __post_init__(self) -> None:
        """Raise RequestError where a value is out of range."""
        check_caps(self.caps)
        check_diversity(self.diversity)
        if self.diversity is not None:
            self.diversity.candidates_of(self.k)

    @property
    def spreads(self) -> bool:
        """Whether the order may be other than that of the ranking."""
        return self.diversity is not None and self.diversity.weight < 1

    @property
    def first_size(self) -> int:
        """How much of the ranking is looked at first."""
        if self.diversity is not None and self.spreads:
            return self.diversity.candidates_of(self.k)
        return max(_LEAST, _A_RESULT * self.k) if self.caps else self.k


class Selector:
    """Chooses items of one catalogue."""

    def __init__(self, items: Items, index: Index) -> None:
        """Take the items and the index of their attributes."""
        self._items = items
        self._index = index
        self._eligibility = Eligibility(len(items))

    def best(self, scan: Scan, words: Words, selection: Selection) -> TopK:
        """Return the chosen items of q users.

        Where what has been looked at does not fill the list, twice as much is looked at next: of
        the items that no cap rules out by then, those behind. That is what going down the whole
        ranking would choose.

        Args:
            scan: ranks the users' items.
            words: (q, n_words): who is eligible.
            selection: what is chosen.

        Raises:
            RequestError: a cap on an attribute that no item has.
        """
        users = np.arange(len(words))
        if not selection.caps and not selection.spreads:
            return scan(users, words, selection.k)
        self._index.check([cap.attribute for cap in selection.caps], "caps")
        lists = [_List(selection, self._items) for _ in users]
        words, size = words.copy(), selection.first_size
        while len(users):
            found = scan(users, words[users], size)
            more = []
            for at, user in enumerate(users.tolist()):
                rows = found.rows[at, : found.sizes[at]]
                lists[user].take(rows, found.scores[at, : found.sizes[at]])
                if selection.caps and len(rows) >= size and not lists[user].is_full:
                    more.append(user)
                    words[user] &= ~self._ruled_out(rows, lists[user])
            users, size = np.array(more, dtype=np.int64), 2 * size
        return _joined(lists, min(selection.k, len(self._items)))

    def _ruled_out(self, rows: Rows, chosen: "_List") -> Words:
        """Return the bitmap of these rows and of all that a cap does not let in any more."""
        words: Words = self._eligibility.words([(rows[:0], rows)])[0]
        for attribute, values in chosen.counts.full():
            words |= self._index.words_with(attribute, values)
        return words


class _List:
    """The items chosen for one user."""

    def __init__(self, selection: Selection, items: Items) -> None:
        self._selection = selection
        self._items = items
        self._chosen: list[FloatArray] = []  # directions, (dim,) each
        self.counts = CapCounts(selection.caps)
        self.rows: list[int] = []
        self.scores: list[float] = []

    @property
    def is_full(self) -> bool:
        return len(self.rows) >= self._selection.k

    def take(self, rows: Rows, scores: FloatArray) -> None:
        """Take what may be taken of some rows, the best first, until the list is full."""
        diversity = self._selection.diversity
        if diversity is not None and self._selection.spreads:
            self._spread(rows, scores, diversity.weight)
            return
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if self.is_full:
                return
            self._admit(row, score)

    def _spread(self, rows: Rows, scores: FloatArray, weight: float) -> None:
        vectors = directions(self._items.states, rows)
        spread = Spread(weight, probabilities(scores), vectors)
        if self._chosen:
            spread.avoid(np.stack(self._chosen))
        while not self.is_full and (at := spread.best()) is not None:
            spread.drop(at)
            if self._admit(int(rows[at]), float(scores[at])):
                self._chosen.append(vectors[at])
                spread.avoid(vectors[at : at + 1])

    def _admit(self, row: int, score: float) -> bool:
        if self._selection.caps and not self.counts.admit(self._items.attributes_of(row)):
            return False
        self.rows.append(row)
        self.scores.append(score)
        return True


def _joined(lists: Sequence[_List], k: int) -> TopK:
    found = TopK.empty(len(lists), k)
    for at, chosen in enumerate(lists):
        size = len(chosen.rows)
        found.scores[at, :size], found.rows[at, :size] = chosen.scores, chosen.rows
        found.sizes[at] = size
    return found
