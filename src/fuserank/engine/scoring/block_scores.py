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


def make_block_scores(*, vnni: bool, floored: bool, n_users: int = 1) -> Any:
    """Make the function that scores a block of 64 items for some users; numba inlines it.

    It is called with

        (codes, multipliers, floors, n_groups, starts, bias, units, constants, least,
         scores, reached)

    of which all but n_groups are addresses of contiguous arrays: codes (n_groups, 64, 4) uint8,
    multipliers (n_users, n_groups, 4) int8, floors (n_users, n_groups, 4) uint8, bias (64,)
    float32, starts int32, units, constants and least float32, (n_users,) each. It writes scores
    (n_users, 64) float32, unit·sum + (bias + constant), where sum is start + Σ multiplier·code, or,
    where floored, start + Σ multiplier·max(code, floor); and reached (n_users,) uint64, whose bits
    say which of them are `least` or more.

    Args:
        vnni: use vpdpbusd; the processor must have it.
        floored: raise codes to the floors.
        n_users: users who share the reading of the codes; of four, all sums stay in registers.
    """
    emit = _emit_vnni if vnni else _emit_pairs

    @intrinsic
    def block_scores(
        _: Any,
        codes: Any,
        multipliers: Any,
        floors: Any,
        n_groups: Any,
        starts: Any,
        bias: Any,
        units: Any,
        constants: Any,
        least: Any,
        scores: Any,
        reached: Any,
    ) -> Any:
        addresses = [types.uintp] * 3, [types.uintp] * 7
        signature = types.void(*addresses[0], types.intp, *addresses[1])

        def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
            sums = _generate_sums(builder, values[:5], (n_users, emit), floored=floored)
            for user, mine in enumerate(sums):
                _generate_scores(builder, user, mine, values[5:])
            return context.get_dummy_value()

        return signature, generate

    return block_scores


def _pointer(builder: Any, base: Any, offset: Any) -> Any:
    return builder.inttoptr(builder.add(base, offset), ir.PointerType())


def _generate_sums(
    builder: Any, values: Any, how: tuple[int, Emit], *, floored: bool
) -> list[list[Any]]:
    """Return the sums of each user, vector by vector."""
    codes, multipliers, floors, n_groups, starts = values
    n_users, emit = how
    size = n_groups.type
    totals = [
        [cgutils.alloca_once(builder, _INTS) for _ in range(_VECTORS)] for _ in range(n_users)
    ]
    for user, mine in enumerate(totals):
        start = builder.load(_pointer(builder, starts, size(user * 4)), typ=_I32, align=1)
        for total in mine:
            builder.store(_splat(builder, start), total)
    width = builder.mul(n_groups, size(GROUP))
    maximum = builder.module.declare_intrinsic(
        "llvm.umax.v64i8", (), ir.FunctionType(_BYTES, [_BYTES, _BYTES])
    )
    with cgutils.for_range(builder, n_groups) as loop:
        group = builder.add(codes, builder.mul(loop.index, size(_VECTORS * _STEP)))
        block = [
            builder.load(_pointer(builder, group, size(vector * _STEP)), typ=_BYTES, align=1)
            for vector in range(_VECTORS)
        ]
        for user, mine in enumerate(totals):
            at = builder.add(builder.mul(width, size(user)), builder.mul(loop.index, size(GROUP)))
            multiplier = builder.load(_pointer(builder, multipliers, at), typ=_I32, align=1)
            raised = block
            if floored:
                floor = builder.load(_pointer(builder, floors, at), typ=_I32, align=1)
                lowest = builder.bitcast(_splat(builder, floor), _BYTES)
                raised = [builder.call(maximum, [code, lowest]) for code in block]
            for code, total in zip(raised, mine, strict=True):
                so_far = builder.load(total, typ=_INTS)
                builder.store(emit(builder, so_far, code, multiplier), total)
    return [[builder.load(total, typ=_INTS) for total in mine] for mine in totals]


def _generate_scores(builder: Any, user: int, sums: list[Any], values: Any) -> None:
    bias, units, constants, least, scores, reached = values
    size = bias.type
    unit, constant, lowest = (
        _splat(
            builder,
            builder.load(_pointer(builder, array, size(user * 4)), typ=ir.FloatType(), align=1),
        )
        for array in (units, constants, least)
    )
    mask = ir.Constant(_I64, 0)
    for vector, total in enumerate(sums):
        at = size(vector * _STEP)
        offset = builder.load(_pointer(builder, bias, at), typ=_FLOATS, align=1)
        score = builder.fadd(
            builder.fmul(builder.sitofp(total, _FLOATS), unit, flags=["contract"]),
            builder.fadd(offset, constant),
            flags=["contract"],
        )
        mine = size((user * _VECTORS + vector) * _STEP)
        builder.store(score, _pointer(builder, scores, mine), align=1)
        bits = builder.bitcast(builder.fcmp_ordered(">=", score, lowest), ir.IntType(_LANES))
        shifted = builder.shl(builder.zext(bits, _I64), ir.Constant(_I64, vector * _LANES))
        mask = builder.or_(mask, shifted)
    builder.store(mask, _pointer(builder, reached, size(user * 8)), align=1)


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
