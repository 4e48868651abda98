"""Answers to a stream of requests, in its order."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

__all__ = ["OrderedStream"]

Q = TypeVar("Q")
A = TypeVar("A")


class OrderedStream(Generic[Q, A]):
    """Answers each request of a stream, in the order of the requests."""

    def __init__(
        self, requests: AsyncIterable[Q], answer: Callable[[Q], Awaitable[A]], *, ahead: int
    ) -> None:
        """Read nothing yet.

        Args:
            requests: what comes in.
            answer: answers one of them; must not raise.
            ahead: how many requests may be under way at a time; 1 or more.
        """
        self._requests, self._answer = requests, answer
        self._room = asyncio.Semaphore(ahead - 1)  # the request that is read then makes it `ahead`
        self._under_way: asyncio.Queue[asyncio.Future[A] | None] = asyncio.Queue()
        self._unanswered: set[asyncio.Future[A]] = set()
        self._reader = asyncio.ensure_future(self._read())

    def drain(self) -> None:
        """Read no more; the stream ends when what was read is answered."""
        self._reader.cancel()

    async def answers(self) -> AsyncIterator[A]:
        """Yield the answers; called once. Left early, it drops what is under way.

        Raises:
            Exception: what reading raised, after the answers to what was read before.
        """
        try:
            while (future := await self._under_way.get()) is not None:
                answer = await future
                self._room.release()
                yield answer
            if not self._reader.cancelled():
                await self._reader
        finally:
            left: list[asyncio.Future[Any]] = [self._reader, *self._unanswered]
            for one in left:
                one.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for request in self._requests:
                future = asyncio.ensure_future(self._answer(request))
                self._unanswered.add(future)
                future.add_done_callback(self._unanswered.discard)
                self._under_way.put_nowait(future)
                await self._room.acquire()
        finally:
            self._under_way.put_nowait(None)
