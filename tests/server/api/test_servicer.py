import asyncio
import threading

import grpc
import numpy as np
import pytest

from fuserank.errors import BundleError, SchemaError
from fuserank.server.pb import recommender_pb2 as pb

Code = grpc.StatusCode
USER = pb.User(fields={"user_id": pb.Value(string_value="42")})


def a_user(**fields):
    return pb.User(fields=fields)


def number(value):
    return pb.Value(number_value=value)


def strings(*values):
    return pb.Value(string_list=pb.StringList(values=values))


@pytest.fixture
def stub(serve, connect):
    return connect(serve())


def test_recommend(stub):
    reply = stub.Recommend(pb.RecommendRequest(user=USER, k=3))
    found = reply.recommendation
    assert list(found.item_ids) == ["0", "1", "2"]
    assert list(found.scores) == [10.0, 9.5, 9.0]
    assert list(found.probabilities) == pytest.approx([0.9999546, 0.9999252, 0.9998766])
    assert (found.served_as, found.plan) == (pb.SERVED_AS_KNOWN, "exact")
    assert (found.timings.encode_ms, found.timings.total_ms) == (2.5, 5.0)
    assert not found.attributes
    assert reply.served_by == pb.ServedBy(bundle_name="films", bundle_version="3", device="cpu")


def test_k_is_ten_unless_set(stub):
    assert len(stub.Recommend(pb.RecommendRequest(user=USER)).recommendation.item_ids) == 10


def test_attributes_come_where_they_are_asked_for(stub):
    found = stub.Recommend(
        pb.RecommendRequest(user=USER, k=2, include_attributes=True)
    ).recommendation
    assert [item["title"] for item in found.attributes] == ["Film 0 é", "Film 1 é"]


def test_eligibility_reaches_the_engine(stub):
    user = a_user(history=strings("0", "1"))
    asked = pb.Eligibility(exclude=["2"], allow=pb.ItemIds(ids=["0", "1", "2", "3"]))
    reply = stub.Recommend(pb.RecommendRequest(user=user, eligibility=asked))
    assert list(reply.recommendation.item_ids) == ["3"]
    asked.include_seen = True
    reply = stub.Recommend(pb.RecommendRequest(user=user, eligibility=asked))
    assert list(reply.recommendation.item_ids) == ["0", "1", "3"]


def test_to_allow_nothing_is_not_to_allow_everything(stub):
    asked = pb.Eligibility(allow=pb.ItemIds())
    reply = stub.Recommend(pb.RecommendRequest(user=USER, eligibility=asked))
    assert len(reply.recommendation.item_ids) == 0


def test_recommend_batch(stub):
    users = [USER, a_user(history=strings("0")), USER]
    reply = stub.RecommendBatch(pb.RecommendBatchRequest(users=users, k=1, include_attributes=True))
    assert [list(found.item_ids) for found in reply.recommendations] == [["0"], ["1"], ["0"]]
    assert reply.recommendations[1].attributes[0]["title"] == "Film 1 é"
    assert [found.served_as for found in reply.recommendations] == [
        pb.SERVED_AS_KNOWN,
        pb.SERVED_AS_COLD,
        pb.SERVED_AS_KNOWN,
    ]
    assert reply.served_by.bundle_version == "3"


def test_score(stub):
    reply = stub.Score(pb.ScoreRequest(user=USER, item_ids=["5", "0"]))
    assert list(reply.scores) == [7.5, 10.0]
    assert reply.served_as == pb.SERVED_AS_UNKNOWN
    assert reply.served_by.device == "cpu"


def test_encode(stub):
    reply = stub.Encode(pb.EncodeRequest(texts=["ab", "cde"]))
    vectors = np.frombuffer(reply.vectors, "<f4").reshape(-1, reply.dim)
    np.testing.assert_array_equal(
        vectors, np.array([[2, 1 / 3, -0.5], [3, 1 / 3, -0.5]], np.float32)
    )
    assert (reply.space, reply.served_by.bundle_name) == ("a1b2", "films")


def test_get_bundle_info(stub):
    info = stub.GetBundleInfo(pb.GetBundleInfoRequest()).bundle_info
    assert (info.item_count, info.user_count, info.model) == (20, 7, "neumf")
    assert not info.HasField("encoder")
    assert [(field.name, field.kind) for field in info.user_fields] == [
        ("user_id", "id"),
        ("age", "number"),
    ]


def test_an_unknown_item_is_not_found(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Score(pb.ScoreRequest(user=USER, item_ids=["1", "99"]))
    assert caught.value.code() is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BundleError("no"), Code.FAILED_PRECONDITION),
        (SchemaError("no"), Code.INVALID_ARGUMENT),
    ],
)
def test_errors_of_the_engine_have_their_codes(stub, engine, error, code):
    def fail():
        raise error

    engine.before = fail
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(pb.RecommendRequest(user=USER))
    assert (caught.value.code(), caught.value.details()) == (code, "no")


def test_a_defect_is_logged_and_not_shown(stub, engine, caplog):
    def fail():
        raise ZeroDivisionError("the secret inside")

    engine.before = fail
    request = pb.EncodeRequest(texts=["a"])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Encode(request, metadata=[("x-request-id", "r-1")])
    assert caught.value.code() is Code.INTERNAL
    assert "secret" not in caught.value.details()
    assert "Traceback" not in caught.value.details()
    (record,) = caplog.records
    logged = record.getMessage()
    assert logged.startswith("Encode failed, request id r-1: ZeroDivisionError at")
    assert "secret" not in logged.replace('("the secret inside")', "")  # the line of code


def trailers(call):
    return dict(call.trailing_metadata())


def test_tracing_headers_come_back(stub):
    sent = [("x-request-id", "r-2"), ("traceparent", "00-ab-cd-01"), ("other", "x")]
    _, call = stub.GetBundleInfo.with_call(pb.GetBundleInfoRequest(), metadata=sent)
    assert trailers(call) == {"x-request-id": "r-2", "traceparent": "00-ab-cd-01"}


def test_tracing_headers_come_back_with_an_error(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(
            pb.RecommendRequest(user=USER, k=0), metadata=[("x-request-id", "r" * 1_000)]
        )
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert trailers(caught.value)["x-request-id"] == "r" * 256


def test_a_request_without_an_id_is_given_one(stub):
    ids = set()
    for _ in range(2):
        _, call = stub.GetBundleInfo.with_call(pb.GetBundleInfoRequest())
        ids.add(trailers(call)["x-request-id"])
    assert len(ids) == 2


def test_work_that_expires_while_it_waits_is_not_computed(serve, connect, engine):
    stub = connect(serve(call_threads=1))
    begun, go_on = threading.Event(), threading.Event()

    def block():
        begun.set()
        assert go_on.wait(20)

    engine.before = block
    slow = stub.Recommend.future(pb.RecommendRequest(user=a_user(age=number(1))))
    assert begun.wait(20)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(pb.RecommendRequest(user=a_user(age=number(2))), timeout=0.1)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    go_on.set()
    slow.result()
    stub.Recommend(pb.RecommendRequest(user=a_user(age=number(3))))
    assert engine.users == [{"age": 1}, {"age": 3}]


class FakeContext:
    """What a handler sees of its call."""

    def __init__(self, remaining_s=None):
        self.remaining_s = remaining_s
        self.aborted = None

    def invocation_metadata(self):
        return ()

    def set_trailing_metadata(self, trailers):
        self.trailers = trailers

    def time_remaining(self):
        return self.remaining_s

    async def abort(self, code, details, trailers=()):
        self.aborted = code
        raise grpc.aio.AbortError


def the_age(user):
    return pb.RecommendRequest(user=a_user(age=number(user)))


@pytest.mark.parametrize("method", ["Recommend", "RecommendBatch", "Score", "Encode"])
def test_what_has_expired_already_is_not_computed(on_loop, servicer, engine, method):
    request = {
        "Recommend": pb.RecommendRequest(user=USER),
        "RecommendBatch": pb.RecommendBatchRequest(users=[USER, USER]),
        "Score": pb.ScoreRequest(user=USER, item_ids=["1"]),
        "Encode": pb.EncodeRequest(texts=["a"]),
    }[method]
    context = FakeContext(remaining_s=-0.001)
    with pytest.raises(grpc.aio.AbortError):
        on_loop(getattr(servicer, method)(request, context))
    assert context.aborted is Code.DEADLINE_EXCEEDED
    assert engine.users == []


def test_work_that_is_cancelled_while_it_waits_is_not_computed(on_loop, servicer, engine):
    begun, go_on = threading.Event(), threading.Event()

    def block():
        begun.set()
        assert go_on.wait(20)

    engine.before = block

    async def scenario():
        def call(age):
            return asyncio.create_task(servicer.Recommend(the_age(age), FakeContext()))

        slow = call(1)
        await asyncio.to_thread(begun.wait, 20)
        cancelled, last = call(2), call(3)
        await asyncio.sleep(0)  # both wait for the engine
        cancelled.cancel()
        await asyncio.wait({cancelled})
        go_on.set()
        await slow
        await last

    on_loop(scenario())
    assert engine.users == [{"age": 1}, {"age": 3}]
