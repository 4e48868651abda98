"""Calls of NVIDIA's client, in a process of its own; prints what they returned as JSON.

Our generated code and tritonclient's define the same messages, of which a process takes one.
"""

import json
import queue
import sys

import numpy as np
from tritonclient.grpc import (
    InferenceServerClient,
    InferenceServerException,
    InferInput,
    InferRequestedOutput,
    service_pb2,
)

import fuserank  # its client and tritonclient get along


def tensor(name, rows, datatype):
    dtype = {"BYTES": object, "INT32": np.int32, "FP64": np.float64}[datatype]
    values = np.array(rows, dtype=dtype)
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def users():
    return [
        tensor("user_id", [["u1"], ["nobody"], [""]], "BYTES"),
        tensor("age", [[np.nan], [33.1], [41.5]], "FP64"),
        tensor("history", [["", ""], ["i3", "i140"], ["i9", ""]], "BYTES"),
        tensor("k", [[4], [4], [4]], "INT32"),
    ]


def read(result):
    return {
        "id": result.get_response().id,
        "item_ids": [[i.decode() for i in row] for row in result.as_numpy("item_ids")],
        "scores": result.as_numpy("scores").astype(float).tolist(),
        "probabilities": result.as_numpy("probabilities").astype(float).tolist(),
    }


def stream(client, model):
    replies = queue.Queue()
    client.start_stream(lambda result, error: replies.put((result, error)))
    for number in range(20):
        client.async_stream_infer(model, users(), request_id=str(number))
    client.async_stream_infer(model, [tensor("history", [["gone"]], "BYTES")])
    found = [replies.get(timeout=30) for _ in range(21)]
    client.stop_stream()
    assert all(error is None for _, error in found[:20])
    return [read(result) for result, _ in found[:20]], found[20][1].message()


def wire():
    """Return the fields of every message that tritonclient knows, with numbers and types."""
    files = {service_pb2.DESCRIPTOR, *service_pb2.DESCRIPTOR.dependencies}
    found = {}

    def add(message):
        found[message.full_name] = {
            field.name: [field.number, field.type, field.is_repeated] for field in message.fields
        }
        for nested in message.nested_types:
            add(nested)

    for file in files:
        for message in file.message_types_by_name.values():
            add(message)
    return found


def main(address):
    assert fuserank.Client
    client = InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert not client.is_model_ready("none")
    wanted = [InferRequestedOutput("probabilities")]
    streamed, stream_error = stream(client, "tiny")
    found = {
        "infer": read(client.infer("tiny", users(), request_id="7")),
        "streamed": streamed,
        "stream_error": stream_error,
        "wanted": [
            o.name for o in client.infer("tiny", users(), outputs=wanted).get_response().outputs
        ],
        "score": client.infer(
            "tiny.score",
            [tensor("user_id", [["u1"]], "BYTES"), tensor("item_ids", [["i3", "i9"]], "BYTES")],
        )
        .as_numpy("scores")
        .astype(float)
        .tolist(),
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata("tiny", as_json=True),
        "config": client.get_model_config("tiny", as_json=True)["config"],
        "statistics": client.get_inference_statistics("tiny", as_json=True)["model_stats"],
        "index": client.get_model_repository_index(as_json=True)["models"],
        "wire": wire(),
    }
    for name, call in {
        "unknown_model": lambda: client.infer("none", users()),
        "wrong_type": lambda: client.infer("tiny", [tensor("age", [["33"]], "BYTES")]),
        "load": lambda: client.load_model("tiny"),
    }.items():
        try:
            call()
        except InferenceServerException as error:
            found[name] = [error.status(), error.message()]
    print(json.dumps(found))


main(sys.argv[1])
