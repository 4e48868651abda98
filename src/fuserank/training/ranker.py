"""The ranker: two towers and an interaction model, as one Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from fuserank.errors import DataError, SchemaError
from fuserank.schema import FittedField, Schema, Side, TensorSpec
from fuserank.training.fusion import FUSIONS
from fuserank.training.interaction import INTERACTIONS
from fuserank.training.sources import Presence, build_source

if TYPE_CHECKING:
    from fuserank.training.train_config import TrainConfig

__all__ = ["Ranker", "build_ranker"]

_PARTS = ("user_tower", "item_tower", "interaction")


@dataclass(frozen=True)
class Ranker:
    """A model that scores a user with an item.

    Attributes:
        full: from a dict of all graph inputs ``user.*``, ``context.*`` and ``item.*``, row i of
            each belonging to pair i, to (batch,) float32 logits.
    """

    full: keras.Model

    def __post_init__(self) -> None:
        """Raise DataError where the model is not one that `build_ranker` makes."""
        found = {layer.name for layer in self.full.layers}
        if missing := sorted(set(_PARTS) - found):
            raise DataError(
                f"model {self.full.name!r}: found no part {missing[0]!r}, "
                "expected a model that fuserank trained"
            )

    @property
    def user_tower(self) -> keras.Model:
        """From ``user.*`` and ``context.*`` to φ; histories of any length.

        φ is (batch, dim), or (batch, n_fields, dim) where the interaction reads fields.
        """
        return self.full.get_layer("user_tower")

    @property
    def item_tower(self) -> keras.Model:
        """From ``item.*`` to ψ, shaped as φ is."""
        return self.full.get_layer("item_tower")

    @property
    def interaction(self) -> keras.layers.Layer:
        """From [φ, ψ] to (batch,) logits."""
        return self.full.get_layer("interaction")


def build_ranker(schema: Schema, config: TrainConfig) -> Ranker:
    """Build an untrained ranker; the same seed gives the same weights.

    Args:
        schema: the fitted fields.
        config: model, widths and seed.

    Raises:
        SchemaError: a side without any field.
    """
    keras.utils.set_random_seed(config.seed)
    users, items = schema.side(Side.USER, Side.CONTEXT), schema.side(Side.ITEM)
    user_inputs = _inputs(schema.specs(Side.USER, Side.CONTEXT))
    item_inputs = _inputs(schema.specs(Side.ITEM))
    interaction = INTERACTIONS[config.model](config)
    phi = _tower("user_tower", users, config, apart=interaction.reads_fields)(user_inputs)
    psi = _tower("item_tower", items, config, apart=interaction.reads_fields)(item_inputs)
    logit = interaction([phi, psi])
    return Ranker(keras.Model({**user_inputs, **item_inputs}, logit, name="ranker"))


def _tower(
    name: str, fields: tuple[FittedField, ...], config: TrainConfig, *, apart: bool
) -> keras.Model:
    carried = [f for f in fields if f.spec is not None]
    if not carried:
        raise SchemaError(f"{name}: found no field of this side, expected one or more")
    inputs = _inputs([f.spec for f in carried if f.spec is not None], any_length=True)
    sources = [build_source(f, config.dim)(inputs[f.field.tensor]) for f in carried]
    present = [
        Presence(f.field.kind, name=f"presence_{f.field.name}")(inputs[f.field.tensor])
        for f in carried
    ]
    presence = keras.layers.Concatenate(name="presence")(present) if present[1:] else present[0]
    fusion = FUSIONS[config.fusion](config.dim, apart=apart, name="fusion")
    return keras.Model(inputs, fusion(sources, presence=presence), name=name)


def _inputs(specs: Sequence[TensorSpec], *, any_length: bool = False) -> dict[str, Any]:
    """Return a graph input for each spec; `any_length` frees the length of histories."""
    inputs = {}
    for spec in specs:
        shape: list[int | str | None] = list(spec.shape[1:])
        if any_length and len(shape) == 2:
            shape[0] = None
        inputs[spec.name] = keras.Input(shape, dtype=spec.dtype, name=spec.name)
    return inputs
