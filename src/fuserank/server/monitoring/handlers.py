"""The function behind a gRPC method, whichever of the four kinds it is."""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

__all__ = ["Behavior", "Context", "Wrapped"]

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Behavior = Callable[[Any, Context], Any]


class Wrapped:
    """Handlers with something around them, made once a method.

    Bounded: a handler is one of those that the server has, whatever callers send.
    """

    def __init__(self, wrap: Callable[[str, Behavior, bool], Behavior]) -> None:
        """Take what makes a behavior of another one.

        Args:
            wrap: is given the method's full name, its behavior, and whether that is a generator
                of replies (else a coroutine); returns one of the same kind.
        """
        self._wrap = wrap
        # By method, the handler that was found last and what was made of it.
        self._made: dict[str, tuple[object, object]] = {}

    def around(self, handler: Any, method: str) -> Any:
        """Return a handler that does the same, wrapped."""
        known, made = self._made.get(method, (None, None))
        if known is not handler:
            made = self._make(handler, method)
            self._made[method] = handler, made
        return made

    def _make(self, handler: Any, method: str) -> Any:
        kind = (
            f"{'stream' if handler.request_streaming else 'unary'}_"
            f"{'stream' if handler.response_streaming else 'unary'}"
        )
        behavior: Behavior = getattr(handler, kind)
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            self._wrap(method, behavior, inspect.isasyncgenfunction(behavior)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
