"""Scores of users with all items, each tower run once a user and once an item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt

from fuserank.schema import Kind, Schema

if TYPE_CHECKING:
    from fuserank.training.features import Features
    from fuserank.training.histories import Histories
    from fuserank.training.ranker import Ranker

__all__ = ["CatalogueScores", "user_inputs"]

_NUMBERS = 1 << 25
"""Numbers of φ and ψ in the pairs that are scored at once: 130 MB, and as much for a layer."""
_ROWS = 4096
"""Rows that a tower takes at once."""


def user_inputs(
    features: Features, histories: Histories, schema: Schema
) -> dict[str, npt.NDArray[Any]]:
    """Return the user tower's inputs for every user, each history being the mean of its events."""
    inputs = dict(features.users.tensors)
    for fitted in schema.fields:
        if fitted.field.kind is Kind.HISTORY:
            vectors = features.history_vectors(fitted.field)
            means = histories.means(vectors, fitted.field.max_length)
            inputs[fitted.field.tensor] = means[:, None, :]
    return inputs


class CatalogueScores:
    """The φ of some users and the ψ of all items, and the logits they make.

    Attributes:
        phi: (n_users, dim) float32, or (n_users, n_fields, dim) for a model that reads fields.
        psi: the same of all items.
    """

    def __init__(
        self,
        ranker: Ranker,
        users: Mapping[str, npt.NDArray[Any]],
        items: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        """Run both towers.

        Args:
            ranker: the model.
            users: inputs of the user tower.
            items: inputs of the item tower.
        """
        self.phi = _run(ranker.user_tower, users)
        self.psi = _run(ranker.item_tower, items)
        self._interaction = ranker.interaction

    def pairs(
        self, users: npt.NDArray[np.integer], items: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.float32]:
        """Return (n,) logits of user row i with item row i."""
        logits = np.empty(len(users), dtype=np.float32)
        step = max(_NUMBERS // (self.phi[0].size + self.psi[0].size), 1)
        for first in range(0, len(users), step):
            part = slice(first, first + step)
            logit = self._interaction([self.phi[users[part]], self.psi[items[part]]])
            logits[part] = keras.ops.convert_to_numpy(logit)
        return logits

    def matrix(self, users: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Return (n, n_items) logits of some user rows with every item."""
        n_items = len(self.psi)
        pairs = self.pairs(np.repeat(users, n_items), np.tile(np.arange(n_items), len(users)))
        return pairs.reshape(len(users), n_items)


def _run(tower: keras.Model, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    n_rows = len(next(iter(inputs.values())))
    parts = [
        keras.ops.convert_to_numpy(
            tower({name: tensor[first : first + _ROWS] for name, tensor in inputs.items()})
        )
        for first in range(0, n_rows, _ROWS)
    ]
    return np.concatenate(parts)
