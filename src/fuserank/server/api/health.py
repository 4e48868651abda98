"""The standard health service, `grpc.health.v1`.

The package's own servicer forgets the other watchers of a service once one of them leaves, and
its watches outlive a shutdown until they are cut off; hence this one.
"""
# ruff: noqa: N802 - methods have the names of their RPCs.

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

__all__ = ["Health"]

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Whether the server is ready; one answer for "" and for every service name.

    Not serving until told otherwise.
    """

    def __init__(self, services: Iterable[str]) -> None:
        """Answer for the services of these full names."""
        self._services = frozenset({"", *services})
        self._status = _Status.NOT_SERVING
        self._closed = False
        self._changed = asyncio.Event()

    def set_serving(self) -> None:
        """Tell everyone that requests are answered."""
        self._change(_Status.SERVING)

    def close(self) -> None:
        """Tell everyone that no more requests are answered, and end the watches."""
        self._closed = True
        self._change(_Status.NOT_SERVING)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Return the status now."""
        if request.service not in self._services:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"service: found {request.service[:100]!r}, expected one of "
                f"{sorted(self._services)}",
            )
        return _Status(status=self._status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yield the status now and whenever it changes, until the server stops."""
        last = None
        while True:
            changed = self._changed
            known = request.service in self._services
            status = self._status if known else _Status.SERVICE_UNKNOWN
            if status != last:
                yield _Status(status=status)
                last = status
            if self._closed:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
            await changed.wait()

    def _change(self, status: int) -> None:
        self._status = status
        # Whoever waits holds the old event, so that nobody misses a change while it writes.
        self._changed.set()
        self._changed = asyncio.Event()
