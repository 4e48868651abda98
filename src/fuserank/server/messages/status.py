"""The one table between errors and gRPC status codes, read in both directions.

Beside code and message a status has details, as `google.rpc` defines them: the field at fault
(BadRequest), and when to come again (RetryInfo). They travel as ``grpc-status-details-bin``.
"""

from collections.abc import Iterable

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from fuserank.errors import (
    BundleError,
    BundleIntegrityError,
    ConfigError,
    DataError,
    ExportError,
    FuserankError,
    JournalError,
    JournalWriteError,
    OverloadedError,
    ProviderError,
    RequestError,
    SchemaError,
    ServerError,
    UnavailableError,
    UnknownItemError,
    UnknownVersionError,
)

__all__ = ["Trailers", "error_from", "error_of", "status_of", "trailers_of"]

Trailers = tuple[tuple[str, str | bytes], ...]

# An error has the code of its nearest class. Of several classes with one code, a client raises
# the first.
_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    # Once a bundle is loaded, what contradicts its schema is the value that a request gives.
    (SchemaError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownItemError, grpc.StatusCode.NOT_FOUND),
    (UnknownVersionError, grpc.StatusCode.NOT_FOUND),
    (BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    (ProviderError, grpc.StatusCode.FAILED_PRECONDITION),
    (BundleIntegrityError, grpc.StatusCode.DATA_LOSS),
    (JournalError, grpc.StatusCode.DATA_LOSS),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (JournalWriteError, grpc.StatusCode.UNAVAILABLE),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ServerError, grpc.StatusCode.INTERNAL),
    (ConfigError, grpc.StatusCode.INTERNAL),
    (DataError, grpc.StatusCode.INTERNAL),
    (ExportError, grpc.StatusCode.INTERNAL),
    (FuserankError, grpc.StatusCode.INTERNAL),
    (Exception, grpc.StatusCode.INTERNAL),
    (TimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
)
_CODE_OF = dict(_CODES)
_CLASS_OF: dict[grpc.StatusCode, type[FuserankError]] = {
    code: kind for kind, code in reversed(_CODES) if issubclass(kind, FuserankError)
}

# A status travels in HTTP/2 headers, of which a client takes 8 KiB, and each byte that is not
# ASCII becomes three there: 500 characters fit whatever they are.
_MAX_MESSAGE_CHARS = 500
# Details repeat the message, in base64, which leaves less room: longer messages go without.
_MAX_HEADER_BYTES = 6_000
_MAX_DESCRIPTION_CHARS = 200

_DETAILS = "grpc-status-details-bin"
# Clients that retry by a policy of gRPC wait for as long.
_PUSHBACK = "grpc-retry-pushback-ms"


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the status code of an error and the message that a caller may see.

    What is INTERNAL is described by the log of the server alone: its message may hold anything.
    """
    code = next(_CODE_OF[kind] for kind in type(error).__mro__ if kind in _CODE_OF)
    if code is grpc.StatusCode.INTERNAL:
        return code, "internal error; the server's log has the details"
    message = str(error)
    if len(message) > _MAX_MESSAGE_CHARS:
        message = message[: _MAX_MESSAGE_CHARS - 1] + "…"
    return code, message


def trailers_of(error: Exception, code: grpc.StatusCode, message: str) -> Trailers:
    """Return the trailing metadata with the details of an error; none where it has none.

    Args:
        error: what a call failed with.
        code: its status, as `status_of` returned it.
        message: its message, likewise.
    """
    status = status_pb2.Status(code=code.value[0], message=message)
    if isinstance(error, OverloadedError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.add().Pack(retry)
        pushback = (_PUSHBACK, str(round(error.retry_after_s * 1e3)))
        return (_DETAILS, status.SerializeToString()), pushback
    if not isinstance(error, RequestError) or not error.field:
        return ()
    violation = error_details_pb2.BadRequest.FieldViolation(
        field=error.field[:_MAX_DESCRIPTION_CHARS], description=message[:_MAX_DESCRIPTION_CHARS]
    )
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    serialized = status.SerializeToString()
    if 3 * len(message.encode()) + 4 * len(serialized) // 3 > _MAX_HEADER_BYTES:
        return ()
    return ((_DETAILS, serialized),)


def error_of(error: grpc.RpcError, address: str) -> FuserankError:
    """Return the error that a call to the server at `address` failed with.

    Where the request is at fault the message is the server's own; else it names the server.
    """
    trailers = error.trailing_metadata() or ()
    return error_from(error.code(), error.details() or "", address, trailers)


def error_from(
    code: grpc.StatusCode,
    message: str,
    address: str,
    trailers: Iterable[tuple[str, str | bytes]] = (),
) -> FuserankError:
    """Return the error that stands for a status.

    Args:
        code: of the status.
        message: of the status.
        address: of the server that sent it.
        trailers: trailing metadata that came with it.
    """
    kind: type[FuserankError] = _CLASS_OF.get(code, ServerError)
    if issubclass(kind, RequestError):
        bad = error_details_pb2.BadRequest()
        _read_detail(trailers, bad)
        fields = [violation.field for violation in bad.field_violations]
        return kind(message, field=fields[0] if fields else "")
    message = f"{address}: {code.name}: {message}"
    if kind is OverloadedError:
        retry = error_details_pb2.RetryInfo()
        _read_detail(trailers, retry)
        return OverloadedError(message, retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9)
    return kind(message)


def _read_detail(
    trailers: Iterable[tuple[str, str | bytes]],
    into: error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> None:
    """Fill a message from the details of its kind, where there are any that can be read."""
    serialized = next((value for name, value in trailers if name == _DETAILS), b"")
    try:
        status = status_pb2.Status.FromString(serialized)
    except (DecodeError, TypeError):  # a server of another kind may put anything there
        return
    for detail in status.details:
        if detail.Is(into.DESCRIPTOR):
            detail.Unpack(into)
            return
