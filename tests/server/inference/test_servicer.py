import threading
from dataclasses import replace

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.engine.engine import load
from fuserank.engine.results import Embeddings, Timings
from fuserank.server.batching.admission import AdmissionConfig
from fuserank.server.inference.models import number_of
from fuserank.server.inference.servicer import SERVICE_NAME
from fuserank.server.inference.tensors import Datatype, from_raw, join_strings
from fuserank.server.pb import grpc_service_pb2 as pb
from fuserank.server.pb import model_config_pb2 as config_pb

Code = grpc.StatusCode
INVALID, MISSING = Code.INVALID_ARGUMENT, Code.NOT_FOUND
DTYPES = {"INT32": "<i4", "FP32": "<f4", "FP64": "<f8"}


def request(model, id="", version="", wanted=(), **inputs):
    """Return a raw request: lists of lists of strings are BYTES, k INT32, other numbers FP64."""
    message = pb.ModelInferRequest(model_name=model, model_version=version, id=id)
    for name, rows in inputs.items():
        values = np.array(rows, dtype=object)
        datatype = {"k": "INT32", "age": "FP64", "hour": "FP64"}.get(name, "BYTES")
        message.inputs.add(name=name, datatype=datatype, shape=values.shape)
        flat = values.ravel().tolist()
        raw = join_strings(flat) if datatype == "BYTES" else np.array(flat, DTYPES[datatype])
        message.raw_input_contents.append(raw if isinstance(raw, bytes) else raw.tobytes())
    for name in wanted:
        message.outputs.add(name=name)
    return message


def outputs(reply):
    """Return the tensors of a reply by name."""
    assert len(reply.outputs) == len(reply.raw_output_contents)
    found = {}
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        count = int(np.prod(output.shape))
        values = from_raw(raw, Datatype(output.datatype), count, output.name)
        found[output.name] = np.array(values).reshape(output.shape)
    return found


def assert_is(found, row, expected):
    """Compare one row with what the engine recommends itself, exactly."""
    n = len(expected)
    assert tuple(found["item_ids"][row, :n]) == expected.item_ids
    np.testing.assert_array_equal(found["scores"][row, :n].astype(np.float32), expected.scores)
    np.testing.assert_array_equal(
        found["probabilities"][row, :n].astype(np.float32), expected.probabilities
    )
    assert set(found["item_ids"][row, n:]) <= {""}
    assert (found["scores"][row, n:] == -np.inf).all()
    assert (found["probabilities"][row, n:] == 0).all()


def refused(call, message):
    with pytest.raises(grpc.RpcError) as caught:
        call(message)
    return caught.value.code(), caught.value.details()


@pytest.fixture
def stub(serve_models, connect_models, bundle_engine):
    return connect_models(serve_models(bundle_engine)[1])


def test_one_user(stub, bundle_engine):
    reply = stub.ModelInfer(request("tiny", id="7", user_id=[["u1"]], k=[[5]]))
    assert (reply.model_name, reply.id) == ("tiny", "7")
    assert reply.model_version == bundle_engine.info.version
    assert [(o.name, o.datatype, list(o.shape)) for o in reply.outputs] == [
        ("item_ids", "BYTES", [1, 5]),
        ("scores", "FP32", [1, 5]),
        ("probabilities", "FP32", [1, 5]),
    ]
    assert_is(outputs(reply), 0, bundle_engine.recommend({"user_id": "u1"}, 5))


def test_a_batch_of_all_that_may_be_known(stub, bundle_engine):
    reply = stub.ModelInfer(
        request(
            "tiny",
            user_id=[["u1"], ["nobody"], [""], ["u2"]],
            age=[[np.nan], [33.5], [-1e300], [41.0]],
            history=[["", ""], ["i3", "i140"], ["i9", ""], ["i4", "i5"]],
            k=[[3], [0], [150], [10_000]],
        )
    )
    users = [
        ({"user_id": "u1"}, 3),
        ({"user_id": "nobody", "age": 33.5, "history": ["i3", "i140"]}, 10),
        ({"history": ["i9"]}, 150),
        ({"user_id": "u2", "age": 41.0, "history": ["i4", "i5"]}, 1000),
    ]
    found = outputs(reply)
    assert found["item_ids"].shape == (4, 1000)
    expected = bundle_engine.recommend_many([user for user, _ in users], 1000)
    for row, (_, k) in enumerate(users):
        whole = expected[row]
        n = min(k, len(whole))
        assert tuple(found["item_ids"][row, :n]) == whole.item_ids[:k]
        np.testing.assert_array_equal(found["scores"][row, :n].astype(np.float32), whole.scores[:k])
        assert set(found["item_ids"][row, n:]) <= {""}
        assert (found["scores"][row, n:] == -np.inf).all()
        assert (found["probabilities"][row, n:] == 0).all()


def test_a_large_batch_is_answered_whole(stub, bundle_engine):
    ids = [f"u{n % 9}" for n in range(300)]
    found = outputs(stub.ModelInfer(request("tiny", user_id=[[i] for i in ids], k=[[3]] * 300)))
    expected = bundle_engine.recommend_many([{"user_id": i} for i in ids], 3)
    for row, one in enumerate(expected):
        assert_is(found, row, one)


def test_nothing_has_to_be_known(stub, bundle_engine):
    assert_is(outputs(stub.ModelInfer(request("tiny"))), 0, bundle_engine.recommend({}))


def test_an_empty_history_is_not_an_unknown_one(stub, bundle_engine):
    message = request("tiny", user_id=[["u1"]])
    unknown = outputs(stub.ModelInfer(message))
    message.inputs.add(name="history", datatype="BYTES", shape=[1, 0])
    message.raw_input_contents.append(b"")
    empty = outputs(stub.ModelInfer(message))
    assert_is(unknown, 0, bundle_engine.recommend({"user_id": "u1"}))
    assert_is(empty, 0, bundle_engine.recommend({"user_id": "u1", "history": []}))
    assert list(unknown["item_ids"][0]) != list(empty["item_ids"][0])


def test_typed_contents_do_as_well_as_raw_ones(stub):
    raw = request("tiny", user_id=[["u1"], ["u2"]], age=[[20.5], [30.5]], k=[[4], [4]])
    typed = request("tiny", user_id=[["u1"], ["u2"]], age=[[20.5], [30.5]], k=[[4], [4]])
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.bytes_contents.extend([b"u1", b"u2"])
    typed.inputs[1].contents.fp64_contents.extend([20.5, 30.5])
    typed.inputs[2].contents.int_contents.extend([4, 4])
    assert stub.ModelInfer(typed) == stub.ModelInfer(raw)


def test_only_the_outputs_that_are_asked_for_come_in_that_order(stub):
    message = request("tiny", wanted=["probabilities", "item_ids"])
    assert [o.name for o in stub.ModelInfer(message).outputs] == ["probabilities", "item_ids"]


def test_named_items_are_scored(stub, bundle_engine):
    ids = [["i3", "", "i140"], ["i1", "i1", ""]]
    found = outputs(stub.ModelInfer(request("tiny.score", user_id=[["u1"], [""]], item_ids=ids)))
    first = bundle_engine.score({"user_id": "u1"}, ["i3", "i140"])
    second = bundle_engine.score({}, ["i1", "i1"])
    expected = [[first.scores[0], -np.inf, first.scores[1]], [*second.scores, -np.inf]]
    np.testing.assert_array_equal(found["scores"].astype(np.float32), np.array(expected, "f4"))
    assert (found["probabilities"][[0, 1], [1, 2]] == 0).all()


class Encoding:
    """An engine of a bundle that has a text encoder."""

    def __init__(self, info):
        self.info = info

    def encode(self, texts):
        vectors = np.array([[len(text), 1 / 3] for text in texts], dtype=np.float32)
        return Embeddings(vectors=vectors, space="s", timings=Timings(encode_ms=0.5))

    def close(self):
        pass


def test_texts_are_embedded(serve_models, connect_models, bundle_engine):
    info = replace(bundle_engine.info, encoder="bert")
    stub = connect_models(serve_models(Encoding(info), max_texts=3)[1])
    reply = stub.ModelInfer(request("tiny.encoder", text=[["four"], ["sixsix"]]))
    np.testing.assert_array_equal(
        outputs(reply)["embedding"].astype(np.float32),
        np.array([[4, 1 / 3], [6, 1 / 3]], dtype=np.float32),
    )
    assert refused(stub.ModelInfer, request("tiny.encoder", text=[["a"], [" "]])) == (
        Code.INVALID_ARGUMENT,
        "input 'text': row 1 is an empty text, expected words",
    )
    code, details = refused(stub.ModelInfer, request("tiny.encoder", text=[["a"]] * 4))
    assert (code, details) == (
        Code.INVALID_ARGUMENT,
        "input 'text': found a batch of 4, expected 1 to 3",
    )
    assert stub.ModelConfig(pb.ModelConfigRequest(name="tiny.encoder")).config.max_batch_size == 3


def twice(message):
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])
    return message


def some_raw(message):
    del message.raw_input_contents[1:]
    return message


def classified(message):
    message.outputs.add(name="scores").parameters["classification"].int64_param = 3
    return message


@pytest.mark.parametrize(
    ("message", "code", "details"),
    [
        (request("tiny", flavour=[["x"]]), INVALID, "inputs: tiny has no 'flavour'"),
        (
            request("tiny", hour=[[3], [4]], age=[[5]]),
            Code.INVALID_ARGUMENT,
            "input 'age': found a b",
        ),
        (request("tiny", k=[[-1]]), INVALID, "input 'k': found -1"),
        (
            request("tiny", user_id=[["u1", "u2"]]),
            Code.INVALID_ARGUMENT,
            "input 'user_id': found sh",
        ),
        (twice(request("tiny", age=[[5]])), INVALID, "input 'age': found twice"),
        (
            some_raw(request("tiny", age=[[5]], hour=[[5]])),
            INVALID,
            "raw_input_contents: found 1 entries, expected none or one for each of the 2",
        ),
        (request("tiny.score", age=[[5]]), INVALID, "input 'item_ids': missing"),
        (
            request("tiny", wanted=["logits"]),
            Code.INVALID_ARGUMENT,
            "outputs: tiny has no 'logits'",
        ),
        (classified(request("tiny")), INVALID, "output 'scores': classification"),
        (request("tiny", history=[["gone"]]), MISSING, "history: found 1 item id(s)"),
        (
            request("tiny.score", item_ids=[["gone"]]),
            Code.NOT_FOUND,
            "item_ids: found 1 item id(s)",
        ),
        (
            request("other"),
            Code.NOT_FOUND,
            "model_name: found 'other', expected one of tiny, tiny.s",
        ),
        (request("tiny.encoder", text=[["a"]]), MISSING, "model_name: found 'tiny.encoder'"),
        (
            request("tiny", version="9"),
            Code.NOT_FOUND,
            "model_version: found '9', expected nothing",
        ),
    ],
)
def test_what_is_wrong_is_named(stub, message, code, details):
    found = refused(stub.ModelInfer, message)
    assert found[0] is code
    assert found[1].startswith(details)


@pytest.mark.parametrize(
    ("options", "message", "details"),
    [
        ({"max_batch": 1}, request("tiny", hour=[[3], [4]]), "input 'hour': found a batch of 2"),
        ({"max_values": 1}, request("tiny", history=[["i1", "i2"]]), "input 'history': found 2 el"),
        ({"max_items": 1}, request("tiny.score", item_ids=[["i1", "i2"]]), "input 'item_ids': fou"),
        (
            {"max_text_chars": 4},
            request("tiny", user_id=[["12345"]]),
            "input 'user_id': found a t",
        ),
    ],
)
def test_requests_are_limited(
    serve_models, connect_models, bundle_engine, options, message, details
):
    stub = connect_models(serve_models(bundle_engine, **options)[1])
    code, found = refused(stub.ModelInfer, message)
    assert code is Code.INVALID_ARGUMENT
    assert found.startswith(details)


def test_k_beyond_the_limit_is_the_limit(serve_models, connect_models, bundle_engine):
    stub = connect_models(serve_models(bundle_engine, max_k=4)[1])
    reply = stub.ModelInfer(request("tiny", k=[[2**31 - 1]]))
    assert list(reply.outputs[0].shape) == [1, 4]


def test_random_inputs_are_answered(stub):
    rng = np.random.default_rng(5)
    for _ in range(20):
        message = request("tiny", user_id=[["".join(map(chr, rng.integers(33, 900, 40)))]])
        message.inputs.add(name="age", datatype="FP64", shape=[1, 1])
        message.raw_input_contents.append(rng.bytes(8))
        message.inputs.add(name="k", datatype="INT32", shape=[1, 1])
        message.raw_input_contents.append(int(rng.integers(2**31)).to_bytes(4, "little"))
        assert stub.ModelInfer(message).outputs[0].shape[1] > 0


def mutated(rng, message):
    """Return the message with some bytes changed, or None where that is no message any more."""
    data = bytearray(message.SerializeToString())
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(len(data))] = rng.integers(256)
    try:
        return pb.ModelInferRequest.FromString(bytes(data))
    except DecodeError:
        return None


def test_whatever_comes_is_answered_or_refused(stub):
    rng = np.random.default_rng(11)
    whole = [
        request("tiny", user_id=[["u1"], ["u2"]], age=[[1], [2]], history=[["i1"], ["i2"]]),
        request("tiny.score", hour=[[3]], item_ids=[["i1", "i2"]]),
    ]
    codes = set()
    # Over one stream, where each has its own status.
    messages = [m for n in range(2000) if (m := mutated(rng, whole[n % 2])) is not None]
    for reply in stub.ModelStreamInfer(iter(messages)):
        codes.add(reply.error_message.partition(":")[0])
    assert codes == {"", "INVALID_ARGUMENT", "NOT_FOUND"}


def test_a_stream_is_answered_in_order_and_survives_errors(stub, bundle_engine):
    messages = [
        request("tiny", id=str(n), user_id=[[f"u{n % 7}"]], k=[[n % 5 + 1]]) for n in range(100)
    ]
    messages[50] = request("tiny", id="50", history=[["gone"]])
    replies = list(stub.ModelStreamInfer(iter(messages)))
    assert [reply.infer_response.id for reply in replies] == [str(n) for n in range(100)]
    failed = [n for n, reply in enumerate(replies) if reply.error_message]
    assert failed == [50]
    assert replies[50].error_message.startswith("NOT_FOUND: history: found 1")
    for n, reply in enumerate(replies):
        if n not in failed:
            expected = bundle_engine.recommend({"user_id": f"u{n % 7}"}, n % 5 + 1)
            assert_is(outputs(reply.infer_response), 0, expected)


def test_a_stream_that_is_cut_off_stops_its_work(serve_models, connect_models, bundle_engine):
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        info = bundle_engine.info

        def recommend_many(self, users, k):
            begun.set()
            assert go_on.wait(30)
            return bundle_engine.recommend_many(users, k)

        def close(self):
            pass

    stub = connect_models(serve_models(Slow())[1])
    call = stub.ModelStreamInfer(iter([request("tiny") for _ in range(3)]))
    assert begun.wait(30)
    call.cancel()
    with pytest.raises(grpc.RpcError):
        next(call)
    go_on.set()
    assert (
        next(stub.ModelStreamInfer(iter([request("tiny", id="after")]))).infer_response.id
        == "after"
    )


def test_a_stream_ends_in_good_order_when_the_server_drains(
    serve_models, connect_models, bundle_engine, on_loop
):
    servicer, address = serve_models(bundle_engine)
    more = threading.Event()

    def requests():
        yield request("tiny", id="first")
        assert more.wait(30)  # the client's side stays open

    replies = connect_models(address).ModelStreamInfer(requests())
    assert next(replies).infer_response.id == "first"

    async def drain():
        servicer.drain()

    on_loop(drain())
    assert list(replies) == []
    assert replies.code() is Code.OK
    more.set()


def test_a_request_has_no_more_time_than_it_says(stub):
    message = request("tiny", user_id=[["u1"]])
    message.parameters["timeout"].int64_param = 1  # microseconds
    assert refused(stub.ModelInfer, message)[0] is Code.DEADLINE_EXCEEDED
    (reply,) = stub.ModelStreamInfer(iter([message]))
    assert reply.error_message.startswith("DEADLINE_EXCEEDED")
    for enough in (60_000_000, 0):  # 0 is none
        message.parameters["timeout"].int64_param = enough
        assert stub.ModelInfer(message).outputs


def test_a_reply_says_how_it_came_about(stub):
    assert stub.ModelInfer(request("tiny")).parameters["plan"].string_param == "exact"
    scored = stub.ModelInfer(request("tiny.score", item_ids=[["i1"]]))
    assert "plan" not in scored.parameters


def test_the_callers_tracing_headers_come_back(stub):
    sent = (("x-request-id", "abc"), ("traceparent", "00-1-2-01"))
    _, call = stub.ModelInfer.with_call(request("tiny"), metadata=sent)
    assert set(sent) <= set(call.trailing_metadata())
    call = stub.ModelStreamInfer(iter([request("tiny")]), metadata=sent)
    assert len(list(call)) == 1
    assert set(sent) <= set(call.trailing_metadata())


def test_calls_are_admitted_up_to_a_bound(serve_models, connect_models, bundle_engine):
    _, address = serve_models(bundle_engine, admission=AdmissionConfig(max_calls=1))
    stub = connect_models(address)
    more = threading.Event()

    def requests():
        yield request("tiny")
        assert more.wait(30)

    replies = stub.ModelStreamInfer(requests())
    next(replies)  # the stream is one call
    assert refused(stub.ModelInfer, request("tiny"))[0] is Code.RESOURCE_EXHAUSTED
    more.set()
    assert list(replies) == []
    assert stub.ModelInfer(request("tiny")).outputs


def test_models_are_described(stub, bundle_engine):
    version = bundle_engine.info.version
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
    assert [(m.name, m.version, m.state) for m in index] == [
        ("tiny", version, "READY"),
        ("tiny.score", version, "READY"),
    ]
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
    assert (metadata.name, list(metadata.versions)) == ("tiny", [version])
    assert metadata.platform == "fuserank"
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("user_id", "BYTES", [-1, 1]),
        ("age", "FP64", [-1, 1]),
        ("history", "BYTES", [-1, -1]),
        ("hour", "FP64", [-1, 1]),
        ("k", "INT32", [-1, 1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
        ("item_ids", "BYTES", [-1, -1]),
        ("scores", "FP32", [-1, -1]),
        ("probabilities", "FP32", [-1, -1]),
    ]
    config = stub.ModelConfig(pb.ModelConfigRequest(name="tiny.score", version=version)).config
    assert (config.name, config.backend, config.max_batch_size) == ("tiny.score", "fuserank", 1024)
    assert not config.model_transaction_policy.decoupled
    assert [(t.name, t.data_type, list(t.dims), t.optional) for t in config.input][-2:] == [
        ("hour", config_pb.TYPE_FP64, [1], True),
        ("item_ids", config_pb.TYPE_STRING, [-1], False),
    ]
    code, _ = refused(stub.ModelMetadata, pb.ModelMetadataRequest(name="none"))
    assert code is Code.NOT_FOUND
    code, _ = refused(stub.ModelConfig, pb.ModelConfigRequest(name="tiny", version="none"))
    assert code is Code.NOT_FOUND


def test_the_server_is_described_and_ready(stub, bundle_engine):
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    metadata = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert metadata.name == "fuserank"
    assert "statistics" in metadata.extensions
    ready = pb.ModelReadyRequest(name="tiny", version=bundle_engine.info.version)
    assert stub.ModelReady(ready).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="none")).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="tiny", version="none")).ready


def test_before_a_bundle_is_loaded_nothing_is_ready(serve_models, connect_models):
    stub = connect_models(serve_models()[1])
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert not stub.ServerReady(pb.ServerReadyRequest()).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="tiny")).ready
    assert not stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    assert not stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    for version in ("", "3"):
        code, _ = refused(stub.ModelInfer, request("tiny", version=version))
        assert code is Code.UNAVAILABLE


def test_statistics_count_what_was_answered_and_what_was_not(stub, bundle_engine):
    for batch in (1, 3, 3):
        stub.ModelInfer(request("tiny", hour=[[4]] * batch))
    refused(stub.ModelInfer, request("tiny", k=[[-1]]))
    both = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    assert [one.name for one in both] == ["tiny", "tiny.score"]
    (found,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="tiny")).model_stats
    assert found.version == number_of(bundle_engine.info.version)
    assert found.version == str(int(found.version))
    assert (found.inference_count, found.execution_count) == (7, 3)
    assert found.last_inference > 1_600_000_000_000
    stats = found.inference_stats
    assert (stats.success.count, stats.fail.count, stats.queue.count) == (3, 1, 3)
    parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert stats.success.ns == sum(part.ns for part in parts)
    assert stats.compute_infer.ns > 0
    assert [(b.batch_size, b.compute_infer.count) for b in found.batch_stats] == [(1, 1), (3, 2)]
    assert sum(b.compute_infer.ns for b in found.batch_stats) == stats.compute_infer.ns
    assert both[1].inference_stats.success.count == 0
    named = pb.ModelStatisticsRequest(name="tiny", version=bundle_engine.info.version)
    assert len(stub.ModelStatistics(named).model_stats) == 1
    code, _ = refused(stub.ModelStatistics, pb.ModelStatisticsRequest(name="none"))
    assert code is Code.NOT_FOUND


def test_each_version_answers_for_itself(serve_models, connect_models, bundle_engine, make_bundle):
    with load(make_bundle("dot").path, device="cpu", threads=1) as other:
        _, address = serve_models(bundle_engine, other)
        stub = connect_models(address)
        versions = {"": bundle_engine}
        versions |= {engine.info.version: engine for engine in (bundle_engine, other)}
        for version, engine in versions.items():
            reply = stub.ModelInfer(request("tiny", version=version, user_id=[["u1"]]))
            assert reply.model_version == engine.info.version
            assert_is(outputs(reply), 0, engine.recommend({"user_id": "u1"}))
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
        assert list(metadata.versions) == [bundle_engine.info.version, other.info.version]
        stats = stub.ModelStatistics(pb.ModelStatisticsRequest(name="tiny")).model_stats
        assert [one.execution_count for one in stats] == [2, 1]
        only = pb.ModelStatisticsRequest(name="tiny", version=other.info.version)
        assert len(stub.ModelStatistics(only).model_stats) == 1


def test_loading_models_is_for_operators(stub):
    for call, message in (
        (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="tiny")),
        (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="tiny")),
    ):
        code, details = refused(call, message)
        assert code is Code.UNIMPLEMENTED
        assert "fuserank.v1.AdminService" in details


def test_health_answers_for_the_service(serve_models, bundle_engine):
    with grpc.insecure_channel(serve_models(bundle_engine)[1]) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        )
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_what_goes_wrong_inside_is_not_told(serve_models, connect_models, bundle_engine, caplog):
    class Broken:
        info = bundle_engine.info

        def recommend_many(self, users, k):
            raise ZeroDivisionError(users[0]["user_id"])

        def close(self):
            pass

    stub = connect_models(serve_models(Broken())[1])
    code, details = refused(stub.ModelInfer, request("tiny", user_id=[["hush"]]))
    assert code is Code.INTERNAL
    assert "hush" not in details
    assert "ModelInfer failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    (reply,) = stub.ModelStreamInfer(iter([request("tiny", user_id=[["hush"]])]))
    assert reply.error_message.startswith("INTERNAL")
    assert "hush" not in reply.error_message + caplog.text
    (stats,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="tiny")).model_stats
    assert stats.inference_stats.fail.count == 2
