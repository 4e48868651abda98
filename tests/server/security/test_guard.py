import threading

import grpc
import pytest

from fuserank.server.monitoring.call_metrics import CallMetrics
from fuserank.server.monitoring.metrics import Metrics
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.pb import recommender_pb2_grpc
from fuserank.server.security.guard import Guard, without_values

Code = grpc.StatusCode
METHODS = {
    "Recommend": ("unary_unary", pb.RecommendRequest(k=3)),
    "UpsertItems": ("stream_unary", pb.UpsertItemsRequest(items=[pb.Item(item_id="a")])),
    "RecommendStream": ("stream_stream", pb.RecommendStreamRequest(id=3)),
    "Watch": ("unary_stream", pb.GetBundleInfoRequest()),
}


class Recommender(recommender_pb2_grpc.RecommenderServiceServicer):
    """One method of each kind; fails as it is told to."""

    def __init__(self):
        self.error, self.abort_with, self.seen = None, None, []

    async def Recommend(self, request, context):
        await self._begin(request, context)
        return pb.RecommendResponse()

    async def UpsertItems(self, requests, context):
        async for request in requests:
            await self._begin(request, context)
        return pb.UpsertItemsResponse()

    async def RecommendStream(self, requests, context):
        async for request in requests:
            await self._begin(request, context)
            await context.write(pb.RecommendStreamResponse(id=request.id))

    async def watch(self, request, context):
        await self._begin(request, context)
        yield pb.RecommendStreamResponse(id=3)

    async def _begin(self, request, context):
        self.seen.append(request)
        if self.abort_with:
            await context.abort(self.abort_with, "as told")
        if self.error:
            raise self.error


@pytest.fixture
def recommender():
    return Recommender()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def call(start_grpc, recommender, metrics):
    """Return a function that makes a call of a method with bytes as they are."""
    watch = grpc.unary_stream_rpc_method_handler(
        recommender.watch,
        pb.GetBundleInfoRequest.FromString,
        pb.RecommendStreamResponse.SerializeToString,
    )

    def add(server):
        recommender_pb2_grpc.add_RecommenderServiceServicer_to_server(recommender, server)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("more", {"Watch": watch}),)
        )

    address = start_grpc(add, interceptors=[CallMetrics(metrics), Guard()])
    with grpc.insecure_channel(address) as channel:

        def make(method, *messages):
            kind, _ = METHODS[method]
            service = "more" if method == "Watch" else "fuserank.v1.RecommenderService"
            made = getattr(channel, kind)(f"/{service}/{method}")
            try:
                reply = made(
                    iter(messages) if kind.startswith("stream") else messages[0], timeout=10
                )
                list(reply if kind.endswith("stream") else ())
            except grpc.RpcError as error:
                return error.code(), error.details()
            return Code.OK, ""

        yield make


@pytest.mark.parametrize("method", METHODS)
def test_messages_come_through_and_noise_does_not(call, recommender, metrics, method):
    _, message = METHODS[method]
    good = message.SerializeToString()
    assert call(method, good) == (Code.OK, "")
    assert recommender.seen == [message]
    code, said = call(method, b"\xff")
    assert code is Code.INVALID_ARGUMENT
    assert method in said
    assert len(recommender.seen) == 1
    counted_as = f'grpc_code="InvalidArgument",grpc_method="{method}"'
    # A caller of a stream has its status before the call is counted.
    for _ in range(1_000):
        if counted_as in metrics.render().decode():
            break
        threading.Event().wait(0.01)
    else:
        raise AssertionError(f"no {counted_as} in {metrics.render().decode()}")


def test_noise_after_messages_of_a_stream_ends_it(call, recommender):
    for method in ("UpsertItems", "RecommendStream"):
        good = METHODS[method][1].SerializeToString()
        assert call(method, good, b"\xff", good)[0] is Code.INVALID_ARGUMENT
    assert len(recommender.seen) == 2


@pytest.mark.parametrize("method", METHODS)
def test_what_a_handler_raises_is_internal_and_says_nothing(call, recommender, caplog, method):
    recommender.error = ValueError("secret")
    code, said = call(method, METHODS[method][1].SerializeToString())
    assert (code, said) == (Code.INTERNAL, "internal error; the server's log has the details")
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "failed: ValueError at" in record.getMessage()
    assert "in _begin" in record.getMessage()
    assert "secret" not in caplog.text.replace('ValueError("secret")', "")


@pytest.mark.parametrize("method", METHODS)
def test_what_a_handler_aborts_with_stands(call, recommender, caplog, method):
    recommender.abort_with = Code.NOT_FOUND
    message = METHODS[method][1].SerializeToString()
    assert call(method, message) == (Code.NOT_FOUND, "as told")
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_a_method_without_a_handler_of_its_own_is_unimplemented(call, recommender, caplog):
    recommender.error = NotImplementedError("Method not implemented!")
    code, said = call("Recommend", b"")
    assert code is Code.UNIMPLEMENTED
    assert said.endswith("Recommend is not served here")
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_a_trace_names_causes_and_quotes_none_of_them():
    text, other = "a word", "another word"
    try:
        try:
            raise KeyError(text)
        except KeyError:
            raise ValueError(other)  # noqa: B904 - the context is a cause too
    except ValueError as error:
        trace = without_values(error)
    assert trace.startswith("ValueError at\n")
    assert "caused by KeyError at\n" in trace
    assert "a word" not in trace
    assert "another word" not in trace


def test_a_circle_of_causes_ends():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert 2 <= without_values(first).count(" at") <= 10
