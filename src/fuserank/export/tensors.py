"""Arithmetic on one-sided values: what the compiler adds to a graph, constants being folded."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.schema import Side

__all__ = ["Shape", "Tensor", "Workshop", "initializer"]

Matrix = npt.NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A value of one side, or a constant.

    Attributes:
        shape: of one row; a value of the graph has a batch axis in front of it, a constant none.
        side: user or item; None of a constant.
        value: in the graph, unless it is a constant.
        array: float32, of a constant.
    """

    shape: Shape
    side: Side | None = None
    value: ir.Value | None = None
    array: Matrix | None = None


class Workshop:
    """Builds nodes for one-sided arithmetic and folds what is constant.

    Shapes broadcast as in NumPy, row by row; the two sides never meet here.
    """

    def __init__(self, graph: ir.Graph) -> None:
        """Take the graph to which `finish` appends the nodes."""
        self._graph = graph
        self._tape = ir.tape.Tape()
        self._count = 0
        # What is built twice is built once: equal parts can then be recognised.
        self._made: dict[object, Tensor] = {}
        self._initializers: dict[object, ir.Value] = {}

    def constant(self, array: npt.ArrayLike) -> Tensor:
        """Make a constant."""
        made = np.asarray(array, dtype=np.float32)
        return Tensor(shape=made.shape, array=made)

    def mul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a ⊙ b."""
        for one, other in ((a, b), (b, a)):
            is_one = one.array is not None and one.array.size == 1 and one.array.item() == 1.0
            if is_one and len(one.shape) <= len(other.shape):
                return other
        return self._binary("Mul", a, b)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a + b."""
        return self._binary("Add", a, b)

    def matmul(self, a: Tensor, matrix: Matrix) -> Tensor:
        """Return a·M over the last axis of a."""
        shape = (*a.shape[:-1], matrix.shape[1])
        if a.array is not None:
            return self.constant(a.array @ matrix)
        return self._node("MatMul", [self.materialise(a), self._weights(matrix)], a.side, shape)

    def reduce(self, a: Tensor, axes: Sequence[int]) -> Tensor:
        """Return the sum over axes of a row, which stay with length 1."""
        if not axes:
            return a
        if a.array is not None:
            return self.constant(a.array.sum(axis=tuple(axes), keepdims=True))
        shape = tuple(1 if axis in axes else n for axis, n in enumerate(a.shape))
        inputs = [self.materialise(a), self._indices([axis + 1 for axis in axes])]
        return self._node("ReduceSum", inputs, a.side, shape)

    def expand(self, a: Tensor, shape: Shape) -> Tensor:
        """Return a repeated to a shape it broadcasts to."""
        if a.shape == shape:
            return a
        return self._binary("Mul", a, self.constant(np.ones(shape)))

    def reshape(self, a: Tensor, shape: Shape) -> Tensor:
        """Return a with rows of another shape."""
        if a.shape == shape:
            return a
        if a.array is not None:
            return self.constant(a.array.reshape(shape))
        # Zero copies the batch axis; -1 would not know it where a row has no element.
        return self._node(
            "Reshape", [self.materialise(a), self._indices([0, *shape])], a.side, shape
        )

    def transpose(self, a: Tensor, axes: Sequence[int]) -> Tensor:
        """Return a with the axes of a row in another order."""
        shape = tuple(a.shape[axis] for axis in axes)
        if a.array is not None:
            return self.constant(a.array.transpose(axes))
        perm = [0, *(axis + 1 for axis in axes)]
        return self._node("Transpose", [self.materialise(a)], a.side, shape, {"perm": perm})

    def slice(self, a: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """Return a range along an axis of a row; an axis of length 1 stands for any range."""
        if a.shape[axis] == 1 or (start, stop) == (0, a.shape[axis]):
            return a
        if a.array is not None:
            return self.constant(np.take(a.array, range(start, stop), axis=axis))
        shape = (*a.shape[:axis], stop - start, *a.shape[axis + 1 :])
        inputs = [self.materialise(a), *map(self._indices, ([start], [stop], [axis + 1]))]
        return self._node("Slice", inputs, a.side, shape)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Return parts of one side, or constants, joined along an axis of a row."""
        if all(part.array is not None for part in parts):
            return self.constant(np.concatenate([part.array for part in parts], axis=axis))
        like = next(part for part in parts if part.array is None)
        if len(parts) == 1:
            return like
        values = [self.materialise(self.repeat(part, like)) for part in parts]
        shape = list(like.shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self._node("Concat", values, like.side, tuple(shape), {"axis": axis + 1})

    def flat(self, a: Tensor, shape: Shape) -> Tensor:
        """Return a, expanded to a shape, as one axis."""
        return self.reshape(self.expand(a, shape), (prod(shape),))

    def repeat(self, a: Tensor, like: Tensor) -> Tensor:
        """Give a constant the batch axis of a value."""
        if a.array is None:
            return a
        batch = self._tape.op("Shape", [self.materialise(like)], {"start": 0, "end": 1})
        target = self._tape.op("Concat", [batch, self._indices(a.shape)], {"axis": 0})
        return self._node("Expand", [self.materialise(a), target], like.side, a.shape)

    def materialise(self, a: Tensor) -> ir.Value:
        """Return the value of a tensor, an initializer for a constant."""
        if a.value is not None:
            return a.value
        assert a.array is not None  # a tensor is a value or a constant
        return self._weights(a.array)

    def finish(self) -> None:
        """Append what was built to the graph."""
        self._graph.extend(self._tape.nodes)

    def _binary(self, op: str, a: Tensor, b: Tensor) -> Tensor:
        shape = np.broadcast_shapes(a.shape, b.shape)
        if a.array is not None and b.array is not None:
            return self.constant(a.array * b.array if op == "Mul" else a.array + b.array)
        assert a.side is None or b.side is None or a.side is b.side  # sides never meet here
        operands = [self.materialise(self._ranked(t, len(shape))) for t in (a, b)]
        return self._node(op, operands, a.side or b.side, shape)

    def _ranked(self, a: Tensor, rank: int) -> Tensor:
        """Give rows of a value leading axes of length 1, so that batch axes meet."""
        if a.array is not None or len(a.shape) == rank:
            return a
        return self.reshape(a, (1,) * (rank - len(a.shape)) + a.shape)

    def _node(
        self,
        op: str,
        inputs: Sequence[ir.Value],
        side: Side | None,
        shape: Shape,
        attributes: dict[str, int | list[int]] | None = None,
    ) -> Tensor:
        key = (op, tuple(inputs), str(attributes))
        known = self._made.get(key)
        if known is not None:
            return known
        value = self._tape.op(op, inputs, attributes or {})
        value.name = self._name(op)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape(["batch", *shape])
        made = Tensor(shape=shape, side=side, value=value)
        self._made[key] = made
        return made

    def _weights(self, array: Matrix) -> ir.Value:
        return self._initializer(np.ascontiguousarray(array, dtype=np.float32))

    def _indices(self, numbers: Sequence[int]) -> ir.Value:
        return self._initializer(np.array(numbers, dtype=np.int64))

    def _initializer(self, array: npt.NDArray[np.generic]) -> ir.Value:
        key = (str(array.dtype), array.shape, array.tobytes())
        if key in self._initializers:
            return self._initializers[key]
        value = initializer(self._graph, self._name("constant"), array)
        self._initializers[key] = value
        return value

    def _name(self, what: str) -> str:
        self._count += 1
        return f"lowered.{what.lower()}_{self._count}"


def initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Add a constant to a graph and return its value."""
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
