"""Scores of 64 items at once from bytes: the one loop that numba has no words for.

x86 processors with AVX-512 VNNI multiply 64 unsigned by 64 signed bytes and add them up by fours in
one instruction, vpdpbusd. Elsewhere the same sums are spelled out in pairs of 16 bits, which LLVM
turns into what the processor has.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["GROUP", "HAS_VNNI", "make_block_scores"]

GROUP = 4
"""Neighbouring bytes of one item, whose products one 32-bit lane adds up."""

HAS_VNNI = bool(llvmlite.binding.get_host_cpu_features().get("avx512vnni", False))

_LANES = 16
_VECTORS = 4
"""Vectors of 16 items: the 64 items of a block."""
_STEP = 64
"""Bytes of a vector."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES = ir.VectorType(_I8, _LANES * GROUP)
_SHORTS = ir.VectorType(_I16, _LANES * 2)
_INTS = ir.VectorType(_I32, _LANES)
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)
_WIDE = ir.VectorType(_I32, _LANES * 2)

Emit = Callable[[Any, Any, Any, Any], Any]


def make_block_scores(*, vnni: bool, floored: bool) -> Any:
    """Make the function that scores a block of 64 items; numba inlines it.

    It is called with

        (codes, multipliers, floors, n_groups, start, bias, unit, constant, least, scores)

    of which codes (n_groups, 64, 4) uint8, multipliers (n_groups, 4) int8, floors (n_groups, 4)
    uint8, bias (64,) float32 and scores (64,) float32 are addresses of contiguous arrays. It writes
    the scores, unit·sum + (bias + constant), where sum is start + Σ multiplier·code, or, where
    floored, start + Σ multiplier·max(code, floor). It returns 64 bits: which scores reach `least`.

    Args:
        vnni: use vpdpbusd; the processor must have it.
        floored: raise codes to the floors.
    """
    emit = _emit_vnni if vnni else _emit_pairs

    @intrinsic
    def block_scores(
        _: Any,
        codes: Any,
        multipliers: Any,
        floors: Any,
        n_groups: Any,
        start: Any,
        bias: Any,
        unit: Any,
        constant: Any,
        least: Any,
        scores: Any,
    ) -> Any:
        address, number = types.uintp, types.float32
        signature = types.uint64(
            address, address, address, types.intp, types.int32,
            address, number, number, number, address,
        )  # fmt: skip

        def generate(_: Any, builder: Any, __: Any, values: Any) -> Any:
            sums = _generate_sums(builder, values[:5], emit, floored=floored)
            return _generate_scores(builder, sums, values[5:])

        return signature, generate

    return block_scores


def _pointer(builder: Any, base: Any, offset: Any) -> Any:
    return builder.inttoptr(builder.add(base, offset), ir.PointerType())


def _generate_sums(builder: Any, values: Any, emit: Emit, *, floored: bool) -> list[Any]:
    codes, multipliers, floors, n_groups, start = values
    size = n_groups.type
    totals = [cgutils.alloca_once(builder, _INTS) for _ in range(_VECTORS)]
    for total in totals:
        builder.store(_splat(builder, start), total)
    with cgutils.for_range(builder, n_groups) as loop:
        at = builder.mul(loop.index, size(GROUP))
        multiplier = builder.load(_pointer(builder, multipliers, at), typ=_I32, align=1)
        group = builder.add(codes, builder.mul(loop.index, size(_VECTORS * _STEP)))
        if floored:
            maximum = builder.module.declare_intrinsic(
                "llvm.umax.v64i8", (), ir.FunctionType(_BYTES, [_BYTES, _BYTES])
            )
            floor = builder.load(_pointer(builder, floors, at), typ=_I32, align=1)
            lowest = builder.bitcast(_splat(builder, floor), _BYTES)
        for vector, total in enumerate(totals):
            at = size(vector * _STEP)
            code = builder.load(_pointer(builder, group, at), typ=_BYTES, align=1)
            if floored:
                code = builder.call(maximum, [code, lowest])
            builder.store(emit(builder, builder.load(total, typ=_INTS), code, multiplier), total)
    return [builder.load(total, typ=_INTS) for total in totals]


def _generate_scores(builder: Any, sums: list[Any], values: Any) -> Any:
    bias, unit, constant, least, scores = values
    unit, constant, least = (_splat(builder, value) for value in (unit, constant, least))
    size = bias.type
    mask = ir.Constant(_I64, 0)
    for vector, total in enumerate(sums):
        at = size(vector * _STEP)
        offset = builder.load(_pointer(builder, bias, at), typ=_FLOATS, align=1)
        score = builder.fadd(
            builder.fmul(builder.sitofp(total, _FLOATS), unit, flags=["contract"]),
            builder.fadd(offset, constant),
            flags=["contract"],
        )
        builder.store(score, _pointer(builder, scores, at), align=1)
        reached = builder.bitcast(builder.fcmp_ordered(">=", score, least), ir.IntType(_LANES))
        shifted = builder.shl(builder.zext(reached, _I64), ir.Constant(_I64, vector * _LANES))
        mask = builder.or_(mask, shifted)
    return mask


def _splat(builder: Any, value: Any) -> Any:
    empty = ir.Constant(ir.VectorType(value.type, _LANES), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(_INTS, [0] * _LANES))


def _emit_vnni(builder: Any, total: Any, code: Any, multiplier: Any) -> Any:
    vpdpbusd = builder.module.declare_intrinsic(
        "llvm.x86.avx512.vpdpbusd.512", (), ir.FunctionType(_INTS, [_INTS, _INTS, _INTS])
    )
    return builder.call(
        vpdpbusd, [total, builder.bitcast(code, _INTS), _splat(builder, multiplier)]
    )


def _emit_pairs(builder: Any, total: Any, code: Any, multiplier: Any) -> Any:
    """Bytes 0 and 2 of a group, then 1 and 3, each as a pair of 16 bits multiplied and added."""
    eight = ir.Constant(_SHORTS, [8] * 2 * _LANES)
    codes = builder.bitcast(code, _SHORTS)
    multipliers = builder.bitcast(_splat(builder, multiplier), _SHORTS)
    pairs = (
        (
            builder.and_(codes, ir.Constant(_SHORTS, [255] * 2 * _LANES)),
            builder.ashr(builder.shl(multipliers, eight), eight),
        ),
        (builder.lshr(codes, eight), builder.ashr(multipliers, eight)),
    )
    for left, right in pairs:
        products = builder.mul(builder.sext(left, _WIDE), builder.sext(right, _WIDE))
        halves = [
            builder.shuffle_vector(
                products,
                ir.Constant(_WIDE, ir.Undefined),
                ir.Constant(_INTS, list(range(first, 2 * _LANES, 2))),
            )
            for first in (0, 1)
        ]
        total = builder.add(total, builder.add(*halves))
    return total
