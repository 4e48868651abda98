"""Items that are relevant and unlike one another: maximal marginal relevance.

Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents
and producing summaries", SIGIR 1998.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.errors import RequestError

__all__ = ["Diversity", "Spread", "check_diversity", "directions"]

FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_CANDIDATES, _CANDIDATES_A_RESULT = 100, 4


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Each next item has the greatest weight·relevance − (1 − weight)·likeness.

    Relevance is the probability, likeness the greatest cosine to an item chosen before; of the
    first item it is 0.

    Attributes:
        weight: from 0, as unlike as can be, to 1, which is the order without diversity.
        candidates: of so many of the most relevant items are chosen; None takes 100, or 4·k where
            that is more.
    """

    weight: float
    candidates: int | None = None

    def __post_init__(self) -> None:
        """Raise RequestError where a value is out of range."""
        if not _is_share(self.weight):
            raise RequestError(
                f"diversity.weight: found {self.weight!r}, expected 0 to 1", field="diversity"
            )
        count = self.candidates
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            raise RequestError(
                f"diversity.candidates: found {count!r}, expected a whole number",
                field="diversity",
            )

    def candidates_of(self, k: int) -> int:
        """Return of how many items k are chosen.

        Raises:
            RequestError: fewer than k.
        """
        if self.candidates is None:
            return max(_CANDIDATES, _CANDIDATES_A_RESULT * k)
        if self.candidates < k:
            raise RequestError(
                f"diversity.candidates: found {self.candidates}, expected k = {k} or more",
                field="diversity",
            )
        return self.candidates


class Spread:
    """The candidates of one user, from which the next item is taken again and again."""

    def __init__(self, weight: float, relevance: FloatArray, candidates: FloatArray) -> None:
        """Take candidates, the most relevant first.

        Args:
            weight: of relevance.
            relevance: (m,) float32.
            candidates: (m, dim) float32, as `directions` returns them.
        """
        self._candidates = candidates
        self._like_weight = 1.0 - weight
        self._relevance = weight * relevance.astype(np.float64)
        self._likeness = np.full(len(relevance), -np.inf)
        self._gains = self._relevance.copy()

    def best(self) -> int | None:
        """Return the best candidate left, the more relevant one of equals; None of none left."""
        if not len(self._gains):
            return None
        at = int(np.argmax(self._gains))
        return None if self._gains[at] == -np.inf else at

    def drop(self, at: int) -> None:
        """Take a candidate out."""
        self._relevance[at] = self._gains[at] = -np.inf

    def avoid(self, chosen: FloatArray) -> None:
        """Count likeness to further chosen items, (c, dim)."""
        if not len(chosen):
            return
        likeness = (self._candidates @ chosen.T).max(axis=1)
        np.maximum(self._likeness, likeness, out=self._likeness)
        self._gains = self._relevance - self._like_weight * self._likeness


def directions(states: Mapping[str, Any], rows: Rows) -> FloatArray:
    """Return (m, dim) float32 unit vectors of items: the product of two is their cosine.

    They are the items' states, without the constant that is added to a score; where a joint graph
    reads states of other names, those are flattened and joined in the order of their names. A state
    of zeros, or one that is not finite, is like nothing: it becomes zeros.

    Args:
        states: by name, what returns those of m rows, (m, …).
        rows: (m,) catalogue rows.
    """
    names = ["item_state"] if "item_state" in states else sorted(states)
    parts = [states[name][rows] for name in names]
    flat = [part.reshape(len(rows), math.prod(part.shape[1:])) for part in parts]
    vectors: FloatArray = np.concatenate(flat, axis=1, dtype=np.float32)
    with np.errstate(all="ignore"):
        # The largest component first: squares of large numbers overflow.
        vectors /= np.abs(vectors).max(axis=1, initial=0.0)[:, None]
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    vectors[~np.isfinite(vectors).all(axis=1)] = 0.0
    return vectors


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float, np.floating)) and bool(0 <= value <= 1)


def check_diversity(diversity: object) -> None:
    """Raise RequestError of what is neither None nor a `Diversity`."""
    if diversity is not None and not isinstance(diversity, Diversity):
        raise RequestError(
            f"diversity: found {type(diversity).__name__}, expected a Diversity, such as "
            "Diversity(weight=0.7)",
            field="diversity",
        )
