import grpc
import pytest

from fuserank import errors
from fuserank.server.status import error_of, status_of

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
    "BundleError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "BundleFormatError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "BundleIntegrityError": (Code.DATA_LOSS, errors.BundleIntegrityError),
    "SpaceMismatchError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "ProviderError": (Code.FAILED_PRECONDITION, errors.BundleError),
    "ExportError": (Code.INTERNAL, errors.ServerError),
    "FactorisationError": (Code.INTERNAL, errors.ServerError),
    "GateError": (Code.INTERNAL, errors.ServerError),
    "ParityError": (Code.INTERNAL, errors.ServerError),
    "ServerError": (Code.INTERNAL, errors.ServerError),
    "UnavailableError": (Code.UNAVAILABLE, errors.UnavailableError),
}


class Failure(grpc.RpcError):
    """What a gRPC client raises."""

    def __init__(self, code, details):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


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


@pytest.mark.parametrize("code", [Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.UNKNOWN])
def test_other_faults_name_the_server_and_the_code(code):
    error = error_of(Failure(code, None), "host:1")
    assert type(error) is errors.ServerError
    assert str(error) == f"host:1: {code.name}: "
