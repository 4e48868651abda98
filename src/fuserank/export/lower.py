"""Lowering: the joint part becomes one inner product or one two-layer perceptron, where it can."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.bundle import ScorerKind
from fuserank.export.reader import LogitReader, Weights
from fuserank.export.separate import NotLowered
from fuserank.export.sides import Colours
from fuserank.export.tensors import Tensor, Workshop

__all__ = ["Lowered", "NotLowered", "lower"]

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A logit as an inner product or a perceptron, its parts being tensors of the graph.

    Attributes:
        kind: dot or additive.
        activation: of an additive scorer.
        weights: (width,) float32 of an additive scorer.
        user_states: rows of one axis; joined, they are the user state.
        item_states: likewise, of the same widths.
        user_constants: one number a row each; their sum is added to the score.
        item_constants: likewise.
        bias: a number that is added to the score.
    """

    kind: ScorerKind
    activation: str | None = None
    weights: Matrix | None = None
    user_states: tuple[Tensor, ...]
    item_states: tuple[Tensor, ...]
    user_constants: tuple[Tensor, ...]
    item_constants: tuple[Tensor, ...]
    bias: float

    @property
    def width(self) -> int:
        """Numbers of a state."""
        return sum(state.shape[0] for state in self.user_states)


def lower(logit: ir.Value, colours: Colours, workshop: Workshop) -> Lowered:
    """Lower a logit; the parts' nodes wait in the workshop.

    Raises:
        NotLowered: the joint part is neither an inner product nor a two-layer perceptron; says
            at which value.
    """
    one = workshop.constant(1.0)
    reader = LogitReader(colours, workshop)
    reader.read(logit, Weights(user=one, item=one))
    found = reader.found
    if found.perceptrons:
        if len(found.perceptrons) > 1 or found.states:
            raise NotLowered(f"{logit.name!r}: a perceptron beside another joint term")
        activation, weights, user, item = found.perceptrons[0]
        found.states = [(user, item)]
        kind = ScorerKind.ADDITIVE
    elif found.states:
        activation, weights, kind = None, None, ScorerKind.DOT
        found.states = _merged(found.states, workshop)
    else:
        raise NotLowered("no value mixes the sides, so that every user gets the same order")
    return Lowered(
        kind=kind,
        activation=activation,
        weights=weights,
        user_states=tuple(user for user, _ in found.states),
        item_states=tuple(item for _, item in found.states),
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
