"""What surrounds every method of the three services."""

import asyncio
import contextlib
import logging
import threading

import grpc
import pytest
from google.protobuf.message import DecodeError

from fuserank.errors import RequestError
from fuserank.server.api.admin import AdminServicer
from fuserank.server.api.answering import answered
from fuserank.server.api.local_call import CallFailed, LocalCall
from fuserank.server.batching.admission import Admission, AdmissionConfig
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.client.admin_client import AdminClient
from fuserank.server.monitoring.logs import request_id
from fuserank.server.pb import admin_pb2
from fuserank.server.pb import recommender_pb2 as pb

Code = grpc.StatusCode


class Servicer:
    """One method, which does as it is told."""

    def __init__(self, work, max_calls=8):
        self.admission = Admission(AdmissionConfig(max_calls=max_calls))
        self._work = work

    @answered
    async def Ask(self, request, context):
        found = self._work()
        return await found if asyncio.iscoroutine(found) else found


def a_call(**headers):
    return LocalCall({name.replace("_", "-"): value for name, value in headers.items()}, 10.0)


def ask(on_loop, work, **headers):
    """Make a call; returns what came of it and the metadata that goes back."""

    async def make():
        call = a_call(**headers)
        try:
            outcome = await Servicer(work).Ask(None, call)
        except Exception as error:
            outcome = error
        return outcome, dict(call.trailing_metadata())

    return on_loop(make())


def fail_with(error):
    def fail(*_):
        raise error

    return fail


def test_the_callers_headers_come_back_and_are_bounded(on_loop):
    found, sent = ask(on_loop, lambda: 7, x_request_id="a" * 300, traceparent="00-b", other="c")
    assert found == 7
    assert sent == {"x-request-id": "a" * 256, "traceparent": "00-b"}


def test_log_lines_of_a_call_have_its_number(on_loop):
    found, sent = ask(on_loop, request_id.get)
    assert len(found) == 32
    assert sent == {"x-request-id": found}


def test_an_error_becomes_its_status_with_the_headers(on_loop):
    failed, _ = ask(on_loop, fail_with(RequestError("k: found 0", field="k")), x_request_id="a")
    assert (failed.code, failed.details) == (Code.INVALID_ARGUMENT, "k: found 0")
    assert dict(failed.metadata).keys() == {"x-request-id", "grpc-status-details-bin"}


def test_a_defect_is_logged_under_its_number_and_not_told(on_loop, caplog):
    with caplog.at_level(logging.ERROR):
        failed, _ = ask(on_loop, fail_with(ValueError("secret")), x_request_id="a1")
    assert failed.code is Code.INTERNAL
    assert "secret" not in failed.details
    (record,) = caplog.records
    assert record.getMessage().startswith("Ask failed, request id a1: ValueError at")


@pytest.mark.parametrize(
    "error", [DecodeError("no message"), CallFailed(Code.ABORTED, "as told"), grpc.aio.AbortError()]
)
def test_what_has_a_status_or_is_no_message_goes_on(on_loop, caplog, error):
    assert ask(on_loop, fail_with(error))[0] is error

    class Unreadable:
        loaded = staticmethod(fail_with(error))

    async def make():
        admin = AdminServicer(Unreadable(), None, len)
        await admin.ListBundles(admin_pb2.ListBundlesRequest(), a_call())

    with pytest.raises(type(error)) as caught:
        on_loop(make())
    assert caught.value is error
    assert not caplog.records


def test_calls_are_admitted_until_they_end_however_they_do(on_loop):
    async def make():
        gate = asyncio.Event()
        works = [gate.wait, fail_with(ValueError()), gate.wait]

        def work_once():
            return works.pop()()

        servicer = Servicer(work_once, max_calls=1)
        first = asyncio.create_task(servicer.Ask(None, a_call()))
        while len(works) == 3:
            await asyncio.sleep(0)
        with pytest.raises(CallFailed) as turned_away:
            await servicer.Ask(None, a_call())
        assert len(works) == 2
        gate.set()
        assert await first
        with contextlib.suppress(CallFailed):
            await servicer.Ask(None, a_call())
        assert await servicer.Ask(None, a_call())
        return turned_away.value

    assert on_loop(make()).code is Code.RESOURCE_EXHAUSTED


def test_operators_are_let_in_however_many_callers_there_are(serve, connect, engine):
    begun, go_on = threading.Event(), threading.Event()
    engine.before = lambda: begun.set() or go_on.wait(20)
    address = serve(admission=AdmissionConfig(max_calls=1), batching=BatchingConfig(inline_ms=0.0))
    stub = connect(address)
    held = stub.Recommend.future(pb.RecommendRequest(k=1))
    assert begun.wait(20)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetBundleInfo(pb.GetBundleInfoRequest())
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    with AdminClient(address) as operator:
        assert [one.role for one in operator.list()] == ["active"]
    go_on.set()
    held.result(20)
