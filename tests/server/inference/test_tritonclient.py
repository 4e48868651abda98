import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fuserank.server.pb import grpc_service_pb2, model_config_pb2

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tritonclient") is None, reason="tritonclient is not installed"
)


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def found(serve_models, bundle_engine):
    return json.loads(run(HERE / "tritonclient_calls.py", serve_models(bundle_engine)[1]))


def test_tritonclient_gets_what_the_engine_says(found, bundle_engine):
    expected = bundle_engine.recommend_many(
        [
            {"user_id": "u1"},
            {"user_id": "nobody", "age": 33.1, "history": ["i3", "i140"]},
            {"age": 41.5, "history": ["i9"]},
        ],
        4,
    )
    assert found["infer"]["id"] == "7"
    assert [one["id"] for one in found["streamed"]] == [str(number) for number in range(20)]
    for reply in (found["infer"], *found["streamed"]):
        assert reply["item_ids"] == [list(one.item_ids) for one in expected]
        assert np.array_equal(reply["scores"], [one.scores for one in expected])
        assert np.array_equal(reply["probabilities"], [one.probabilities for one in expected])
    scores = bundle_engine.score({"user_id": "u1"}, ["i3", "i9"]).scores
    assert np.array_equal(found["score"], [scores])
    assert found["wanted"] == ["probabilities"]

    version = bundle_engine.info.version
    assert found["server"]["name"] == "fuserank"
    assert found["metadata"]["versions"] == [version]
    assert [tensor["name"] for tensor in found["metadata"]["inputs"]] == [
        "user_id",
        "age",
        "history",
        "hour",
        "k",
    ]
    assert found["config"]["max_batch_size"] == 1024
    assert found["config"]["input"][0] == {
        "name": "user_id",
        "data_type": "TYPE_STRING",
        "dims": ["1"],
        "optional": True,
    }
    # The three infers of a model, and 20 of the stream; one of the stream failed.
    (statistics,) = found["statistics"]
    assert statistics["inference_stats"]["success"]["count"] == "22"
    assert statistics["inference_stats"]["fail"]["count"] == "1"
    assert statistics["inference_count"] == "66"
    assert [model["state"] for model in found["index"]] == ["READY", "READY"]

    assert found["stream_error"].startswith("NOT_FOUND: history")
    assert found["unknown_model"][0] == "StatusCode.NOT_FOUND"
    assert found["wrong_type"] == [
        "StatusCode.INVALID_ARGUMENT",
        "input 'age': found datatype 'BYTES', expected FP64",
    ]
    assert found["load"][0] == "StatusCode.UNIMPLEMENTED"


def test_the_protocol_is_nvidias(found):
    """Whatever ours has, its number and type are those that tritonclient was made with."""

    def check(message):
        theirs = found["wire"][message.full_name]
        for field in message.fields:
            ours = [field.number, field.type, field.is_repeated]
            assert theirs[field.name] == ours, f"{message.full_name}.{field.name}"
        for nested in message.nested_types:
            check(nested)

    for file in (grpc_service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            check(message)


def test_the_example_runs(serve_models, bundle_engine):
    printed = run(ROOT / "examples/triton_client.py", serve_models(bundle_engine)[1], "u1")
    *inputs, first, second = printed.splitlines()
    assert inputs[0] == "user_id: BYTES [-1, 1]"
    for line, user in ((first, {"user_id": "u1"}), (second, {})):
        best = bundle_engine.recommend(user, 5)
        assert line.split() == [part for i, s in best for part in (i, f"{s:.3f}")]
