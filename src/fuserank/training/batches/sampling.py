"""Training batches: positives, dislikes and sampled negatives, with parts hidden at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuserank.schema import Field, Kind, Schema, Side
from fuserank.schema.categorical import UNKNOWN
from fuserank.training.batches.event_index import EventIndex
from fuserank.training.batches.history_sampler import HistorySampler, MeanSampler, SequenceSampler
from fuserank.training.batches.interaction_store import StoredInteractions
from fuserank.training.batches.negatives import NegativeSampler

if TYPE_CHECKING:
    from fuserank.training.data.features import Features, SideFeatures
    from fuserank.training.data.interactions import Interactions
    from fuserank.training.train_config import TrainConfig

__all__ = ["Batch", "Sampler"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
"""Row numbers; any shape."""

_EXCERPT = 5
"""Events of an excerpt at most."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B positives with their negatives, C = 2 + n candidates each.

    Attributes:
        users: inputs of the user tower, B rows; a history is one row, the mean of its events,
            or all of them where the ranker reads events.
        items: inputs of the item tower, one row for each distinct item of the batch.
        candidates: (B, C) int64 rows of `items`: the positive, an item that the user disliked,
            and n that the user has not interacted with.
        labels: (B, C) float32, 1 for the positive and 0 otherwise.
        weights: (B, C) float32, 0 where there is no such candidate.
        log_chances: (B, C) float32, log of the chance that a negative's draw is that item.
        log_presence: (M,) float32, for each row of `items`: log of the chance that a batch has it.
    """

    users: Mapping[str, Array]
    items: Mapping[str, Array]
    candidates: Rows
    labels: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    log_chances: npt.NDArray[np.float32]
    log_presence: npt.NDArray[np.float32]


class Sampler:
    """Makes the batches of each epoch from the training interactions."""

    def __init__(
        self, features: Features, interactions: Interactions, schema: Schema, config: TrainConfig
    ) -> None:
        """Index the training interactions.

        Args:
            features: tensors of all users and items.
            interactions: those to train on, nothing else.
            schema: the fitted fields.
            config: batch size, shares and weights.
        """
        self._features = features
        self._config = config
        index = (
            interactions.index
            if isinstance(interactions, StoredInteractions)
            else EventIndex.build(
                interactions, n_users=len(features.users), n_items=len(features.items)
            )
        )
        self.likes = index.likes
        self._dislikes = index.dislikes
        # One dislike is drawn for each like: it stands for as many as the user has of them.
        self._dislikes_a_like = np.divide(
            index.dislikes.counts, np.maximum(index.likes.counts, 1), dtype=np.float32
        )
        self._negatives = NegativeSampler(config.negatives_from, index.unseen, index.like_counts)
        # How often a batch has an item, on average: among its positives or its negatives.
        liked = index.like_counts / max(index.like_counts.sum(), 1)
        draws = liked + config.negatives * np.exp(self._negatives.log_chance)
        self._log_presence = np.log(-np.expm1(-config.batch_size * draws)).astype(np.float32)
        self._missing = _missing(schema)
        self._histories = {
            f.field.tensor: self._history_sampler(f.field)
            for f in schema.fields
            if f.field.kind is Kind.HISTORY
        }
        self._ids = {
            side: None if (f := schema.id_field(side)) is None else f.field.tensor
            for side in (Side.USER, Side.ITEM)
        }

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-len(self.likes.items) // self._config.batch_size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield batches that hold every positive once, in an order of the epoch's own.

        The same seed and number give the same batches.
        """
        rng = np.random.default_rng([self._config.seed, number])
        n = len(self.likes.items)
        order = rng.permutation(np.arange(n, dtype=np.int32 if n < 1 << 31 else np.int64))
        for first in range(0, len(order), self._config.batch_size):
            yield self._batch(order[first : first + self._config.batch_size], rng)

    def _batch(self, events: Rows, rng: np.random.Generator) -> Batch:
        """Return the batch of some positives, given as positions in `likes`."""
        users = self.likes.owner(events)
        disliked, has_disliked = self._dislikes.draw(users, rng)
        liked = self.likes.items[events]
        negatives = self._negatives.draw(users, liked, self._config.negatives, rng)
        items = np.column_stack([liked, disliked, negatives.items])
        distinct, candidates = np.unique(items, return_inverse=True)

        labels = np.zeros(items.shape, dtype=np.float32)
        labels[:, 0] = 1
        weights = np.ones(items.shape, dtype=np.float32)
        stands_for = self._dislikes_a_like[users]
        weights[:, 1] = has_disliked * stands_for * self._config.dislike_weight
        weights[:, 2:] = negatives.usable * self._config.negative_weight
        return Batch(
            users=self._user_inputs(events, users, rng),
            items=self._inputs(Side.ITEM, self._features.items, distinct, rng),
            candidates=candidates.reshape(items.shape),
            labels=labels,
            weights=weights,
            log_chances=self._negatives.log_chance[items],
            log_presence=self._log_presence[distinct],
        )

    def _user_inputs(self, events: Rows, users: Rows, rng: np.random.Generator) -> dict[str, Array]:
        inputs = self._inputs(Side.USER, self._features.users, users, rng)
        config, draws = self._config, rng.random((3, len(users)))
        visitor = draws[0] < config.visitors
        hidden = visitor | (draws[1] < config.cold_dropout)
        excerpt = draws[2] < config.short_history
        for name, tensor in inputs.items():
            tensor[hidden] = self._missing[name]
        for name, histories in self._histories.items():
            inputs[name] = histories.latest(events)
            inputs[name][excerpt] = histories.excerpt(events[excerpt], _EXCERPT, rng)
            inputs[name][visitor] = histories.alike(events[visitor], rng)
        return inputs

    def _history_sampler(self, field: Field) -> HistorySampler:
        vectors, config = self._features.history_vectors(field), self._config
        if not config.reads_events:
            return MeanSampler(self.likes, vectors, field.max_length)
        before = config.history in ("gru", "sasrec")  # those that read the order of events
        return SequenceSampler(self.likes, vectors, field.max_length, before=before)

    def _inputs(
        self, side: Side, features: SideFeatures, rows: Rows, rng: np.random.Generator
    ) -> dict[str, Array]:
        """Return copies of the tensors of some rows, some ids replaced by the unknown one."""
        inputs = {name: tensor[rows] for name, tensor in features.tensors.items()}
        if (name := self._ids[side]) is not None:
            inputs[name][rng.random(len(rows)) < self._config.id_dropout] = UNKNOWN
        return inputs


def _missing(schema: Schema) -> dict[str, Array]:
    """Return, by user tensor, the row of a user of whom nothing is known."""
    missing = {name: rows[0] for name, rows in schema.encode(Side.USER, {}, 1).items()}
    for fitted in schema.text_fields(Side.USER):
        missing[fitted.field.tensor] = np.zeros(fitted.dim or 0, dtype=np.float32)
    return missing
