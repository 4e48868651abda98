"""Reading a logit backwards, to find what it is a sum of.

The logit is read as a weighted sum over a value's elements, z = Σ w ⊙ v, beginning with
w = 1 at the logit itself. Through every linear operator the weights move to what it reads: through
a product with a constant matrix M they become w·Mᵀ, through a concatenation they are cut, through
a product with a one-sided value they are multiplied by it. So weights are always a user factor
times an item factor. What is reached in the end is

- a one-sided value: a constant of that side, or an inner product where the weights hold the other;
- a product of two mixed values, each a sum of a user and an item part: (a + b)(c + d) is four
  terms, of which two are one-sided and two are inner products. A factorization machine, a
  field-weighted one and a cross layer are sums of such products;
- an activation of a sum of a user and an item part under constant weights: a perceptron, which may
  have more layers in between (`layers`).

Constants are absorbed by the user. Whatever is none of these makes the whole graph `generic`, and
the reason is kept.
"""

from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir

from fuserank.export.activations import activation_of
from fuserank.export.layers import Perceptron, read_perceptron
from fuserank.export.separate import (
    SHAPE_ONLY,
    NotLowered,
    Separated,
    Separator,
    axis_of,
    constant_of,
    reduced_axes,
    shape_of,
)
from fuserank.export.sides import Colours
from fuserank.export.tensors import Shape, Tensor, Workshop
from fuserank.schema import Side

__all__ = ["LogitReader", "Terms", "Weights"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of a value's elements: a user factor times an item factor, either may be constant."""

    user: Tensor
    item: Tensor


@dataclass
class Terms:
    """What a logit is the sum of.

    Attributes:
        states: inner products: rows of the user and of the item, of one axis and equal widths.
        perceptrons: of any number of layers.
        users: one number a row each.
        items: one number a row each.
        bias: a number.
    """

    states: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    perceptrons: list[Perceptron] = field(default_factory=list)
    users: list[Tensor] = field(default_factory=list)
    items: list[Tensor] = field(default_factory=list)
    bias: float = 0.0


class LogitReader:
    """Reads a logit backwards; see the module.

    Attributes:
        found: what was read so far.
    """

    def __init__(self, colours: Colours, workshop: Workshop) -> None:
        self.found = Terms()
        self._colours = colours
        self._make = workshop
        self._parts = Separator(colours, workshop)

    def read(self, value: ir.Value, weights: Weights) -> None:
        """Add what Σ weights ⊙ value consists of."""
        leaf = self._parts.leaf(value)
        if leaf is not None:
            self._term(leaf, None, weights, leaf.shape)
            return
        node = value.producer()
        assert node is not None  # a mixed value is made by a node
        if activation_of(value) is not None:
            self._perceptron(value, weights)
            return
        op = node.op_type
        inputs = [source for source in node.inputs if source is not None]
        if op == "Identity":
            self.read(inputs[0], weights)
        elif op in ("Add", "Sub", "Neg"):
            self._sum(node, inputs, weights)
        elif op in ("Mul", "Div"):
            self._product(node, inputs, weights)
        elif op == "MatMul":
            self._matrix(node, inputs, weights)
        elif op in ("ReduceSum", "ReduceMean"):
            self._reduce(node, inputs[0], weights)
        elif op in SHAPE_ONLY:
            self._reshape(node, inputs[0], weights)
        elif op == "Concat":
            self._concat(node, inputs, weights)
        else:
            raise NotLowered(f"the sides mix in {op} ({value.name!r}), which is not lowered")

    def _sum(self, node: ir.Node, inputs: list[ir.Value], weights: Weights) -> None:
        shape = shape_of(node.outputs[0])
        minus = self._scale(weights, self._make.constant(-1.0))
        for position, source in enumerate(inputs):
            negative = node.op_type == "Neg" or (node.op_type == "Sub" and position == 1)
            self._narrow(source, shape, minus if negative else weights)

    def _product(self, node: ir.Node, inputs: list[ir.Value], weights: Weights) -> None:
        a, b = inputs
        shape, make = shape_of(node.outputs[0]), self._make
        if node.op_type == "Div":
            if not self._colours.is_constant(b):
                raise NotLowered(f"{node.outputs[0].name!r}: divided by what is not constant")
            self._narrow(a, shape, self._scale(weights, make.constant(1.0 / constant_of(b))))
            return
        for factor, other in ((a, b), (b, a)):
            leaf = self._parts.leaf(factor)
            if leaf is not None:
                self._narrow(other, shape, self._scale(weights, leaf))
                return
        if shape_of(a) != shape_of(b):
            raise NotLowered(f"{node.outputs[0].name!r}: a product of mixed values that broadcast")
        for whole, other in ((a, b), (b, a)):
            pieces = self._pieces(whole)
            if len(pieces) > 1:
                for source, axis, start, stop in pieces:
                    part = self._cut(weights, shape, axis, start, stop)
                    inner = (*shape[:axis], stop - start, *shape[axis + 1 :])
                    self._expand_product(
                        self._parts.separate(source),
                        self._parts.range(other, axis, start, stop),
                        part,
                        inner,
                    )
                return
        left = self._parts.separate(a)
        right = left if a is b else self._parts.separate(b)
        self._expand_product(left, right, weights, shape)

    def _pieces(self, value: ir.Value) -> list[tuple[ir.Value, int, int, int]]:
        """Return what a concatenation joins: value, axis, and the range it takes."""
        node = value.producer()
        if node is None or node.op_type != "Concat":
            return []
        axis, offset, pieces = axis_of(node, len(shape_of(value))), 0, []
        for source in node.inputs:
            assert source is not None  # concatenations have no optional inputs
            width = shape_of(source)[axis]
            pieces.append((source, axis, offset, offset + width))
            offset += width
        return pieces

    def _expand_product(self, a: Separated, b: Separated, weights: Weights, shape: Shape) -> None:
        """Add (a_u + a_i)(b_u + b_i), term by term; of a square both mixed terms are one."""
        if a is b:
            twice = self._scale(weights, self._make.constant(2.0))
            for one, other, factor in (
                (a.user, a.user, weights),
                (a.item, a.item, weights),
                (a.user, a.item, twice),
            ):
                if one is not None and other is not None:
                    self._term(one, other, factor, shape)
            return
        for one in (a.user, a.item):
            for other in (b.user, b.item):
                if one is not None and other is not None:
                    self._term(one, other, weights, shape)

    def _matrix(self, node: ir.Node, inputs: list[ir.Value], weights: Weights) -> None:
        source, matrix_value = inputs
        output = node.outputs[0]
        if not self._colours.is_constant(matrix_value):
            raise NotLowered(f"{output.name!r}: a matrix product of both sides")
        matrix = constant_of(matrix_value)
        if matrix.ndim != 2:
            raise NotLowered(f"{output.name!r}: expected a matrix, found {matrix.ndim} axes")
        wide = (1,) * (len(shape_of(output)) - 1) + (matrix.shape[1],)
        turned = np.ascontiguousarray(matrix.T)
        for side in (Side.USER, Side.ITEM):
            mine, other = _factors(weights, side)
            if other.shape == () or other.shape[-1] == 1:
                grown = self._make.matmul(
                    self._make.mul(mine, self._make.constant(np.ones(wide))), turned
                )
                self.read(source, _weights(grown, other, side))
                return
        parts = self._parts.separate(output)
        for part in (parts.user, parts.item):
            if part is not None:
                self._term(part, None, weights, shape_of(output))

    def _reduce(self, node: ir.Node, source: ir.Value, weights: Weights) -> None:
        inner, axes = shape_of(source), reduced_axes(node)
        kept = tuple(1 if axis in axes else n for axis, n in enumerate(inner))
        if node.op_type == "ReduceMean":
            share = 1.0 / prod(inner[axis] for axis in axes)
            weights = self._scale(weights, self._make.constant(share))
        shape = shape_of(node.outputs[0])
        self.read(source, self._shaped(weights, shape, kept))

    def _reshape(self, node: ir.Node, source: ir.Value, weights: Weights) -> None:
        self.read(source, self._shaped(weights, shape_of(node.outputs[0]), shape_of(source)))

    def _concat(self, node: ir.Node, inputs: list[ir.Value], weights: Weights) -> None:
        shape = shape_of(node.outputs[0])
        for source, axis, start, stop in self._pieces(node.outputs[0]):
            self.read(source, self._cut(weights, shape, axis, start, stop))

    def _perceptron(self, value: ir.Value, weights: Weights) -> None:
        make = self._make
        both = make.mul(weights.user, weights.item) if weights.user.side is None else weights.user
        if both.array is None:
            raise NotLowered(f"{value.name!r}: an activation whose weights are no constants")
        flat = make.flat(both, shape_of(value)).array
        assert flat is not None  # constants stay constants
        self.found.perceptrons.append(read_perceptron(value, flat, self._parts, make))

    def _term(self, one: Tensor, other: Tensor | None, weights: Weights, shape: Shape) -> None:
        """Add Σ weights ⊙ one ⊙ other over a shape."""
        make = self._make
        user, item = weights.user, weights.item
        for factor in (one, other):
            if factor is None:
                continue
            if factor.side is Side.ITEM:
                item = make.mul(item, factor)
            else:
                user = make.mul(user, factor)
        # An axis along which one side is the same is summed by the other.
        user, item = self._summed(user, item, shape)
        inner = np.broadcast_shapes(user.shape, item.shape)
        if user.side is not None and item.side is not None:
            self.found.states.append((make.flat(user, inner), make.flat(item, inner)))
            return
        side = user.side or item.side
        both = make.mul(user, item)
        total = make.reshape(make.reduce(make.expand(both, inner), range(len(inner))), (1,))
        if side is Side.USER:
            self.found.users.append(total)
        elif side is Side.ITEM:
            self.found.items.append(total)
        else:
            assert total.array is not None  # neither side is in it
            self.found.bias += float(total.array.item())

    def _summed(self, user: Tensor, item: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        make, factors = self._make, [user, item]
        rank = len(shape)
        for position, factor in enumerate(factors):
            factors[position] = make.reshape(
                factor, (1,) * (rank - len(factor.shape)) + factor.shape
            )
        repeats = 1
        for axis, n in enumerate(shape):
            wide = [factor.shape[axis] == n and n > 1 for factor in factors]
            if wide in ([True, False], [False, True]):
                position = wide.index(True)
                factors[position] = make.reduce(factors[position], [axis])
            elif wide == [False, False]:
                repeats *= n
        return make.mul(factors[0], make.constant(float(repeats))), factors[1]

    def _narrow(self, source: ir.Value, shape: Shape, weights: Weights) -> None:
        """Read an operand that may have been broadcast to a shape."""
        inner = () if self._colours.is_constant(source) else shape_of(source)
        if self._colours.is_constant(source):
            leaf = self._parts.leaf(source)
            assert leaf is not None  # a constant is a leaf
            self._term(leaf, None, weights, shape)
            return
        full = (1,) * (len(shape) - len(inner)) + inner
        if full != shape:
            # The operand is the same along some axes: multiply it out where the weights are not.
            leaf = self._parts.leaf(source)
            if leaf is None:
                weights = self._gathered(weights, shape, full, source)
            else:
                self._term(leaf, None, weights, shape)
                return
        self.read(source, self._shaped(weights, full, inner))

    def _gathered(self, weights: Weights, shape: Shape, full: Shape, source: ir.Value) -> Weights:
        """Sum weights over the axes along which a mixed operand was broadcast."""
        make = self._make
        user, item = (
            make.reshape(t, (1,) * (len(shape) - len(t.shape)) + t.shape)
            for t in (weights.user, weights.item)
        )
        for axis, (n, m) in enumerate(zip(shape, full, strict=True)):
            if n == m:
                continue
            if user.shape[axis] > 1 and item.shape[axis] > 1:
                raise NotLowered(f"{source.name!r}: broadcast under weights of both sides")
            if user.shape[axis] > 1:
                user = make.reduce(user, [axis])
            elif item.shape[axis] > 1:
                item = make.reduce(item, [axis])
            else:
                user = make.mul(user, make.constant(float(n)))
        return Weights(user=user, item=item)

    def _scale(self, weights: Weights, factor: Tensor) -> Weights:
        if factor.side is Side.ITEM:
            return Weights(user=weights.user, item=self._make.mul(weights.item, factor))
        return Weights(user=self._make.mul(weights.user, factor), item=weights.item)

    def _shaped(self, weights: Weights, shape: Shape, target: Shape) -> Weights:
        """Give weights of one shape another with as many elements."""

        def change(t: Tensor) -> Tensor:
            if prod(t.shape) == 1:
                return self._make.reshape(t, ())
            return self._make.reshape(self._make.expand(t, shape), target)

        if shape == target:
            return weights
        return Weights(user=change(weights.user), item=change(weights.item))

    def _cut(self, weights: Weights, shape: Shape, axis: int, start: int, stop: int) -> Weights:
        def change(t: Tensor) -> Tensor:
            behind = len(shape) - axis
            if len(t.shape) < behind or t.shape[-behind] == 1:
                return t
            return self._make.slice(t, len(t.shape) - behind, start, stop)

        return Weights(user=change(weights.user), item=change(weights.item))


def _factors(weights: Weights, side: Side) -> tuple[Tensor, Tensor]:
    return (weights.user, weights.item) if side is Side.USER else (weights.item, weights.user)


def _weights(mine: Tensor, other: Tensor, side: Side) -> Weights:
    if side is Side.USER:
        return Weights(user=mine, item=other)
    return Weights(user=other, item=mine)
