"""Sharing a pass over the catalogue among threads."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["MIN_BLOCKS", "Shares"]

_Result = TypeVar("_Result")

MIN_BLOCKS = 512
"""A smaller share of blocks costs less than handing it to another thread: 32,768 items, 0.2 ms."""


class Shares:
    """Cuts a range of work into one share a thread; the caller's own thread takes the first.

    Passes that run at the same time, on threads of their callers, divide the threads among them:
    each in fewer shares costs less in handing over, and one never waits for all of another.

    >>> Shares(2).run(lambda first, last: last - first, 3000, 100)
    [1500, 1500]
    """

    def __init__(self, threads: int) -> None:
        """Start no thread before one is needed."""
        self._threads = threads
        self._lock, self._passes = threading.Lock(), 0
        self._pool = ThreadPoolExecutor(threads, "fuserank-scan") if threads > 1 else None

    def run(self, work: Callable[[int, int], _Result], size: int, least: int) -> list[_Result]:
        """Return what `work` made of each share, in order; none is smaller than `least`."""
        if self._pool is None:
            return [work(0, size)]
        with self._lock:
            self._passes += 1
            threads = self._threads // self._passes
        try:
            return _run(self._pool, work, size, max(1, min(threads, size // least)))
        finally:
            with self._lock:
                self._passes -= 1

    def close(self) -> None:
        """Release the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def _run(
    pool: ThreadPoolExecutor, work: Callable[[int, int], _Result], size: int, n_shares: int
) -> list[_Result]:
    edges = [size * share // n_shares for share in range(n_shares + 1)]
    others = [pool.submit(work, edges[share], edges[share + 1]) for share in range(1, n_shares)]
    return [work(0, edges[1]), *(other.result() for other in others)]
