"""What the engine answers with."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Embeddings", "Recommendation", "Scores", "Timings"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Milliseconds spent in each stage of a request; a stage that did not run is 0.

    In a batch the time of a shared stage is the whole batch's, reported on each reply.
    """

    tokenize_ms: float = 0.0
    encode_ms: float = 0.0
    user_graph_ms: float = 0.0
    scan_ms: float = 0.0
    """Scoring and selection: they are one pass."""
    total_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The best items of one user, best first.

    Attributes:
        item_ids: n ids, n ≤ k; fewer where fewer items are eligible.
        scores: (n,) float32 logits, descending; ties stand in catalogue order.
        probabilities: (n,) float32, σ(score).
        plan: how the request was answered, such as ``"exact"``.
        served_as: ``"known"`` (a stored user), ``"unknown"`` (an id never seen: its UNK row)
            or ``"cold"`` (no id: text, history or attributes only).
        timings: where the time went.
    """

    item_ids: tuple[str, ...]
    scores: FloatArray
    probabilities: FloatArray
    plan: str
    served_as: str
    timings: Timings = field(default_factory=Timings)

    def __len__(self) -> int:
        return len(self.item_ids)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Yield (item id, score) pairs, best first."""
        return zip(self.item_ids, map(float, self.scores), strict=True)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of named items for one user, in the order the items were asked for.

    Attributes:
        item_ids: n ids.
        scores: (n,) float32 logits.
        probabilities: (n,) float32, σ(score).
        served_as: as in `Recommendation`.
        timings: where the time went.
    """

    item_ids: tuple[str, ...]
    scores: FloatArray
    probabilities: FloatArray
    served_as: str
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Text embeddings and the space they live in.

    Attributes:
        vectors: (n, dim) float32, one row a text.
        space: fingerprint of the embedding space; vectors of other spaces do not compare.
        timings: tokenize and encode times.
    """

    vectors: FloatArray
    space: str
    timings: Timings = field(default_factory=Timings)
