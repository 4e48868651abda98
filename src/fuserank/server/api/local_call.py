"""A call of a servicer from within its own process, without a channel."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import grpc

from fuserank.server.monitoring.logs import request_id

__all__ = ["CallFailed", "LocalCall"]

Metadata = tuple[tuple[str, str], ...]


class CallFailed(grpc.aio.AbortError):
    """The servicer ended the call with an error.

    Attributes:
        code: the status.
        details: the message for the caller.
        metadata: trailing metadata that came with the error itself.
    """

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Metadata = ()) -> None:
        super().__init__(details)
        self.code, self.details, self.metadata = code, details, metadata


class LocalCall:
    """What a servicer may ask of the context of a unary call, as `grpc.aio.ServicerContext` has it.

    Aborting raises `CallFailed`.
    """

    def __init__(self, headers: Mapping[str, str], timeout_s: float) -> None:
        """Make the context of one call.

        Args:
            headers: metadata; names in lower case.
            timeout_s: seconds until nobody waits for the answer any more.
        """
        self._headers: Metadata = tuple(headers.items())
        self._trailers: Metadata = ()
        self._expires = time.monotonic() + timeout_s
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._task = asyncio.current_task()

    def invocation_metadata(self) -> Metadata:
        """Return what the caller sent along."""
        return self._headers

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Set what goes back with the status."""
        self._trailers = tuple(metadata)

    def trailing_metadata(self) -> Metadata:
        """Return what goes back with the status."""
        return self._trailers

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Drop it: nobody reads it here."""

    def time_remaining(self) -> float:
        """Return the seconds that are left."""
        return max(self._expires - time.monotonic(), 0.0)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status with which the call ends."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Set the message that goes with the status."""
        self._details = details

    def code(self) -> grpc.StatusCode | None:
        """Return the status, where one was set."""
        return self._code

    def details(self) -> str:
        """Return the message, where one was set."""
        return self._details

    def peer(self) -> str:
        """Return who calls."""
        return "local:"

    def peer_identities(self) -> None:
        """Return None: there is no certificate."""

    def auth_context(self) -> Mapping[str, Any]:
        """Return nothing: there is no certificate."""
        return {}

    def cancelled(self) -> bool:
        """Return whether nobody waits any more."""
        return self._task is not None and self._task.cancelling() > 0

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self._task is None or self._task.done()

    def add_done_callback(self, callback: Callable[["LocalCall"], None]) -> None:
        """Call back once the task that makes this call has ended."""
        if self._task is not None:
            self._task.add_done_callback(lambda _: callback(self))

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with an error."""
        self._code, self._details = code, details
        raise CallFailed(code, details, tuple(trailing_metadata))

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with an error that has details of its own."""
        await self.abort(status.code, status.details, tuple(status.trailing_metadata or ()))

    @classmethod
    async def make(
        cls,
        method: Callable[[Any, Any], Any],
        request: object,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[Any, Metadata]:
        """Call a servicer's unary method, and return its reply and the trailing metadata.

        Raises:
            CallFailed: the servicer ended the call with an error, or took too long.
        """
        call = cls(headers, timeout_s)
        # A task may make one call after another.
        before = request_id.set(headers.get("x-request-id", ""))
        try:
            async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
                reply = await method(request, call)
        except TimeoutError as error:
            raise CallFailed(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout_s:g} s"
            ) from error
        finally:
            request_id.reset(before)
        if call._code not in (None, grpc.StatusCode.OK):
            raise CallFailed(call._code, call._details, call._trailers)
        return reply, call._trailers
