"""What a caller finds where the server has more to do than it takes on."""

import dataclasses
import threading
from queue import SimpleQueue

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.engine.results import Plan
from fuserank.errors import OverloadedError, RequestError
from fuserank.server.api.replies import recommendations
from fuserank.server.batching.admission import AdmissionConfig
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.batching.questions import Answer
from fuserank.server.client.client import Client
from fuserank.server.pb import grpc_service_pb2, grpc_service_pb2_grpc
from fuserank.server.pb import recommender_pb2 as pb

Code = grpc.StatusCode
ON_A_THREAD = BatchingConfig(inline_ms=0.0)


class Gate:
    """Holds the engine before it computes, until it is opened."""

    def __init__(self, engine):
        self._begun, self._open = threading.Event(), threading.Event()
        engine.before = self._wait

    def _wait(self):
        self._begun.set()
        assert self._open.wait(20)

    def wait(self):
        assert self._begun.wait(20)

    def open(self):
        self._open.set()


def a_request(age):
    return pb.RecommendRequest(user=pb.User(fields={"age": pb.Value(number_value=age)}), k=1)


def first_done(calls, count):
    """Return those calls that are done first."""
    done = SimpleQueue()
    for call in calls:
        call.add_done_callback(done.put)
    return [done.get(timeout=20) for _ in range(count)]


def retry_s(error):
    """Return the seconds after which a failed call says to come again."""
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    retry = error_details_pb2.RetryInfo()
    (detail,) = status_pb2.Status.FromString(details).details
    assert detail.Unpack(retry)
    return retry.retry_delay.ToNanoseconds() / 1e9


def test_more_calls_than_are_let_in_are_turned_away_at_once(serve, connect, engine):
    gate = Gate(engine)
    stub = connect(serve(admission=AdmissionConfig(max_calls=1), batching=ON_A_THREAD))
    first = stub.Recommend.future(a_request(1))
    gate.wait()
    for method, request in (
        (stub.Recommend, a_request(2)),
        (stub.GetBundleInfo, pb.GetBundleInfoRequest()),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            method(request, metadata=[("x-request-id", "r-1")])
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED
        assert 0.0 < retry_s(caught.value) <= 5.0
        assert dict(caught.value.trailing_metadata())["x-request-id"] == "r-1"
    gate.open()
    first.result(20)
    stub.Recommend(a_request(3))
    assert [user["age"] for user in engine.users] == [1, 3]


def refused(method, request):
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=20)
    return caught.value.code()


def test_the_services_share_one_bound(serve, connect, engine):
    gate = Gate(engine)
    address = serve(admission=AdmissionConfig(max_calls=2), batching=ON_A_THREAD)
    stub = connect(address)
    with grpc.insecure_channel(address) as channel:
        models = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        more = threading.Event()

        def requests():
            yield grpc_service_pb2.ModelInferRequest(model_name="none")
            assert more.wait(20)

        # A stream of one service and a call of the other one are as many as may be.
        stream = models.ModelStreamInfer(requests())
        next(stream)
        call = stub.Recommend.future(a_request(1))
        gate.wait()
        index = grpc_service_pb2.RepositoryIndexRequest()
        assert refused(models.RepositoryIndex, index) is Code.RESOURCE_EXHAUSTED
        assert refused(stub.GetBundleInfo, pb.GetBundleInfoRequest()) is Code.RESOURCE_EXHAUSTED
        more.set()
        assert list(stream) == []
        assert models.RepositoryIndex(index, timeout=20).models
        gate.open()
        call.result(20)


def test_probes_are_answered_however_many_calls_there_are(serve, connect, engine):
    gate = Gate(engine)
    address = serve(admission=AdmissionConfig(max_calls=1), batching=ON_A_THREAD)
    call = connect(address).Recommend.future(a_request(1))
    gate.wait()
    with grpc.insecure_channel(address) as channel:
        models = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert models.ServerLive(grpc_service_pb2.ServerLiveRequest(), timeout=20).live
        assert models.ServerReady(grpc_service_pb2.ServerReadyRequest(), timeout=20).ready
        assert models.ServerMetadata(grpc_service_pb2.ServerMetadataRequest(), timeout=20).name
        index = grpc_service_pb2.RepositoryIndexRequest()
        assert refused(models.RepositoryIndex, index) is Code.RESOURCE_EXHAUSTED
        health = health_pb2_grpc.HealthStub(channel)
        status = health.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    gate.open()
    call.result(20)


def test_a_full_queue_turns_away_at_once(serve, connect, engine):
    gate = Gate(engine)
    stub = connect(serve(admission=AdmissionConfig(max_queue=2), batching=ON_A_THREAD))
    calls = [stub.Recommend.future(a_request(0))]
    gate.wait()
    calls += [stub.Recommend.future(a_request(age)) for age in range(1, 5)]
    # Two of them find room; the others come back while the engine is still held.
    refused = first_done(calls[1:], 2)
    for call in refused:
        assert call.code() is Code.RESOURCE_EXHAUSTED
        assert "2 requests wait" in call.details()
        assert retry_s(call) > 0.0
    gate.open()
    done = [call for call in calls if call not in refused]
    for call in done:
        call.result(20)
    assert len(engine.users) == len(done) == 3


def test_what_is_turned_away_is_not_even_read(serve, connect, engine):
    gate = Gate(engine)
    stub = connect(serve(admission=AdmissionConfig(max_queue=1), batching=ON_A_THREAD))
    calls = [stub.Recommend.future(a_request(0))]
    gate.wait()
    calls += [stub.Recommend.future(a_request(age)) for age in (1, 2)]
    (refused,) = first_done(calls[1:], 1)
    assert refused.code() is Code.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(pb.RecommendRequest(k=0))  # malformed, which nobody has looked at
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    gate.open()
    for call in calls:
        if call is not refused:
            call.result(20)


def test_a_client_raises_that_the_server_is_overloaded(serve, engine):
    gate = Gate(engine)
    address = serve(admission=AdmissionConfig(max_calls=1), batching=ON_A_THREAD)
    with Client(address, attempts=1) as client, Client(address, attempts=1) as other:
        thread = threading.Thread(target=lambda: client.recommend({}, 1))
        thread.start()
        gate.wait()
        with pytest.raises(OverloadedError) as caught:
            other.recommend({}, 1)
        assert caught.value.retry_after_s > 0.0
        gate.open()
        thread.join()


def test_the_field_at_fault_comes_with_the_status(serve, connect):
    address = serve()
    with pytest.raises(grpc.RpcError) as caught:
        connect(address).Recommend(pb.RecommendRequest(k=0))
    details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    bad = error_details_pb2.BadRequest()
    (detail,) = status_pb2.Status.FromString(details).details
    assert detail.Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == ["k"]
    with Client(address) as client, pytest.raises(RequestError) as raised:
        client.recommend({"flavour": "x"})
    assert raised.value.field == "flavour"


def test_a_version_that_is_not_loaded_is_not_found(serve, connect):
    stub = connect(serve())
    named = stub.Recommend(a_request(1), metadata=[("x-fuserank-bundle-version", "3")])
    assert named.served_by.bundle_version == "3"
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(a_request(1), metadata=[("x-fuserank-bundle-version", "4")])
    assert caught.value.code() is Code.NOT_FOUND


def test_of_a_batch_that_was_answered_in_parts_the_exact_ones_are_not_degraded(engine):
    exact = engine.recommend({}, 1)
    found = [exact, dataclasses.replace(exact, plan=Plan.QUANTIZED, degraded=True)]
    answer = Answer(recommendations=found, queue_ms=0.0, degraded_reason="deadline")
    first, second = recommendations(engine, pb.RecommendBatchRequest(), answer)
    assert (first.plan, first.degraded, first.degraded_reason) == ("exact", False, "")
    assert (second.plan, second.degraded, second.degraded_reason) == ("quantized", True, "deadline")


def test_a_degraded_answer_says_so(on_loop, servicer, engine):
    """Once every plan is expected to take too long, the last answer stands in."""

    class Context:
        def __init__(self, remaining_s):
            self.time_remaining = lambda: remaining_s

        def invocation_metadata(self):
            return ()

        def set_trailing_metadata(self, trailers):
            pass

    def ask(remaining_s):
        return on_loop(servicer.Recommend(a_request(1), Context(remaining_s)))

    fresh = ask(20.0).recommendation
    assert (fresh.plan, fresh.degraded, fresh.degraded_reason) == ("exact", False, "")
    estimates = servicer.bundle.served._batcher._estimates
    for plan in ("exact", "quantized"):
        estimates.observe(plan, False, 1, 1_000.0)
    cached = ask(10.0).recommendation
    assert (cached.plan, cached.degraded, cached.degraded_reason) == ("cached", True, "deadline")
    assert cached.item_ids == fresh.item_ids
    assert len(engine.users) == 1
