import asyncio

import grpc
import pytest

from fuserank.server.api.local_call import CallFailed, LocalCall
from fuserank.server.monitoring.logs import request_id


def make(method, timeout_s=10.0, **headers):
    return asyncio.run(LocalCall.make(method, b"x", headers, timeout_s))


def test_a_method_gets_the_request_and_what_the_caller_sent_along():
    async def method(request, context):
        context.set_trailing_metadata((("name", "value"),))
        assert 0 < context.time_remaining() <= 10
        return request, dict(context.invocation_metadata())

    assert make(method, header="h") == ((b"x", {"header": "h"}), (("name", "value"),))


def test_aborting_ends_the_call():
    async def method(request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "gone", (("retry", "no"),))
        pytest.fail("it goes on")

    with pytest.raises(CallFailed) as caught:
        make(method)
    error = caught.value
    assert (error.code, error.details) == (grpc.StatusCode.NOT_FOUND, "gone")
    assert error.metadata == (("retry", "no"),)


def test_aborting_is_what_it_is_in_grpc():
    async def method(request, context):
        try:
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        except grpc.aio.AbortError:
            raise
        except Exception:
            pytest.fail("it is taken for a mistake")

    with pytest.raises(CallFailed):
        make(method)


def test_a_status_that_is_set_counts_as_an_error():
    async def method(request, context):
        context.set_code(grpc.StatusCode.OUT_OF_RANGE)
        context.set_details("too far")

    with pytest.raises(CallFailed, match="too far"):
        make(method)


def test_a_method_that_takes_too_long_is_cancelled():
    ended = []

    async def method(request, context):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(context.time_remaining())

    with pytest.raises(CallFailed) as caught:
        make(method, timeout_s=0.05)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended == [0.0]


def test_what_a_method_raises_passes():
    async def method(request, context):
        raise KeyError

    with pytest.raises(KeyError):
        make(method)


def test_the_log_names_a_request_while_its_call_lasts():
    found = []

    async def method(request, context):
        found.append(request_id.get())
        request_id.set("changed")

    async def calls():
        await LocalCall.make(method, b"", {"x-request-id": "r-1"}, 10.0)
        found.append(request_id.get())
        await LocalCall.make(method, b"", {}, 10.0)

    asyncio.run(calls())
    assert found == ["r-1", "", ""]
