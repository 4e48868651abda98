"""The ranking of one call's users, by the plan that was asked for."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fuserank.engine.results import Plan
from fuserank.engine.scoring import Scorer, TopK

__all__ = ["NearScorer", "Ranking"]

Array = npt.NDArray[Any]


@runtime_checkable
class NearScorer(Protocol):
    """A scorer that can also answer from int8 states alone, such as `QuantizedScorer`."""

    def near_top_k(
        self, users: Mapping[str, Array], words: npt.NDArray[np.uint64], k: int
    ) -> TopK | None:
        """Return k items that score nearly as the best do; None where codes do not tell them."""


class Ranking:
    """Scans the catalogue for the users of one call, as often as their selection takes.

    Attributes:
        plan: `QUANTIZED` if any scan so far was answered from int8 states alone.
    """

    def __init__(self, scorer: Scorer, states: Mapping[str, Array], plan: Plan) -> None:
        """Take the plan that was asked for, and the outputs of the user graph for q users."""
        self._scorer = scorer
        self._states = states
        self._near = scorer if plan is Plan.QUANTIZED and isinstance(scorer, NearScorer) else None
        self.plan = Plan.EXACT

    def best(self, users: npt.NDArray[np.int64], words: npt.NDArray[np.uint64], k: int) -> TopK:
        """Return the k best eligible items of some of the users.

        Args:
            users: their positions.
            words: their bitmaps, one row a user.
            k: items wanted.
        """
        states = {name: state[users] for name, state in self._states.items()}
        if self._near is not None:
            found = self._near.near_top_k(states, words, k)
            if found is not None:
                self.plan = Plan.QUANTIZED
                return found
        return self._scorer.top_k(states, words, k)
