import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from fuserank import errors
from fuserank.server.messages.status import error_of, status_of, trailers_of

Code = grpc.StatusCode

# What each error means to a caller, and what a client raises of it.
EXPECTED = {
    "FuserankError": (Code.INTERNAL, errors.ServerError),
    "ConfigError": (Code.INTERNAL, errors.ServerError),
    "DataError": (Code.INTERNAL, errors.ServerError),
    "FetchError": (Code.INTERNAL, errors.ServerError),
    "SchemaError": (Code.INVALID_ARGUMENT, errors.RequestError),
    "RequestError": (Code.INVALID_ARGUMENT, errors.RequestError),
    "UnknownItemError": (Code.NOT_FOUND, errors.UnknownItemError),
    "UnknownVersionError": (Code.NOT_FOUND, errors.UnknownItemError),
    "BundleError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "BundleFormatError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "BundleIntegrityError": (Code.DATA_LOSS, errors.BundleIntegrityError),
    "BundleStateError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "SpaceMismatchError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "JournalError": (Code.DATA_LOSS, errors.BundleIntegrityError),
    "JournalWriteError": (Code.UNAVAILABLE, errors.UnavailableError),
    "ProviderError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "ExportError": (Code.INTERNAL, errors.ServerError),
    "FactorisationError": (Code.INTERNAL, errors.ServerError),
    "GateError": (Code.INTERNAL, errors.ServerError),
    "ParityError": (Code.INTERNAL, errors.ServerError),
    "ServerError": (Code.INTERNAL, errors.ServerError),
    "OverloadedError": (Code.RESOURCE_EXHAUSTED, errors.OverloadedError),
    "UnavailableError": (Code.UNAVAILABLE, errors.UnavailableError),
}


class Failure(grpc.RpcError):
    """What a gRPC client raises."""

    def __init__(self, code, details, trailers=()):
        self._code, self._details, self._trailers = code, details, trailers

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailers


def test_every_error_of_the_tree_is_expected_here():
    assert set(EXPECTED) == set(errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_has_a_code_and_comes_back(name):
    code, comes_back = EXPECTED[name]
    found, message = status_of(getattr(errors, name)("what was found"))
    assert found is code
    assert type(error_of(Failure(found, message), "host:1")) is comes_back


@pytest.mark.parametrize("error", [errors.DataError("/secret/path"), ValueError("secret")])
def test_what_is_internal_says_nothing_of_the_inside(error):
    code, message = status_of(error)
    assert code is Code.INTERNAL
    assert "secret" not in message


def test_a_passed_deadline_has_its_code():
    assert status_of(TimeoutError("too late")) == (Code.DEADLINE_EXCEEDED, "too late")


def test_long_messages_are_cut():
    message = status_of(errors.RequestError("x" * 10_000))[1]
    assert (len(message), message[-1]) == (500, "…")


def test_a_fault_of_the_request_keeps_its_words():
    error = error_of(Failure(Code.INVALID_ARGUMENT, "k: found 0"), "host:1")
    assert str(error) == "k: found 0"


@pytest.mark.parametrize("code", [Code.DEADLINE_EXCEEDED, Code.OUT_OF_RANGE, Code.UNKNOWN])
def test_other_faults_name_the_server_and_the_code(code):
    error = error_of(Failure(code, None), "host:1")
    assert type(error) is errors.ServerError
    assert str(error) == f"host:1: {code.name}: "


def sent(error):
    """Return an error as a client finds it."""
    code, message = status_of(error)
    return error_of(Failure(code, message, trailers_of(error, code, message)), "host:1")


def test_the_field_at_fault_reaches_the_client():
    found = sent(errors.RequestError("k: found 0, expected 1 or more", field="k"))
    assert (type(found), found.field) == (errors.RequestError, "k")
    assert sent(errors.RequestError("no field of one name")).field == ""


def test_the_time_to_come_again_reaches_the_client():
    found = sent(errors.OverloadedError("full", retry_after_s=0.25))
    assert (type(found), found.retry_after_s) == (errors.OverloadedError, 0.25)


def test_details_are_those_that_grpc_clients_know():
    error = errors.OverloadedError("full", retry_after_s=1.5)
    trailers = dict(trailers_of(error, Code.RESOURCE_EXHAUSTED, "full"))
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (Code.RESOURCE_EXHAUSTED.value[0], "full")
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1_500
    assert trailers["grpc-retry-pushback-ms"] == "1500"


@pytest.mark.parametrize("letter", ["x", "é", "語", "🎬"])
def test_a_status_fits_into_the_headers_whatever_its_letters(letter):
    error = errors.RequestError(letter * 10_000, field=letter * 10_000)
    code, message = status_of(error)
    details = b"".join(value for _, value in trailers_of(error, code, message))
    percent_encoded = sum(3 if byte > 126 else 1 for byte in message.encode())
    assert percent_encoded + 4 * len(details) / 3 < 7_000


def test_details_that_cannot_be_read_are_passed_over():
    trailers = [("grpc-status-details-bin", b"\xff\xff")]
    failure = Failure(Code.RESOURCE_EXHAUSTED, "full", trailers)
    assert error_of(failure, "host:1").retry_after_s == 0.0
