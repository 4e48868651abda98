"""The one table between errors and gRPC status codes, read in both directions."""

import grpc

from fuserank.errors import (
    BundleError,
    BundleIntegrityError,
    ConfigError,
    DataError,
    ExportError,
    FuserankError,
    ProviderError,
    RequestError,
    SchemaError,
    ServerError,
    UnavailableError,
    UnknownItemError,
)

__all__ = ["error_of", "status_of"]

# An error has the code of its nearest class. Of several classes with one code, a client raises
# the first.
_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    # Once a bundle is loaded, what contradicts its schema is the value that a request gives.
    (SchemaError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownItemError, grpc.StatusCode.NOT_FOUND),
    (BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    (ProviderError, grpc.StatusCode.FAILED_PRECONDITION),
    (BundleIntegrityError, grpc.StatusCode.DATA_LOSS),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
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


def error_of(error: grpc.RpcError, address: str) -> FuserankError:
    """Return the error that a call to the server at `address` failed with.

    Where the request is at fault the message is the server's own; else it names the server.
    """
    code, details = error.code(), error.details() or ""
    kind: type[FuserankError] = _CLASS_OF.get(code, ServerError)
    if issubclass(kind, RequestError):
        return kind(details)
    return kind(f"{address}: {code.name}: {details}")
