"""What the engine answers with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "BundleInfo",
    "Embeddings",
    "FieldInfo",
    "Item",
    "Plan",
    "Recommendation",
    "Scores",
    "Timings",
    "probabilities",
]

FloatArray = npt.NDArray[np.float32]


class Plan(StrEnum):
    """How the catalogue is ranked."""

    EXACT = "exact"
    """By the scores of the float32 states."""
    QUANTIZED = "quantized"
    """By int8 states alone, where the bundle has them; scores are near the exact ones."""


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
    queue_ms: float = 0.0
    """Waiting for other requests, which is no part of the total."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The best items of one user, best first.

    Attributes:
        item_ids: n ids, n ≤ k; fewer where fewer items are eligible.
        scores: (n,) float32 logits, descending; ties stand in catalogue order. Where diversity was
            asked for, items stand as they were chosen, and scores go up and down.
        probabilities: (n,) float32, σ(score).
        plan: how the request was answered: a `Plan`, or ``"cached"`` by a server.
        served_as: ``"known"`` (a stored user), ``"unknown"`` (an id never seen: its UNK row)
            or ``"cold"`` (no id: text, history or attributes only).
        timings: where the time went.
        attributes: of each item, such as its title, where a client asked for them; the engine
            itself leaves them to `Engine.attributes`.
        degraded: whether the plan may return other items than ``"exact"`` would.
        degraded_reason: why, such as ``"requested"`` or ``"deadline"``; empty where it is not.
    """

    item_ids: tuple[str, ...]
    scores: FloatArray
    probabilities: FloatArray
    plan: str
    served_as: str
    timings: Timings = field(default_factory=Timings)
    attributes: tuple[dict[str, Any], ...] = ()
    degraded: bool = False
    degraded_reason: str = ""

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


@dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """A field that requests may carry."""

    name: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """What an engine has loaded.

    Attributes:
        name: of the bundle.
        version: of the bundle.
        format_version: of the bundle's layout.
        space: fingerprint of the embedding space.
        model: name of the interaction model.
        scorer: ``dot``, ``additive`` or ``generic``.
        n_items: items of the catalogue.
        n_users: stored users.
        title: item attribute shown to people, or None.
        threshold: probability from which a pair counts as a like.
        encoder: name of the text encoder, or None.
        precision: of the text encoder, or None.
        device: where graphs run.
        user_fields: what requests may carry.
        degraded: why the encoder costs more ranking quality than was asked for, if it does.
    """

    name: str
    version: str
    format_version: int
    space: str
    model: str
    scorer: str
    n_items: int
    n_users: int
    title: str | None
    threshold: float
    encoder: str | None
    precision: str | None
    device: str
    user_fields: tuple[FieldInfo, ...]
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item of the catalogue.

    Attributes:
        item_id: of the item.
        attributes: what is known of it.
        live: whether it came after the bundle was made, or was replaced since.
    """

    item_id: str
    attributes: dict[str, Any]
    live: bool


def probabilities(logits: FloatArray) -> FloatArray:
    """Return σ(x) = 1 / (1 + e^-x) without overflow."""
    found: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return found
