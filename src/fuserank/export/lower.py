"""Lowering: the joint part becomes an inner product, a perceptron or their sum, where it can."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.bundle import ScorerKind
from fuserank.engine.scoring import DenseLayer
from fuserank.export.reader import LogitReader, Weights
from fuserank.export.separate import NotLowered
from fuserank.export.sides import Colours
from fuserank.export.tensors import Tensor, Workshop

__all__ = ["Lowered", "NotLowered", "lower"]

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A logit as an inner product and a perceptron, its parts being tensors of the graph.

    Attributes:
        kind: dot, or additive where there is a perceptron.
        activation: of the perceptron's first layer.
        layers: the perceptron's layers behind that.
        weights: (width of the last layer,) float32 of the perceptron.
        products: numbers of a state, behind the perceptron's, of the inner product beside it.
        user_states: rows of one axis; joined, they are the user state.
        item_states: likewise, of the same widths.
        user_constants: one number a row each; their sum is added to the score.
        item_constants: likewise.
        bias: a number that is added to the score.
    """

    kind: ScorerKind
    activation: str | None = None
    layers: tuple[DenseLayer, ...] = ()
    weights: Matrix | None = None
    products: int = 0
    user_states: tuple[Tensor, ...]
    item_states: tuple[Tensor, ...]
    user_constants: tuple[Tensor, ...]
    item_constants: tuple[Tensor, ...]
    bias: float

    @property
    def width(self) -> int:
        """Numbers of a state."""
        return sum(state.shape[0] for state in self.user_states)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds a pair."""
        if self.weights is None:
            return self.width
        return sum(layer.weights.size for layer in self.layers) + self.weights.size + self.products


def lower(logit: ir.Value, colours: Colours, workshop: Workshop) -> Lowered:
    """Lower a logit; the parts' nodes wait in the workshop.

    Raises:
        NotLowered: the joint part is no sum of inner products and one perceptron; says at which
            value.
    """
    one = workshop.constant(1.0)
    reader = LogitReader(colours, workshop)
    reader.read(logit, Weights(user=one, item=one))
    found = reader.found
    if not found.perceptrons and not found.states:
        raise NotLowered("no value mixes the sides, so that every user gets the same order")
    if len(found.perceptrons) > 1:
        raise NotLowered(f"{logit.name!r}: a sum of several perceptrons")
    states = _merged(found.states, workshop)
    products = sum(user.shape[0] for user, _ in states)
    perceptron = found.perceptrons[0] if found.perceptrons else None
    if perceptron is not None:
        states.insert(0, (perceptron.user, perceptron.item))
    return Lowered(
        kind=ScorerKind.ADDITIVE if perceptron else ScorerKind.DOT,
        activation=perceptron.activation if perceptron else None,
        layers=perceptron.layers if perceptron else (),
        weights=perceptron.weights if perceptron else None,
        products=products if perceptron else 0,
        user_states=tuple(user for user, _ in states),
        item_states=tuple(item for _, item in states),
        user_constants=tuple(found.users),
        item_constants=tuple(found.items),
        bias=found.bias,
    )


def _merged(states: list[tuple[Tensor, Tensor]], workshop: Workshop) -> list[tuple[Tensor, Tensor]]:
    """Join inner products with the same item or user part: ⟨a, i⟩ + ⟨b, i⟩ = ⟨a + b, i⟩."""
    by_item: dict[ir.Value, tuple[Tensor, Tensor]] = {}
    for user, item in states:
        key = workshop.materialise(item)
        known = by_item.get(key)
        by_item[key] = (user if known is None else workshop.add(known[0], user), item)
    by_user: dict[ir.Value, tuple[Tensor, Tensor]] = {}
    for user, item in by_item.values():
        key = workshop.materialise(user)
        known = by_user.get(key)
        by_user[key] = (user, item if known is None else workshop.add(known[1], item))
    return list(by_user.values())
