"""The status with which a handler of a gRPC call ended."""

import asyncio
from typing import Any

import grpc

from fuserank.server.monitoring.handlers import Context

__all__ = ["status_after"]

_EARLY_S = 0.02
"""The client's clock began to run before ours: what it ends then, it ends for the deadline."""

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def status_after(error: BaseException | None, context: Context) -> grpc.StatusCode:
    """Return the status of a call whose handler returned, or raised `error`."""
    code = _member(context.code())
    if code is not grpc.StatusCode.OK:  # it aborted, or set a status and returned
        return code
    if error is None:
        return code
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        # gRPC cancels the handler of a call that the client gave up and of one that expired.
        remaining_s = context.time_remaining()
        expired = remaining_s is not None and remaining_s <= _EARLY_S
        return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
    return grpc.StatusCode.UNKNOWN


def _member(code: Any) -> grpc.StatusCode:
    """Return a status that gRPC gives as a number, as a member, or as nothing."""
    return _BY_NUMBER[code or 0] if code is None or isinstance(code, int) else code
