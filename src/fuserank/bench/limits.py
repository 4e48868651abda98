"""The measured limits: how fast memory can be read, and how fast bytes can be multiplied."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fuserank.engine.scoring.block_scores import GROUP, HAS_VNNI, make_block_scores
from fuserank.engine.scoring.kernels import BLOCK

__all__ = ["byte_products_per_s", "read_floor_ms", "total"]

Array = npt.NDArray[Any]

_GROUPS = 64
"""Groups of a block of 16 KiB: half of a first-level cache."""
_REPEATS = 200_000

_USERS = 4
_score = make_block_scores(vnni=HAS_VNNI, floored=False, n_users=_USERS)


# Sums may be reordered, so that the loop runs as fast as memory delivers.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def total(values: Any) -> Any:
    """Return the sum of a one-dimensional array: the cheapest pass that reads all of it."""
    result = np.float32(0.0)
    for i in range(len(values)):
        result += values[i]
    return result


def read_floor_ms(states: Mapping[str, Array], *, threads: int, passes: int = 50) -> list[float]:
    """Return the milliseconds of each of several passes over all item states.

    No exact scan of states this size can be faster on the same cores. Pages are touched once
    beforehand, as a warm engine has.

    Args:
        states: by name, (n_items, …) of any dtype; may be memory-mapped.
        threads: threads that share a pass.
        passes: passes to time.
    """
    parts = [
        part
        for state in states.values()
        for part in np.array_split(np.ravel(state).view(np.float32), threads)
    ]
    with ThreadPoolExecutor(threads, "fuserank-floor") as pool:
        _read(pool, parts)
        return [_read(pool, parts) for _ in range(passes)]


def _read(pool: ThreadPoolExecutor, parts: Sequence[Array]) -> float:
    started = time.perf_counter()
    for _ in pool.map(total, parts):
        pass
    return (time.perf_counter() - started) * 1e3


def byte_products_per_s(threads: int) -> float:
    """Return the multiply-adds a second of blocks of codes that stay in the nearest cache.

    It is the instruction that a scan of codes uses, with nothing else to do.
    """
    codes = np.zeros((_GROUPS, BLOCK, GROUP), dtype=np.uint8)
    multipliers = np.zeros((_USERS, _GROUPS, GROUP), dtype=np.int8)
    _multiply(codes, multipliers, 1)
    with ThreadPoolExecutor(threads, "fuserank-peak") as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda _: _multiply(codes, multipliers, _REPEATS), range(threads)):
            pass
        elapsed = time.perf_counter() - started
    return threads * _REPEATS * _USERS * codes.size / elapsed


@njit(nogil=True, cache=True)
def _multiply(codes: Any, multipliers: Any, repeats: int) -> Any:
    zeros = np.zeros((2, _USERS, BLOCK), dtype=np.float32)
    reached = np.zeros(_USERS, dtype=np.uint64)
    for _ in range(repeats):
        _score(
            codes.ctypes.data,
            multipliers.ctypes.data,
            multipliers.ctypes.data,
            len(codes),
            zeros.ctypes.data,
            zeros.ctypes.data,
            zeros.ctypes.data,
            zeros.ctypes.data,
            zeros.ctypes.data,
            zeros[1].ctypes.data,
            reached.ctypes.data,
        )
    return reached[0]
