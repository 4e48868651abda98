"""Around every method: what is no message is INVALID_ARGUMENT, and no exception gets past it.

Left to itself gRPC answers both with UNKNOWN and the exception's text, and logs that text, which
may quote what the caller sent.
"""

import inspect
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

__all__ = ["Guard", "without_values"]

logger = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Behavior = Callable[[Any, Context], Any]
Deserializer = Callable[[bytes], Any]

_INTERNAL = "internal error; the server's log has the details"


class Guard(grpc.aio.ServerInterceptor):
    """The innermost interceptor. Methods that read their stream by `context.read` get bytes."""

    def __init__(self) -> None:
        # By method, the handler that was found last and what was made of it.
        self._guarded: dict[str, tuple[object, object]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Return a handler that does what the server's own does."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method: str = handler_call_details.method
        known, guarded = self._guarded.get(method, (None, None))
        if known is not handler:
            guarded = _guarded(handler, method)
            self._guarded[method] = handler, guarded
        return guarded


def without_values(error: BaseException) -> str:
    """Return the traceback of an error and of its causes, without what the errors say.

    Their texts may quote what a caller sent; the lines of code cannot.
    """
    parts: list[str] = []
    following: BaseException | None = error
    while following is not None and len(parts) < 10:
        frames = traceback.format_tb(following.__traceback__)
        parts.append(f"{type(following).__qualname__} at\n{''.join(frames)}".rstrip())
        following = following.__cause__ or following.__context__
    return "\ncaused by ".join(parts)


def _guarded(handler: Any, method: str) -> Any:
    kind = (
        f"{'stream' if handler.request_streaming else 'unary'}_"
        f"{'stream' if handler.response_streaming else 'unary'}"
    )
    behavior: Behavior = getattr(handler, kind)
    around = _around_generator if inspect.isasyncgenfunction(behavior) else _around_coroutine
    decode = _Decoded if handler.request_streaming else _decode
    return getattr(grpc, f"{kind}_rpc_method_handler")(
        around(behavior, decode, handler.request_deserializer, method),
        response_serializer=handler.response_serializer,
    )


def _around_coroutine(
    behavior: Behavior, decode: Callable[..., Any], read: Deserializer, method: str
) -> Behavior:
    async def guarded(raw: Any, context: Context) -> Any:
        try:
            return await behavior(decode(raw, read), context)
        except Exception as error:
            await _fail(error, context, method)

    return guarded


def _around_generator(
    behavior: Behavior, decode: Callable[..., Any], read: Deserializer, method: str
) -> Behavior:
    async def guarded(raw: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async with aclosing(behavior(decode(raw, read), context)) as replies:
                async for reply in replies:
                    yield reply
        except Exception as error:
            await _fail(error, context, method)

    return guarded


def _decode(raw: bytes, read: Deserializer) -> Any:
    return read(raw)


class _Decoded:
    """The messages of a stream, which come as bytes."""

    def __init__(self, raw: AsyncIterator[bytes], read: Deserializer) -> None:
        self._raw, self._read = raw, read

    def __aiter__(self) -> "_Decoded":
        return self

    async def __anext__(self) -> Any:
        return self._read(await anext(self._raw))


async def _fail(error: Exception, context: Context, method: str) -> None:
    """End a call with the status of what its handler raised."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, DecodeError):
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the request is no message of {method}: expected protobuf as its .proto file has it",
        )
    if isinstance(error, NotImplementedError):  # which generated servicers raise
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not served here")
    logger.error("%s failed: %s", method, without_values(error))
    await context.abort(grpc.StatusCode.INTERNAL, _INTERNAL)
