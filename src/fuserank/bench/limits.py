"""The measured floor: what it takes merely to read the item states once."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["read_floor_ms", "total"]

Array = npt.NDArray[Any]


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
