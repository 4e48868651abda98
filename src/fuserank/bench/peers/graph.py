"""The ranker of a synthetic bundle as one graph: a user's vector to the best items."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuserank.bench.peers.ranking import ROWS, SCORES, VECTOR
from fuserank.bench.synthetic import ITEM, SyntheticItems, perceptron

__all__ = ["ranking_graph"]


def ranking_graph(items: SyntheticItems, k: int, *, hidden: int = 64) -> onnx.ModelProto:
    """Return a graph that ranks a whole catalogue by a two-layer perceptron.

    What depends on an item alone is computed beforehand, as a bundle has it:
    score = w₂·relu(x·W_user + (item·W_item + b₁)) + b₂, then TopK.

    Args:
        items: the catalogue; its seed also drew the weights.
        k: items wanted.
        hidden: units of the hidden layer.
    """
    weights = {
        constant.name: numpy_helper.to_array(constant)
        for constant in perceptron(items.width, [hidden], items.seed).graph.initializer
    }
    by_user, by_item = np.split(weights["W_1"], 2)
    states = items.all()[ITEM] @ by_item + weights["b_1"]
    constants = {
        "by_user": by_user,
        "states": states[None].astype(np.float32),
        "last": weights["W_2"],
        "bias": weights["b_2"],
        "middle_axis": np.array([1], dtype=np.int64),
        "last_axis": np.array([2], dtype=np.int64),
        "k": np.array([k], dtype=np.int64),
    }
    nodes = [
        helper.make_node("MatMul", [VECTOR, "by_user"], ["user"]),
        helper.make_node("Unsqueeze", ["user", "middle_axis"], ["user_row"]),
        helper.make_node("Add", ["user_row", "states"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["units"]),
        helper.make_node("MatMul", ["units", "last"], ["products"]),
        helper.make_node("Squeeze", ["products", "last_axis"], ["unbiased"]),
        helper.make_node("Add", ["unbiased", "bias"], ["all_scores"]),
        helper.make_node("TopK", ["all_scores", "k"], [SCORES, ROWS]),
    ]
    graph = helper.make_graph(
        nodes,
        "ranking",
        [helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, ["batch", items.width])],
        [
            helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["batch", k]),
            helper.make_tensor_value_info(ROWS, TensorProto.INT64, ["batch", k]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
