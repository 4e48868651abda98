"""Matrix products of 64 items at once, an item a lane: loops that stay in registers.

numba cannot say which sums are to be held in registers, and LLVM does not find out: written as
loops over arrays, the product below takes twice as long.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "ROWS", "dense_row", "dense_rows", "transpose_lanes"]

LANES = 16
"""Items a vector; where the processor's are shorter, LLVM splits them."""

ROWS = 4 if llvmlite.binding.get_host_cpu_features().get("avx512f", False) else 1
"""Rows of outputs that `dense_rows` makes: their sums fill half the registers, 16 of 32 where a
vector is one register, 8 of 16 where it is two, and leave the others to what is multiplied."""

_VECTORS = 4
"""Vectors of the 64 items of a block."""
_FLOAT_BYTES = 4
_VECTOR_BYTES = LANES * _FLOAT_BYTES
_ROW_BYTES = _VECTORS * _VECTOR_BYTES

_INT = ir.IntType(32)
_FLOAT = ir.FloatType()
_FLOATS = ir.VectorType(_FLOAT, LANES)


def _make_dense(n_rows: int) -> Any:
    """Make the function that computes some outputs of a dense layer; numba inlines it.

    It is called with (inputs, weights, n_inputs, outputs), of which all but n_inputs are addresses
    of contiguous float32 arrays: inputs (n_inputs, 64), weights (n_rows, n_inputs). It writes
    outputs (n_rows, 64), weights·inputs.
    """

    @intrinsic
    def dense(_: Any, inputs: Any, weights: Any, n_inputs: Any, outputs: Any) -> Any:
        def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
            inputs, weights, n_inputs, outputs = values
            size = n_inputs.type
            sums = [cgutils.alloca_once(builder, _FLOATS) for _ in range(n_rows * _VECTORS)]
            for total in sums:
                builder.store(ir.Constant(_FLOATS, [0.0] * LANES), total)
            stride = builder.mul(n_inputs, size(_FLOAT_BYTES))
            with cgutils.for_range(builder, n_inputs) as loop:
                at = builder.add(inputs, builder.mul(loop.index, size(_ROW_BYTES)))
                items = [_load(builder, at, v * _VECTOR_BYTES, _FLOATS) for v in range(_VECTORS)]
                at = builder.add(weights, builder.mul(loop.index, size(_FLOAT_BYTES)))
                for row in range(n_rows):
                    weight = _splat(builder, _load(builder, at, 0, _FLOAT))
                    for item, total in zip(items, sums[row * _VECTORS :], strict=False):
                        product = builder.fmul(weight, item, flags=["contract"])
                        so_far = builder.load(total, typ=_FLOATS)
                        builder.store(builder.fadd(product, so_far, flags=["contract"]), total)
                    at = builder.add(at, stride)
            for place, total in enumerate(sums):
                _store(builder, builder.load(total, typ=_FLOATS), outputs, place * _VECTOR_BYTES)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp, types.intp), generate

    return dense


dense_rows = _make_dense(ROWS)
dense_row = _make_dense(1)


@intrinsic
def transpose_lanes(_: Any, items: Any, stride: Any, columns: Any) -> Any:
    """Transpose 16 numbers of 16 items: called with (items, stride, columns).

    items is the address of the first item's numbers, the next item's standing `stride` bytes
    further; columns that of a (16, 64) float32 array, of which the first 16 lanes are written.
    """

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        items, stride, columns = values
        size = stride.type
        rows = [
            _load(builder, builder.add(items, builder.mul(stride, size(r))), 0, _FLOATS)
            for r in range(LANES)
        ]
        step = 1
        while step < LANES:  # each round exchanges one bit of the number of a row and of a lane
            kept = [lane if not lane & step else lane - step + LANES for lane in range(LANES)]
            moved = [lane + step if not lane & step else lane + LANES for lane in range(LANES)]
            for r in range(LANES):
                if not r & step:
                    pair = rows[r], rows[r + step]
                    rows[r] = builder.shuffle_vector(*pair, _indices(kept))
                    rows[r + step] = builder.shuffle_vector(*pair, _indices(moved))
            step *= 2
        for r, row in enumerate(rows):
            _store(builder, row, columns, r * _ROW_BYTES)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def _pointer(builder: Any, base: Any, offset: int) -> Any:
    return builder.inttoptr(builder.add(base, base.type(offset)), ir.PointerType())


def _load(builder: Any, base: Any, offset: int, kind: Any) -> Any:
    return builder.load(_pointer(builder, base, offset), typ=kind, align=_FLOAT_BYTES)


def _store(builder: Any, value: Any, base: Any, offset: int) -> None:
    builder.store(value, _pointer(builder, base, offset), align=_FLOAT_BYTES)


def _splat(builder: Any, value: Any) -> Any:
    empty = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, empty, _indices([0] * LANES))


def _indices(numbers: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INT, LANES), numbers)
