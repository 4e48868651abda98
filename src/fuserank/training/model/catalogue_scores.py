"""Scores of users with all items, the item tower run once an item."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
import numpy.typing as npt

from fuserank.schema import Kind, Schema
from fuserank.training.data.histories import LatestEvents
from fuserank.training.model import towers
from fuserank.training.model.collaborative import COLLABORATIVE_FIELD
from fuserank.training.model.towers import Inputs, run_tower

if TYPE_CHECKING:
    from fuserank.training.data.features import Features
    from fuserank.training.data.histories import Histories
    from fuserank.training.model.ranker import Ranker

__all__ = ["CatalogueScores", "user_inputs"]

Rows = npt.NDArray[np.integer]


def user_inputs(ranker: Ranker, features: Features, histories: Histories, schema: Schema) -> Inputs:
    """Return the user tower's inputs for every user.

    A history whose mean or sum is all that a ranker reads is one event, which is that.

    Args:
        ranker: says how it reads histories.
        features: tensors of all users and items.
        histories: what each user chose.
        schema: the fitted fields.
    """
    inputs: dict[str, npt.NDArray[Any] | LatestEvents] = dict(features.users.tensors)
    for fitted in schema.fields:
        field = fitted.field
        if field.kind is not Kind.HISTORY:
            continue
        vectors, length = features.history_vectors(field), field.max_length
        if ranker.blends and field.name == COLLABORATIVE_FIELD:
            inputs[field.tensor] = histories.sums(vectors, length).astype(np.float32)[:, None]
        elif ranker.reads_events:
            inputs[field.tensor] = LatestEvents(histories, vectors, length)
        else:
            inputs[field.tensor] = histories.means(vectors, length)[:, None]
    return inputs


class CatalogueScores:
    """The ψ of all items, and the logits that users make with them.

    The φ of users are worked out when they are asked for, because with every event of a history
    they are not small.

    Attributes:
        psi: (n_items, dim) float32, or more axes, see `Ranker.item_tower`.
    """

    def __init__(self, ranker: Ranker, users: Inputs, items: Inputs) -> None:
        """Run the item tower.

        Args:
            ranker: the model.
            users: inputs of the user tower.
            items: inputs of the item tower.
        """
        self.psi = run_tower(ranker.item_tower, items)
        self._users = users
        self._user_tower = ranker.user_tower
        self._interaction = ranker.interaction

    @classmethod
    def of_known(
        cls, ranker: Ranker, features: Features, histories: Histories, schema: Schema
    ) -> Self:
        """Return the scores of all users of a data set; arguments as in `user_inputs`."""
        users = user_inputs(ranker, features, histories, schema)
        return cls(ranker, users, features.items.tensors)

    def pairs(self, users: Rows, items: Rows) -> npt.NDArray[np.float32]:
        """Return (n,) logits of user row i with item row i."""
        logits = np.empty(len(users), dtype=np.float32)
        numbers = prod(self._user_tower.output_shape[1:]) + self.psi[0].size  # of φ and ψ
        step = max(towers.NUMBERS_AT_ONCE // numbers, 1)
        for first in range(0, len(users), step):
            part = slice(first, first + step)
            distinct, place = np.unique(users[part], return_inverse=True)
            phi = run_tower(self._user_tower, self._users, distinct)
            logit = self._interaction([phi[place], self.psi[items[part]]])
            logits[part] = keras.ops.convert_to_numpy(logit)
        return logits

    def matrix(self, users: Rows) -> npt.NDArray[np.float32]:
        """Return (n, n_items) logits of some user rows with every item."""
        n_items = len(self.psi)
        pairs = self.pairs(np.repeat(users, n_items), np.tile(np.arange(n_items), len(users)))
        return pairs.reshape(len(users), n_items)
