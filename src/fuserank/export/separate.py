"""Reading a mixed value as a sum of a user part and an item part, where it is one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.export.sides import Colours
from fuserank.export.tensors import Shape, Tensor, Workshop
from fuserank.schema import Side

__all__ = [
    "SHAPE_ONLY",
    "NotLowered",
    "Separated",
    "Separator",
    "axis_of",
    "constant_of",
    "reduced_axes",
    "shape_of",
]

Array = npt.NDArray[Any]

SHAPE_ONLY = {"Squeeze", "Unsqueeze", "Reshape", "Flatten"}
"""Operators that keep the elements of a row and their order."""


class NotLowered(Exception):  # noqa: N818  (an answer, not a failure)
    """Why a graph stays generic."""


@dataclass(frozen=True, kw_only=True)
class Separated:
    """A value as user + item; None stands for zeros. Constants belong to the user part."""

    user: Tensor | None
    item: Tensor | None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Separated":
        """Apply a linear map to both parts."""
        return Separated(
            user=None if self.user is None else change(self.user),
            item=None if self.item is None else change(self.item),
        )


class Separator:
    """Separates values by the linear operators that made them.

    These are sums, constant factors, products with constant matrices, sums over axes, changes of
    shape and concatenations.
    """

    def __init__(self, colours: Colours, workshop: Workshop) -> None:
        """Take the colours of a graph and the place where parts are built."""
        self._colours = colours
        self._workshop = workshop

    def leaf(self, value: ir.Value) -> Tensor | None:
        """Return a one-sided or constant value as a tensor, or None for a mixed one."""
        if self._colours.is_constant(value):
            return self._workshop.constant(_row(constant_of(value), value))
        shape = shape_of(value) if not self._colours.is_mixed(value) else ()
        if self._colours.is_user(value):
            return Tensor(shape=shape, side=Side.USER, value=value)
        if self._colours.is_item(value):
            return Tensor(shape=shape, side=Side.ITEM, value=value)
        return None

    def separate(self, value: ir.Value) -> Separated:
        """Return the parts of a value.

        Raises:
            NotLowered: it is not such a sum; names the value.
        """
        leaf = self.leaf(value)
        if leaf is not None:
            is_item = leaf.side is Side.ITEM
            return Separated(user=None if is_item else leaf, item=leaf if is_item else None)
        node = value.producer()
        rule = _RULES.get(node.op_type) if node is not None else None
        if node is None or rule is None:
            what = "an input" if node is None else node.op_type
            raise NotLowered(f"{value.name!r}: {what} of both sides, which is not linear")
        return rule(self, node)

    def range(self, value: ir.Value, axis: int, start: int, stop: int) -> Separated:
        """Return the parts of a range of a value along an axis of its rows.

        A range that is one part of a concatenation is that part alone, so that zeros which stand
        for the others' places are never multiplied.
        """
        node = value.producer()
        shape, make = shape_of(value), self._workshop
        if node is not None and node.op_type == "Concat" and axis_of(node, len(shape)) == axis:
            offset = 0
            for source in node.inputs:
                assert source is not None  # concatenations have no optional inputs
                width = shape_of(source)[axis]
                if (offset, offset + width) == (start, stop):
                    return self.separate(source)
                offset += width
        return self.separate(value).map(
            lambda t: make.slice(make.expand(t, shape), axis, start, stop)
        )

    def _same(self, node: ir.Node) -> Separated:
        return self.separate(_first(node))

    def _negated(self, node: ir.Node) -> Separated:
        make = self._workshop
        return self.separate(_first(node)).map(lambda t: make.mul(t, make.constant(-1.0)))

    def _added(self, node: ir.Node) -> Separated:
        left, right = (self.separate(value) for value in node.inputs if value is not None)
        make = self._workshop
        if node.op_type == "Sub":
            right = right.map(lambda t: make.mul(t, make.constant(-1.0)))

        def total(one: Tensor | None, other: Tensor | None) -> Tensor | None:
            return (one or other) if one is None or other is None else make.add(one, other)

        return Separated(user=total(left.user, right.user), item=total(left.item, right.item))

    def _multiplied(self, node: ir.Node) -> Separated:
        source, weights = node.inputs
        matrix = constant_of(weights)
        if matrix.ndim != 2 or source is None or not self._colours.is_mixed(source):
            raise NotLowered(f"{node.outputs[0].name!r}: a product with no constant matrix")
        inner, make = shape_of(source), self._workshop
        return self.separate(source).map(lambda t: make.matmul(make.expand(t, inner), matrix))

    def _reduced(self, node: ir.Node) -> Separated:
        inner, axes, make = shape_of(_first(node)), reduced_axes(node), self._workshop
        shape = shape_of(node.outputs[0])
        scale = 1.0 / prod(inner[axis] for axis in axes) if node.op_type == "ReduceMean" else 1.0

        def change(t: Tensor) -> Tensor:
            summed = make.reshape(make.reduce(make.expand(t, inner), axes), shape)
            return make.mul(summed, make.constant(scale))

        return self.separate(_first(node)).map(change)

    def _reshaped(self, node: ir.Node) -> Separated:
        inner, shape, make = shape_of(_first(node)), shape_of(node.outputs[0]), self._workshop
        return self.separate(_first(node)).map(lambda t: make.reshape(make.expand(t, inner), shape))

    def _scaled(self, node: ir.Node) -> Separated:
        """Separate a product with a constant, or a quotient by one."""
        a, b = node.inputs
        assert a is not None  # products have no optional inputs
        assert b is not None
        make = self._workshop
        for factor, other in ((b, a), (a, b)):
            if self._colours.is_constant(factor) and (node.op_type == "Mul" or factor is b):
                array = _row(constant_of(factor), factor)
                scale = make.constant(array if node.op_type == "Mul" else 1.0 / array)
                return self.separate(other).map(partial(make.mul, scale))
        raise NotLowered(f"{node.outputs[0].name!r}: a product of both sides, not a sum")

    def _joined(self, node: ir.Node) -> Separated:
        """Separate a concatenation: each part keeps its place, zeros standing for the other's."""
        shape = shape_of(node.outputs[0])
        axis, make = axis_of(node, len(shape)), self._workshop
        users: list[Tensor] = []
        items: list[Tensor] = []
        for source in node.inputs:
            assert source is not None  # concatenations have no optional inputs
            inner = shape_of(source) if not self._colours.is_constant(source) else None
            parts = self.separate(source)
            some = parts.user or parts.item
            assert some is not None  # a value has a part
            width = inner or some.shape
            zeros = make.constant(np.zeros(width))
            users.append(zeros if parts.user is None else make.expand(parts.user, width))
            items.append(zeros if parts.item is None else make.expand(parts.item, width))
        return Separated(user=make.concat(users, axis), item=make.concat(items, axis))


def shape_of(value: ir.Value) -> Shape:
    """Return the shape of one row.

    Raises:
        NotLowered: it is not known, or the value has no batch axis.
    """
    shape = value.shape
    if shape is None or len(shape) == 0 or any(not isinstance(d, int) for d in shape[1:]):
        raise NotLowered(f"{value.name!r}: the shape of a row is not known, found {shape}")
    return tuple(d for d in shape[1:] if isinstance(d, int))


def constant_of(value: ir.Value | None) -> Array:
    """Return the array of a constant value.

    Raises:
        NotLowered: it is computed from constants, or not a constant.
    """
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None:
        raise NotLowered(f"{value.name if value else None!r}: expected a constant")
    array: Array = tensor.numpy()
    return array


def axis_of(node: ir.Node, rank: int) -> int:
    """Return the axis of a row that a concatenation joins, the row having that rank.

    Raises:
        NotLowered: it joins the batch axis.
    """
    axis = node.attributes["axis"].as_int()
    axis = axis + rank if axis < 0 else axis - 1
    if axis < 0:
        raise NotLowered(f"{node.outputs[0].name!r}: joins rows of different pairs")
    return axis


def reduced_axes(node: ir.Node) -> list[int]:
    """Return the axes of a row that a ReduceSum or ReduceMean sums over.

    Raises:
        NotLowered: they are not constant, or hold the batch axis.
    """
    source = node.inputs[0]
    assert source is not None  # what is reduced is not optional
    rank = len(shape_of(source)) + 1
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is not None:
        axes = constant_of(given).tolist()
    else:
        attribute = node.attributes.get("axes")
        axes = list(range(rank)) if attribute is None else list(attribute.as_ints())
    found = [(axis + rank if axis < 0 else axis) - 1 for axis in axes]
    if any(axis < 0 for axis in found):
        raise NotLowered(f"{node.outputs[0].name!r}: sums over different pairs")
    return found


def _row(array: Array, value: ir.Value) -> Array:
    """Return a constant without the batch axis of length 1 that it may have."""
    readers = [node for node, _ in value.uses()]
    ranks = {len(out.shape) for node in readers for out in node.outputs if out.shape is not None}
    if array.ndim and array.shape[0] == 1 and ranks and array.ndim == max(ranks):
        row: Array = array[0]
        return row
    return array


def _first(node: ir.Node) -> ir.Value:
    source = node.inputs[0]
    assert source is not None  # the first input of these operators is not optional
    return source


_RULES: dict[str, Callable[[Separator, ir.Node], Separated]] = {
    "Identity": Separator._same,
    "Neg": Separator._negated,
    "Add": Separator._added,
    "Sub": Separator._added,
    "Mul": Separator._scaled,
    "Div": Separator._scaled,
    "MatMul": Separator._multiplied,
    "ReduceSum": Separator._reduced,
    "ReduceMean": Separator._reduced,
    "Concat": Separator._joined,
    **dict.fromkeys(SHAPE_ONLY, Separator._reshaped),
}
