"""One stream of requests: replies go out as they are ready, and no more is read than has room."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc

from fuserank.errors import UnavailableError
from fuserank.server.pb import recommender_pb2 as pb

__all__ = ["RequestStream"]

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Request = pb.RecommendStreamRequest
Reply = pb.RecommendStreamResponse
Begin = Callable[[Request, Callable[[Reply], None]], Callable[[], None]]


class RequestStream:
    """A call of RecommendStream.

    A request is open from when it was read to when its reply was written. A client that reads
    slowly holds its replies up, its open requests add up, and no more of it is read: what it sends
    waits at its side.
    """

    def __init__(
        self, requests: AsyncIterator[Request], context: Context, begin: Begin, *, max_open: int
    ) -> None:
        """Read nothing yet.

        Args:
            requests: of the client.
            context: of the call.
            begin: starts on a request, has its reply passed on once, at once or later, and returns
                what drops the request where nobody waits for it any more.
            max_open: requests that may be open.
        """
        self._requests, self._context = requests, context
        self._begin, self._max_open = begin, max_open
        self._open = 0
        self._drops: dict[int, Callable[[], None]] = {}
        self._ready: deque[Reply] = deque()
        self._wake = asyncio.Event()  # for the writer
        self._room = asyncio.Event()  # for the reader
        self._all_read = False
        self._draining = False
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer until the client has sent all, and every reply is written.

        Raises:
            UnavailableError: it was drained; every request that was read has its reply.
        """
        self._reader = asyncio.create_task(self._read())
        try:
            await self._write()
            if not self._draining:
                await self._reader  # raises what went wrong there
        finally:
            self._reader.cancel()
            for drop in tuple(self._drops.values()):
                drop()
        if self._draining:
            raise UnavailableError("the server is shutting down")

    def drain(self) -> None:
        """Read no more: `run` ends when what was read is answered."""
        self._draining = True
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> None:
        serial = 0
        try:
            while True:
                while self._open >= self._max_open:
                    self._room.clear()
                    await self._room.wait()
                request = await anext(self._requests, None)
                if request is None:
                    return
                self._open += 1
                serial += 1
                self._start(serial, request)
        finally:
            self._all_read = True
            self._wake.set()

    def _start(self, serial: int, request: Request) -> None:
        answered = False

        def reply(message: Reply) -> None:
            nonlocal answered
            answered = True
            self._drops.pop(serial, None)
            self._ready.append(message)
            self._wake.set()

        drop = self._begin(request, reply)
        if not answered:
            self._drops[serial] = drop

    async def _write(self) -> None:
        while True:
            while self._ready:
                await self._context.write(self._ready.popleft())
                self._open -= 1
                self._room.set()
            if self._all_read and not self._open:
                return
            self._wake.clear()
            await self._wake.wait()
