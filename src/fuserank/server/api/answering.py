"""Around every method: admission, errors as statuses, and what goes back with them."""

import functools
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from fuserank.server.messages.status import status_of, trailers_of
from fuserank.server.monitoring.logs import request_id
from fuserank.server.security.guard import without_values

__all__ = [
    "Context",
    "always_answered",
    "answered",
    "deadline_of",
    "fail",
    "log_internal",
    "tracing",
]

logger = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Trailers = tuple[tuple[str, str], ...]

# What a caller sends comes back with the status, and both must fit into one block of headers.
_MAX_HEADER_CHARS = 256
_ID_BYTES = 16


class _Admitting(Protocol):
    @property
    def admission(self) -> AbstractContextManager[None]: ...


S = TypeVar("S", bound=_Admitting)
T = TypeVar("T")
Handler = Callable[[S, Any, Context], Awaitable[T]]


def answered(handler: Handler[S, T]) -> Handler[S, T]:
    """Admit a call, turn what it raises into a status, and return the caller's tracing headers.

    Args:
        handler: a method of a servicer, whose `admission` it then runs with.
    """

    @functools.wraps(handler)
    async def admitted(self: S, request: Any, context: Context) -> T:
        with self.admission:
            return await handler(self, request, context)

    return always_answered(admitted)


def always_answered(
    handler: Callable[[Any, Any, Context], Awaitable[T]],
) -> Callable[[Any, Any, Context], Awaitable[T]]:
    """Do what `answered` does, however many calls are under way: for probes and operators.

    Args:
        handler: a method of a servicer.
    """

    @functools.wraps(handler)
    async def answer(self: Any, request: Any, context: Context) -> T:
        trailers = tracing(context)
        try:
            return await handler(self, request, context)
        except Exception as error:
            await fail(error, context, trailers, handler.__name__)
            raise  # what has a status already, or is no message

    return answer


def tracing(context: Context) -> Trailers:
    """Send the caller's request id and trace back, log under that id, and return both."""
    headers = dict(context.invocation_metadata() or ())
    headers.setdefault("x-request-id", os.urandom(_ID_BYTES).hex())
    trailers = tuple(
        (name, headers[name][:_MAX_HEADER_CHARS])
        for name in ("x-request-id", "traceparent")
        if name in headers
    )
    context.set_trailing_metadata(trailers)
    request_id.set(trailers[0][1])
    return trailers


async def fail(error: Exception, context: Context, trailers: Trailers, method: str) -> None:
    """End a call with the status of an error; returns where that is left to gRPC."""
    if isinstance(error, (DecodeError, grpc.aio.AbortError)):
        return
    code, message = status_of(error)
    if code is grpc.StatusCode.INTERNAL:
        log_internal(error, method, trailers[0][1])
    await context.abort(code, message, (*trailers, *trailers_of(error, code, message)))


def log_internal(error: Exception, method: str, number: str) -> None:
    """Log what a caller is not told, who has the number of the request."""
    logger.error("%s failed, request id %s: %s", method, number, without_values(error))


def deadline_of(context: Context) -> float:
    """Return the deadline of a call in monotonic seconds; infinite without one."""
    remaining_s = context.time_remaining()
    return math.inf if remaining_s is None else time.monotonic() + remaining_s
