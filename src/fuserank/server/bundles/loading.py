"""Loading a bundle beside one that answers requests, at as little cost to those as can be."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from fuserank.errors import BundleError, FuserankError

__all__ = ["load_on_thread"]

logger = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 0.0002

T = TypeVar("T")


async def load_on_thread(open_one: Callable[[], T]) -> T:
    """Return what a call returns that loads a bundle. One such call at a time.

    Raises:
        FuserankError: whatever fails is said to be the bundle's fault, for the server goes on.
    """
    with _giving_way():
        return await asyncio.to_thread(_open, open_one)


@contextmanager
def _giving_way() -> Iterator[None]:
    """Have a load give the interpreter up sooner.

    It reads every id of the catalogue in Python. By default whoever answers a request meanwhile
    waits 5 ms each time that it needs the interpreter, which it does several times.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_INTERVAL_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _open(open_one: Callable[[], T]) -> T:
    try:
        return open_one()
    except FuserankError:
        raise
    except Exception as error:
        logger.exception("a bundle could not be loaded")
        raise BundleError(f"the bundle does not run: {type(error).__name__}: {error}") from error
