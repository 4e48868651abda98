"""Recommendations through NVIDIA's own client: `pip install 'tritonclient[grpc]'`.

    fuserank serve BUNDLE
    python examples/triton_client.py localhost:8001

Any client of the Open Inference Protocol, version 2, works the same way.
"""

import sys

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

address, *rest = sys.argv[1:]

with InferenceServerClient(address) as client:
    # A bundle is several models; the first of them recommends.
    model = client.get_model_repository_index().models[0].name
    for tensor in client.get_model_metadata(model).inputs:
        print(f"{tensor.name}: {tensor.datatype} {list(tensor.shape)}")

    # Two users in one batch. Each field is an input of its own: an input that is left out, and an
    # empty string or NaN in a row, is something that is not known of the user.
    user_id = InferInput("user_id", [2, 1], "BYTES")
    user_id.set_data_from_numpy(np.array([[rest[0] if rest else "42"], [""]], dtype=object))
    k = InferInput("k", [2, 1], "INT32")
    k.set_data_from_numpy(np.array([[5], [5]], dtype=np.int32))

    result = client.infer(model, [user_id, k])
    for ids, scores in zip(result.as_numpy("item_ids"), result.as_numpy("scores"), strict=True):
        print(*(f"{item.decode()} {score:.3f}" for item, score in zip(ids, scores, strict=True)))
