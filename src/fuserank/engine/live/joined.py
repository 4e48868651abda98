"""Several parts of a catalogue as one: scans, and predicates on attributes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.attribute_index import unknown_attribute
from fuserank.engine.live.snapshot import Part
from fuserank.engine.predicates import Predicate, Scalar
from fuserank.engine.scoring import QuantizedScorer, TopK
from fuserank.engine.scoring.kernels import BLOCK

__all__ = ["JoinedIndex", "JoinedScorer"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


class JoinedScorer:
    """Scans every part, and joins what it finds: exact where its parts are."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Take parts in the order of their rows."""
        self._parts = parts

    @property
    def n_items(self) -> int:
        """Rows, whether they hold an item or not."""
        return self._parts[-1].last

    def top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        found = [
            _moved(part.segment.scorer.top_k(users, _words_of(words, part), k), part)
            for part in self._parts
        ]
        return TopK.merge(found, min(k, self.n_items))

    def near_top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK | None:
        """Return k items that score nearly as the best do; see `QuantizedScorer`.

        Parts without codes are scanned exactly; None where no part was answered from codes.
        """
        found, is_near = [], False
        for part in self._parts:
            scorer, mine, near = part.segment.scorer, _words_of(words, part), None
            if isinstance(scorer, QuantizedScorer):
                near = scorer.near_top_k(users, mine, k)
                is_near |= near is not None
            found.append(_moved(near or scorer.top_k(users, mine, k), part))
        return TopK.merge(found, min(k, self.n_items)) if is_near else None

    def score(self, users: Mapping[str, Array], rows: Rows) -> FloatArray:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        scores = np.empty((len(next(iter(users.values()))), len(rows)), dtype=np.float32)
        for part in self._parts:
            mine = (rows >= part.first) & (rows < part.last)
            if mine.any():
                scores[:, mine] = part.segment.scorer.score(users, rows[mine] - part.first)
        return scores

    def close(self) -> None:
        """Release the threads of every part."""
        for part in self._parts:
            part.segment.scorer.close()


class JoinedIndex:
    """`AttributeIndex` of several parts."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Take parts in the order of their rows."""
        self._parts = parts

    def words(self, predicates: Sequence[Predicate]) -> Words:
        """Return the bitmap of the items of which all of these are true.

        Raises:
            RequestError: an attribute that no item has.
        """
        self.check([predicate.attribute for predicate in predicates], "where")
        return np.concatenate([part.index.holding(predicates) for part in self._parts])

    def words_with(self, attribute: str, values: Collection[Scalar]) -> Words:
        """Return the bitmap of the items that have one of these values."""
        return np.concatenate([part.index.words_with(attribute, values) for part in self._parts])

    def check(self, attributes: Iterable[str], field: str) -> None:
        """Raise RequestError of an attribute that no item has."""
        for attribute in attributes:
            if not any(part.index.has(attribute) for part in self._parts):
                raise unknown_attribute(attribute, self.names(), field)

    def names(self) -> frozenset[str]:
        """Return the names of all attributes."""
        return frozenset[str]().union(*(part.index.names() for part in self._parts))


def _words_of(words: Words, part: Part) -> Words:
    # Kernels are compiled for arrays without gaps.
    return np.ascontiguousarray(words[:, part.first // BLOCK : part.last // BLOCK])


def _moved(found: TopK, part: Part) -> TopK:
    """Return what was found in a part by the rows of the whole."""
    return TopK(scores=found.scores, rows=found.rows + part.first, sizes=found.sizes)
