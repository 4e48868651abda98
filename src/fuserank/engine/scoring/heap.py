"""Bounded heaps of scored rows: the worst on top, so that it is the one to be replaced."""

from typing import Any

from numba import njit

__all__ = ["sift_down", "sift_up", "sort"]


@njit(nogil=True, cache=True, inline="always")
def _worse(score_a: float, row_a: int, score_b: float, row_b: int) -> Any:
    """Whether a stands behind b: a lower score, or the same score further down the catalogue."""
    return score_a < score_b or (score_a == score_b and row_a > row_b)


@njit(nogil=True, cache=True)
def sift_down(scores: Any, rows: Any, size: int) -> None:
    """Restore the heap (worst on top) after its top was replaced."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            return
        right = child + 1
        if right < size and _worse(scores[right], rows[right], scores[child], rows[child]):
            child = right
        if not _worse(scores[child], rows[child], scores[parent], rows[parent]):
            return
        scores[parent], scores[child] = scores[child], scores[parent]
        rows[parent], rows[child] = rows[child], rows[parent]
        parent = child


@njit(nogil=True, cache=True)
def sift_up(scores: Any, rows: Any, child: int) -> None:
    """Restore the heap after an entry was added at its end."""
    while child > 0:
        parent = (child - 1) // 2
        if not _worse(scores[child], rows[child], scores[parent], rows[parent]):
            return
        scores[parent], scores[child] = scores[child], scores[parent]
        rows[parent], rows[child] = rows[child], rows[parent]
        child = parent


@njit(nogil=True, cache=True)
def sort(scores: Any, rows: Any, size: int) -> None:
    """Turn a heap into descending order, in place."""
    for end in range(size - 1, 0, -1):
        scores[0], scores[end] = scores[end], scores[0]
        rows[0], rows[end] = rows[end], rows[0]
        sift_down(scores, rows, end)
