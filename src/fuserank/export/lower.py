"""Lowering: the joint part becomes one inner product or one two-layer perceptron, where it can.

The logit is read as a sum. Terms of one side are constants of that side; a term that mixes the
sides is either a sum of element-wise products, ⟨u, i⟩, or an activation of a sum, wᵀact(u + i).
Whatever is neither makes the whole graph `generic`, and the reason is kept.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.bundle import ScorerKind
from fuserank.export.sides import Colours

__all__ = ["Lowered", "NotLowered", "lower"]

Matrix = npt.NDArray[np.float32]

_ACTIVATIONS = {"Relu": "relu"}
_SHAPE_ONLY = {"Squeeze", "Unsqueeze", "Reshape", "Flatten", "Identity"}


class NotLowered(Exception):  # noqa: N818  (an answer, not a failure)
    """Why a graph stays generic."""


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A logit as Σ act? (user, item) + constants, its parts being values of the graph.

    Attributes:
        kind: dot or additive.
        activation: of an additive scorer.
        width: width of the states.
        weights: (width,) float32 of an additive scorer.
        user_state: values (batch, width) whose product (dot) or sum (additive) is the state.
        item_state: likewise.
        user_constants: one value a pair each; their sum is added to the score.
        item_constants: likewise.
        bias: a number that is added to the score.
    """

    kind: ScorerKind
    activation: str | None = None
    width: int
    weights: Matrix | None = None
    user_state: tuple[tuple[ir.Value | Matrix, ...], ...]
    item_state: tuple[tuple[ir.Value | Matrix, ...], ...]
    user_constants: tuple[ir.Value, ...]
    item_constants: tuple[ir.Value, ...]
    bias: float


@dataclass
class _Sum:
    """What was found in the sum so far."""

    users: list[ir.Value] = field(default_factory=list)
    items: list[ir.Value] = field(default_factory=list)
    bias: float = 0.0
    joint: list[ir.Value] = field(default_factory=list)


def lower(logit: ir.Value, colours: Colours) -> Lowered:
    """Lower a logit.

    Raises:
        NotLowered: the joint part is neither an inner product nor a two-layer perceptron; says
            at which value.
    """
    total = _Sum()
    _collect(logit, colours, total)
    if not total.joint:
        raise NotLowered("no value mixes the sides, so that every user gets the same order")
    products = []
    for term in total.joint:
        found = _perceptron(term, colours)
        if found is not None:
            if len(total.joint) > 1:
                raise NotLowered(f"{term.name!r}: a perceptron beside another joint term")
            return _additive(found, total)
        products.append(_product(term, colours))
    return Lowered(
        kind=ScorerKind.DOT,
        width=sum(width for width, _, _ in products),
        user_state=tuple(users for _, users, _ in products),
        item_state=tuple(items for _, _, items in products),
        user_constants=tuple(total.users),
        item_constants=tuple(total.items),
        bias=total.bias,
    )


def _collect(value: ir.Value, colours: Colours, total: _Sum) -> None:
    """Split a sum with one element a pair into its terms; shape changes do not matter there."""
    node = value.producer()
    if colours.is_user(value):
        total.users.append(value)
    elif colours.is_item(value):
        total.items.append(value)
    elif colours.is_constant(value):
        constant = _constant(value)
        if constant is None or constant.size != 1:
            raise NotLowered(f"{value.name!r}: expected one number")
        total.bias += float(constant.reshape(()))
    elif node is not None and node.op_type == "Add":
        for source in node.inputs:
            _collect(source, colours, total)  # type: ignore[arg-type]
    elif node is not None and node.op_type in _SHAPE_ONLY:
        _collect(node.inputs[0], colours, total)  # type: ignore[arg-type]
    else:
        total.joint.append(value)


def _weighted(term: ir.Value) -> tuple[ir.Value, Matrix | None]:
    """Read a term as Σ_h w_h·x_h; returns x and w, w being None where all weights are 1."""
    node = term.producer()
    if node is None:
        raise NotLowered(f"{term.name!r}: a mixed input")
    source = node.inputs[0]
    if source is not None and node.op_type == "ReduceSum" and source.shape is not None:
        axes = None if len(node.inputs) < 2 else _constant(node.inputs[1])
        if len(source.shape) == 2 and axes is not None and axes.tolist() in ([1], [-1]):
            return source, None
    if source is not None and node.op_type == "MatMul":
        weights = _constant(node.inputs[1])
        if weights is not None and weights.ndim == 2 and weights.shape[1] == 1:
            return source, weights[:, 0].astype(np.float32)
    raise NotLowered(
        f"the sides mix in {node.op_type} ({term.name!r}), which is no weighted sum over a state"
    )


def _perceptron(
    term: ir.Value, colours: Colours
) -> tuple[str, Matrix, list[ir.Value], list[ir.Value], list[Matrix]] | None:
    """Match wᵀact(Σ users + Σ items + Σ constants), or return None."""
    source, weights = _weighted(term)
    node = source.producer()
    if node is None or node.op_type not in _ACTIVATIONS or not colours.is_mixed(source):
        return None
    users: list[ir.Value] = []
    items: list[ir.Value] = []
    constants: list[Matrix] = []
    pending = [node.inputs[0]]
    while pending:
        value = pending.pop(0)
        assert value is not None  # an activation and a sum have no optional inputs
        producer = value.producer()
        if colours.is_user(value):
            users.append(value)
        elif colours.is_item(value):
            items.append(value)
        elif colours.is_constant(value) and (constant := _constant(value)) is not None:
            constants.append(constant.astype(np.float32))
        elif producer is not None and producer.op_type == "Add":
            pending = [*producer.inputs, *pending]
        else:
            raise NotLowered(f"{value.name!r}: mixed inside the activation, and not a sum")
    width = _width([*users, *items])
    return _ACTIVATIONS[node.op_type], _full(weights, width), users, items, constants


def _additive(
    found: tuple[str, Matrix, list[ir.Value], list[ir.Value], list[Matrix]], total: _Sum
) -> Lowered:
    activation, weights, users, items, constants = found
    return Lowered(
        kind=ScorerKind.ADDITIVE,
        activation=activation,
        width=len(weights),
        weights=weights,
        user_state=((*users, *constants),),
        item_state=(tuple(items),),
        user_constants=tuple(total.users),
        item_constants=tuple(total.items),
        bias=total.bias,
    )


def _product(
    term: ir.Value, colours: Colours
) -> tuple[int, tuple[ir.Value | Matrix, ...], tuple[ir.Value | Matrix, ...]]:
    """Match Σ_h Π users_h · Π items_h · Π constants_h; constants are absorbed by the user."""
    source, weights = _weighted(term)
    users: list[ir.Value | Matrix] = []
    items: list[ir.Value | Matrix] = []
    values: list[ir.Value] = []
    constants: list[Matrix] = [] if weights is None else [weights]
    pending = [source]
    while pending:
        value = pending.pop(0)
        producer = value.producer()
        constant = _constant(value) if colours.is_constant(value) else None
        if constant is not None:
            constants.append(constant.astype(np.float32))
        elif colours.is_user(value):
            users.append(value)
            values.append(value)
        elif colours.is_item(value):
            items.append(value)
            values.append(value)
        elif producer is not None and producer.op_type == "Mul":
            pending = [*producer.inputs, *pending]  # type: ignore[list-item]
        else:
            raise NotLowered(f"{value.name!r}: mixed inside a sum, and not a product")
    width = _width(values)
    return width, (*users, *constants), tuple(items)


def _width(values: list[ir.Value]) -> int:
    widths = set()
    for value in values:
        shape = value.shape
        if shape is None or len(shape) != 2 or not isinstance(shape[1], int):
            raise NotLowered(f"{value.name!r}: expected (batch, width), found {shape}")
        widths.add(shape[1])
    if len(widths) != 1:
        raise NotLowered(f"{values[0].name!r}: states of different widths {sorted(widths)}")
    return widths.pop()


def _full(weights: Matrix | None, width: int) -> Matrix:
    return np.ones(width, dtype=np.float32) if weights is None else weights


def _constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
