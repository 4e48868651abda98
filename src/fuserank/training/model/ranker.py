"""The ranker: two towers and an interaction model, as one Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import keras

from fuserank.errors import DataError, SchemaError
from fuserank.schema import FittedField, Kind, Schema, Side, TensorSpec
from fuserank.training.model.collaborative import COLLABORATIVE_FIELD
from fuserank.training.model.fusion import FUSIONS, ConcatFusion
from fuserank.training.model.interaction import INTERACTIONS
from fuserank.training.model.interaction.head import CollaborativeShare, Head
from fuserank.training.model.sources import Presence, SourceDropout, build_source
from fuserank.training.model.towers import Inputs, run_tower
from fuserank.training.model.whitening import Whiten, Whitening

if TYPE_CHECKING:
    from fuserank.training.train_config import TrainConfig

__all__ = ["Ranker", "build_ranker", "fusion_weights"]

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

    @cached_property
    def user_tower(self) -> keras.Model:
        """From ``user.*`` and ``context.*`` to φ; histories of any length where their mean is read.

        φ is (batch, dim), (batch, n_fields, dim) where the interaction reads fields, or
        [φ; h₁; …; h_L], (batch, 1 + length, dim), where it reads the history.
        """
        return self._side("user_tower", 0)

    @cached_property
    def item_tower(self) -> keras.Model:
        """From ``item.*`` to ψ, shaped as φ is; [ψ; v], (batch, 2, dim), beside a history."""
        return self._side("item_tower", 1)

    @property
    def interaction(self) -> keras.layers.Layer:
        """From [φ, ψ] to (batch,) logits."""
        return self.full.get_layer("interaction")

    @property
    def reads_events(self) -> bool:
        """Whether a history has to be given event by event, not as one that is the mean."""
        lengths = [shape[1] for tensor in self.user_tower.inputs if len(shape := tensor.shape) == 3]
        return None not in lengths

    @property
    def blends(self) -> bool:
        """Whether a collaborative score is added to the model's."""
        return bool(self.interaction.blends)

    def _side(self, name: str, index: int) -> keras.Model:
        """Return what leads from the inputs of a side to the interaction."""
        tower = self.full.get_layer(name)
        if not self.interaction.reads_history:
            return tower
        # Both sides share the projection of events, which therefore belongs to neither tower.
        inputs = {tensor: self.full.input[tensor] for tensor in tower.input}
        return keras.Model(inputs, self.interaction.input[index], name=name)


def build_ranker(schema: Schema, config: TrainConfig, whitening: Whitening | None = None) -> Ranker:
    """Build an untrained ranker; the same seed gives the same weights.

    Args:
        schema: the fitted fields.
        config: model, widths and seed.
        whitening: of text embeddings, before anything else is made of them.

    Raises:
        SchemaError: a side without any field, or a model that reads a history where there is none.
    """
    keras.utils.set_random_seed(config.seed)
    build = _Builder(schema, config, whitening)
    user_inputs = _inputs(schema.specs(Side.USER, Side.CONTEXT))
    item_inputs = _inputs(schema.specs(Side.ITEM))
    model = INTERACTIONS[config.model](config)
    apart = model.reads_fields
    users, items = schema.side(Side.USER, Side.CONTEXT), schema.side(Side.ITEM)
    phi = build.tower("user_tower", users, apart=apart)(user_inputs)
    psi = build.tower("item_tower", items, apart=apart)(item_inputs)
    if model.reads_history:
        phi, psi = build.beside_events(phi, psi, user_inputs, item_inputs)
    beside = INTERACTIONS[config.beside](config) if config.beside != "none" else None
    width = config.dim if beside is not None else 0
    logit = Head(model, build.shapes, beside, width, name="interaction")([phi, psi])
    return Ranker(keras.Model({**user_inputs, **item_inputs}, logit, name="ranker"))


def fusion_weights(ranker: Ranker, users: Inputs, items: Inputs) -> dict[str, dict[str, float]]:
    """Return the mean weight of every source, by side and by the field's name.

    Concatenation does not weigh its sources: it gives no sides.

    Args:
        ranker: the model.
        users: inputs of the user tower.
        items: inputs of the item tower.
    """
    found: dict[str, dict[str, float]] = {}
    for side, inputs in ((Side.USER, users), (Side.ITEM, items)):
        tower = ranker.full.get_layer(f"{side}_tower")
        fusion = tower.get_layer("fusion")
        if isinstance(fusion, ConcatFusion):
            continue
        *sources, presence = fusion.input
        names = {id(layer.output): layer.name for layer in tower.layers if layer is not fusion}
        weigh = keras.Model(tower.input, fusion.weigh(fusion.project(sources), presence))
        means = run_tower(weigh, inputs).mean(axis=0)
        found[side] = {
            names[id(source)].removeprefix("source_"): float(mean)
            for source, mean in zip(sources, means, strict=True)
        }
    return found


class _Builder:
    """Builds the parts of a ranker."""

    def __init__(self, schema: Schema, config: TrainConfig, whitening: Whitening | None) -> None:
        self._schema = schema
        self._config = config
        self._whitening = whitening
        self.shapes: list[tuple[int, ...]] = []
        """Of φ and ψ a row, where something goes behind them."""

    def tower(self, name: str, fields: tuple[FittedField, ...], *, apart: bool) -> keras.Model:
        """Return the model from the fields of a side to φ or ψ."""
        carried = [f for f in fields if f.spec is not None]
        if not carried:
            raise SchemaError(f"{name}: found no field of this side, expected one or more")
        config = self._config
        blended = [f for f in carried if config.blends and f.field.name == COLLABORATIVE_FIELD]
        sources = [f for f in carried if f not in blended]
        inputs = self._inputs_of(carried)
        fused = self._fused(inputs, sources, apart=apart)
        behind = []
        if config.beside != "none":
            own = self._inputs_of(sources)
            beside = keras.Model(own, self._fused(own, sources, apart=False), name="beside")
            behind.append(beside({tensor: inputs[tensor] for tensor in own}))
        if blended:
            share = CollaborativeShare(name="share")
            behind.append(share(inputs[blended[0].field.tensor]))
        if behind:
            self.shapes.append(tuple(fused.shape[1:]))
            flat = keras.layers.Flatten(name="flat")(fused)
            fused = keras.layers.Concatenate(name="and_behind")([flat, *behind])
        return keras.Model(inputs, fused, name=name)

    def _inputs_of(self, fields: Sequence[FittedField]) -> dict[str, Any]:
        specs = [f.spec for f in fields if f.spec is not None]
        return _inputs(specs, any_length=not self._config.reads_events)

    def _fused(self, inputs: dict[str, Any], carried: Sequence[FittedField], *, apart: bool) -> Any:
        """Return the fields of a side, fused: (batch, dim), or (batch, n_fields, dim) apart."""
        config = self._config
        kept = [self._kept(f, inputs[f.field.tensor], seed) for seed, f in enumerate(carried)]
        sources = [
            build_source(f, config)(self._whitened(f, tensor))
            for f, tensor in zip(carried, kept, strict=True)
        ]
        present = [
            Presence(f.field.kind, name=f"presence_{f.field.name}")(tensor)
            for f, tensor in zip(carried, kept, strict=True)
        ]
        presence = keras.layers.Concatenate(name="presence")(present) if present[1:] else present[0]
        fusion = FUSIONS[config.fusion](config.dim, apart=apart, name="fusion")
        return fusion(sources, presence=presence)

    def beside_events(
        self, phi: Any, psi: Any, user_inputs: dict[str, Any], item_inputs: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Return [φ; h₁; …; h_L] and [ψ; v], the events and the item projected by one matrix.

        The projection has no bias: what is no event stays zeros.
        """
        histories = [f for f in self._schema.side(Side.USER) if f.field.kind is Kind.HISTORY]
        if not histories:
            raise SchemaError(
                f"model {self._config.model!r}: found no history among the user fields, "
                "expected one that it can attend to"
            )
        history = histories[0]
        project = keras.layers.Dense(self._config.dim, use_bias=False, name="event_space")
        row = keras.layers.Reshape((1, self._config.dim), name="as_row")
        own = item_inputs[f"{Side.ITEM}.{history.field.of}"]
        events = project(self._whitened(history, user_inputs[history.field.tensor]))
        own = row(project(self._whitened(history, own, "own")))
        join = keras.layers.Concatenate(axis=1, name="beside_events")
        return join([row(phi), events]), join([row(psi), own])

    def _kept(self, fitted: FittedField, tensor: Any, seed: int) -> Any:
        """Return a field's tensor with some rows hidden in training."""
        field, rate = fitted.field, self._config.source_dropout
        if rate == 0 or field.kind is Kind.ID:
            return tensor
        missing = [0.0] if field.kind is not Kind.NUMBER else fitted.encode([None])[0].tolist()
        name = f"dropout_{field.name}"
        return SourceDropout(rate, missing, self._config.seed + seed, name=name)(tensor)

    def _whitened(self, fitted: FittedField, tensor: Any, what: str = "") -> Any:
        """Return a field's tensor whitened, where it holds text embeddings."""
        name, kind = what or fitted.field.name, fitted.field.kind
        if kind is Kind.HISTORY:
            of = self._schema.find(Side.ITEM, fitted.field.of or "")
            kind = kind if of is None else of.field.kind
        if self._whitening is None or kind is not Kind.TEXT:
            return tensor
        layer = Whiten(self._whitening.matrix.shape[1], name=f"whiten_{name}")
        whitened = layer(tensor)
        layer.set_weights([self._whitening.mean, self._whitening.matrix])
        return whitened


def _inputs(specs: Sequence[TensorSpec], *, any_length: bool = False) -> dict[str, Any]:
    """Return a graph input for each spec; `any_length` frees the length of histories."""
    inputs = {}
    for spec in specs:
        shape: list[int | str | None] = list(spec.shape[1:])
        if any_length and len(shape) == 2:
            shape[0] = None
        inputs[spec.name] = keras.Input(shape, dtype=spec.dtype, name=spec.name)
    return inputs
