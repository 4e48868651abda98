"""Sharing a pass over the catalogue among threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["MIN_BLOCKS", "Shares"]

_Result = TypeVar("_Result")

MIN_BLOCKS = 512
"""A smaller share of blocks costs less than handing it to another thread: 32,768 items, 0.2 ms."""


class Shares:
    """Cuts a range of work into one share a thread; the caller's own thread takes the first.

    >>> Shares(2).run(lambda first, last: last - first, 3000, 100)
    [1500, 1500]
    """

    def __init__(self, threads: int) -> None:
        """Start no thread before one is needed."""
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "fuserank-scan") if threads > 1 else None

    def run(self, work: Callable[[int, int], _Result], size: int, least: int) -> list[_Result]:
        """Return what `work` made of each share, in order; none is smaller than `least`."""
        n_shares = max(1, min(self._threads, size // least))
        if self._pool is None or n_shares == 1:
            return [work(0, size)]
        edges = [size * share // n_shares for share in range(n_shares + 1)]
        others = [
            self._pool.submit(work, edges[share], edges[share + 1]) for share in range(1, n_shares)
        ]
        return [work(0, edges[1]), *(other.result() for other in others)]

    def close(self) -> None:
        """Release the threads."""
        if self._pool is not None:
            self._pool.shutdown()
