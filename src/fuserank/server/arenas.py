"""How the threads of a server share the memory of the C library."""

import ctypes
import os
import sys

__all__ = ["share_arenas"]

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_ARENAS = 2


def share_arenas() -> None:
    """Have all threads allocate from two arenas, where the C library is glibc.

    On its own it makes up to eight a core, and what a thread frees in one the others cannot use: a
    server of dozens of threads without a leak grew for half an hour. To be called before threads
    start. Whoever runs the server has the last word, by ``MALLOC_ARENA_MAX``.

    Source: mallopt(3), M_ARENA_MAX.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have no arenas
        mallopt(_ARENA_MAX, _ARENAS)
