"""Reading the layers of a perceptron, from the last to the first."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.engine.scoring import DenseLayer
from fuserank.export.activations import activation_of
from fuserank.export.separate import SHAPE_ONLY, Separator, constant_of, shape_of
from fuserank.export.tensors import Tensor, Workshop

__all__ = ["Perceptron", "read_perceptron"]

Matrix = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """⟨weights, z⟩, z being the last layer.

    Attributes:
        activation: of the first layer, act(user + item).
        layers: those behind it.
        weights: (width of the last layer,) float32.
        user: rows of one axis, what the user adds in the first layer.
        item: likewise.
    """

    activation: str
    layers: tuple[DenseLayer, ...]
    weights: Matrix
    user: Tensor
    item: Tensor


@dataclass(frozen=True, kw_only=True)
class _Affine:
    """What a value is of the activations of a layer: hidden·matrix + shift.

    Attributes:
        hidden: the activations, (n_inputs,) a row.
        matrix: (n_inputs, n_outputs) float64.
        shift: (n_outputs,) float64.
    """

    hidden: ir.Value
    matrix: Doubles
    shift: Doubles

    def scaled(self, factor: Doubles | float) -> "_Affine":
        return _Affine(hidden=self.hidden, matrix=self.matrix * factor, shift=self.shift * factor)

    def shifted(self, by: Doubles) -> "_Affine":
        return _Affine(hidden=self.hidden, matrix=self.matrix, shift=self.shift + by)

    def then(self, matrix: Doubles) -> "_Affine":
        return _Affine(hidden=self.hidden, matrix=self.matrix @ matrix, shift=self.shift @ matrix)


def read_perceptron(
    value: ir.Value, weights: Matrix, separator: Separator, workshop: Workshop
) -> Perceptron:
    """Read a mixed value that an activation made, as the last layer of a perceptron.

    A layer is an activation of an affine map of the one before it, and the first an activation of
    a sum of a user and an item part. What normalisations have left between them is affine.

    Args:
        value: the value, of n elements a row.
        weights: (n,) float32, of its elements.
        separator: reads the sum.
        workshop: where the parts' nodes wait.

    Raises:
        NotLowered: what lies behind the last layer that can be read is no such sum.
    """
    layers: list[DenseLayer] = []
    activation, source = _activated(value)
    while (affine := _affine(source, separator)) is not None:
        layer = DenseLayer(
            weights=np.ascontiguousarray(affine.matrix.T, dtype=np.float32),
            bias=affine.shift.astype(np.float32),
            activation=activation,
        )
        layers.insert(0, layer)
        activation, source = _activated(affine.hidden)
    parts, shape = separator.separate(source), shape_of(source)
    assert parts.user is not None  # a mixed value has both parts
    assert parts.item is not None
    return Perceptron(
        activation=activation,
        layers=tuple(layers),
        weights=weights,
        user=workshop.flat(parts.user, shape),
        item=workshop.flat(parts.item, shape),
    )


def _activated(value: ir.Value) -> tuple[str, ir.Value]:
    found = activation_of(value)
    assert found is not None  # the caller has looked
    return found


def _affine(value: ir.Value, separator: Separator) -> _Affine | None:
    """Return what a value is of one layer's activations; None where it is no affine map of them."""
    node = value.producer()
    if node is None or separator.leaf(value) is not None:
        return None
    if activation_of(value) is not None:
        size = prod(shape_of(value))
        return _Affine(hidden=value, matrix=np.eye(size), shift=np.zeros(size))
    operands = [source for source in node.inputs if source is not None]
    if node.op_type in ("Identity", "Neg", *SHAPE_ONLY):
        affine = _affine(operands[0], separator)
        return affine.scaled(-1.0) if affine and node.op_type == "Neg" else affine
    return _after(node.op_type, value, operands, separator)


def _after(
    operator: str, value: ir.Value, operands: list[ir.Value], separator: Separator
) -> _Affine | None:
    """Return the affine map of a value that an operator made of a mixed value and a constant."""
    known = [ir.convenience.get_const_tensor(operand) is not None for operand in operands]
    if operator not in ("MatMul", "Add", "Sub", "Mul", "Div") or not any(known):
        return None
    affine = _affine(operands[known.index(False)], separator)
    if affine is None:
        return None
    constant = operands[known.index(True)]
    if operator == "MatMul":
        return None if known[0] else _multiplied(affine, constant_of(constant))
    if len(affine.shift) != prod(shape_of(value)):  # it is broadcast, as no layer is
        return None
    leaf = separator.leaf(constant)
    assert leaf is not None  # a constant is a leaf
    assert leaf.array is not None
    row = np.broadcast_to(leaf.array.astype(np.float64), shape_of(value)).ravel()
    return _combined(operator, affine, row, constant_first=known[0])


def _multiplied(affine: _Affine, matrix: npt.NDArray[Any]) -> _Affine | None:
    if matrix.ndim != 2 or len(affine.shift) != len(matrix):  # several vectors a row
        return None
    return affine.then(matrix.astype(np.float64))


def _combined(
    operator: str, affine: _Affine, row: Doubles, *, constant_first: bool
) -> _Affine | None:
    """Combine an affine map with a constant of one number for each output."""
    if operator == "Add":
        return affine.shifted(row)
    if operator == "Mul":
        return affine.scaled(row)
    if operator == "Sub":
        return affine.scaled(-1.0).shifted(row) if constant_first else affine.shifted(-row)
    return None if constant_first else affine.scaled(1.0 / row)
