"""Counts and times every call of a gRPC server.

The names of the series are those of go-grpc-prometheus, and so are the names of the statuses
("OK", "InvalidArgument"), so that dashboards made for those fit.
"""

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from prometheus_client import Counter

from fuserank.server.monitoring.handlers import Behavior, Context, Wrapped
from fuserank.server.monitoring.metrics import OTHER, Metrics
from fuserank.server.monitoring.statuses import status_after

__all__ = ["CallMetrics"]

_NAMES = {code: code.name.title().replace("_", "") for code in grpc.StatusCode}
_NAMES[grpc.StatusCode.OK] = "OK"
_NAMES[grpc.StatusCode.CANCELLED] = "Canceled"  # as Go spells it


class CallMetrics(grpc.aio.ServerInterceptor):
    """Reports to `Metrics`. A method that the server does not have is "other".

    The outermost interceptor, so that it sees what the others refuse.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._wrapped = Wrapped(self._measure)

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Return a handler that does what the server's own does, and is measured."""
        handler = await continuation(handler_call_details)
        if handler is None:
            self._metrics.started.labels(OTHER, OTHER).inc()
            self._metrics.handled.labels(OTHER, OTHER, "Unimplemented").inc()
            return None
        return self._wrapped.around(handler, handler_call_details.method)

    def _measure(self, method: str, behavior: Behavior, generates: bool) -> Behavior:
        service, _, name = method.lstrip("/").partition("/")
        series = _Series(self._metrics, service, name)
        return series.around_generator(behavior) if generates else series.around(behavior)


class _Series:
    """The series of one method, looked up once."""

    def __init__(self, metrics: Metrics, service: str, method: str) -> None:
        self._started = metrics.started.labels(service, method)
        self._seconds = metrics.handling_seconds.labels(service, method)
        # By status, once it has occurred: all of them for every method would make reading
        # /metrics several times slower.
        self._handled: dict[grpc.StatusCode, Counter] = {}
        self._ok = metrics.handled.labels(service, method, "OK")
        self._of_status = functools.partial(metrics.handled.labels, service, method)

    def around(self, behavior: Behavior) -> Behavior:
        async def measured(request: Any, context: Context) -> Any:
            self._started.inc()
            began = time.perf_counter()
            try:
                reply = await behavior(request, context)
            except BaseException as error:
                self._ended(error, context, began)
                raise
            self._ended(None, context, began)
            return reply

        return measured

    def around_generator(self, behavior: Behavior) -> Behavior:
        async def measured(request: Any, context: Context) -> AsyncIterator[Any]:
            self._started.inc()
            began = time.perf_counter()
            try:
                async with aclosing(behavior(request, context)) as replies:
                    async for reply in replies:
                        yield reply
            except BaseException as error:
                self._ended(error, context, began)
                raise
            self._ended(None, context, began)

        return measured

    def _ended(self, error: BaseException | None, context: Context, began: float) -> None:
        self._seconds.observe(time.perf_counter() - began)
        if error is None and not context.code():  # nearly always; members are slow to look up
            self._ok.inc()
            return
        code = status_after(error, context)
        handled = self._handled.get(code)
        if handled is None:
            handled = self._handled[code] = self._of_status(_NAMES[code])
        handled.inc()
