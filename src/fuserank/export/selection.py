"""Selecting the best items inside the graph: a device hands back k results and no scores."""

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from fuserank.bundle import ScorerInfo, ScorerKind
from fuserank.engine.scoring.device_scan import SELECTION_BLOCK
from fuserank.export.half import half_joint
from fuserank.export.tensors import initializer

__all__ = ["select_graph", "with_selection"]

_REDUCTION_TAKES_AXES_AS_INPUT = 18
"""The opset from which ReduceMax does."""


def select_graph(joint: onnx.ModelProto, scorer: ScorerInfo) -> onnx.ModelProto:
    """Return the graph that selects: over float16 states where a bound on their error is known.

    That is so for inner products and for two-layer perceptrons with relu. See `half_joint` for what
    it reads then; elsewhere, it reads what the joint graph does.

    Args:
        joint: the joint graph.
        scorer: what it computes.
    """
    has_bound = scorer.kind is ScorerKind.DOT or scorer.activation == "relu"
    if has_bound and not scorer.layers and not scorer.products:
        joint = half_joint(joint, perceptron=scorer.kind is ScorerKind.ADDITIVE)
    return with_selection(joint)


def with_selection(joint: onnx.ModelProto) -> onnx.ModelProto:
    """Return a joint graph that selects: (users, items) scores become (users, k) of the best.

    Inputs are those of the joint graph and ``eligible`` (users or 1, items) bool, ``blocks`` (1,)
    int64 and ``k`` (1,) int64, k being at most 128·blocks. Outputs are ``best_scores`` (users, k)
    float32, descending, and ``best_rows`` (users, k) int64; equal scores stand in order of rows.

    The best ``blocks`` blocks hold the best ``blocks`` items: a block that is ranked before the
    block of an item holds an item that is ranked before it. So only their items are compared, and
    the sort over the whole catalogue becomes one over a 128th of it. What is not eligible, or NaN,
    scores minus infinity; what is eligible, at least the lowest finite number.
    """
    model = ir.from_proto(joint)
    graph = model.graph
    (scores,) = graph.outputs
    users, items = scores.shape or ("users", "items")
    eligible, blocks, k = (
        ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        for name, dtype, shape in (
            ("eligible", ir.DataType.BOOL, ["eligible_users", items]),
            ("blocks", ir.DataType.INT64, [1]),
            ("k", ir.DataType.INT64, [1]),
        )
    )
    tape = ir.tape.Tape()

    def constant(name: str, value: object, dtype: type) -> ir.Value:
        return initializer(graph, name, np.array(value, dtype=dtype))

    def highest(values: ir.Value) -> ir.Value:
        if (graph.opset_imports.get("") or 0) < _REDUCTION_TAKES_AXES_AS_INPUT:
            return tape.op("ReduceMax", [values], {"axes": [2], "keepdims": 0})
        axes = constant("block_axis", [2], np.int64)
        return tape.op("ReduceMax", [values, axes], {"keepdims": 0})

    size = constant("block_size", SELECTION_BLOCK, np.int64)
    is_number = tape.op("Not", [tape.op("IsNaN", [scores])])
    is_valid = tape.op("And", [eligible, is_number])
    lowest = constant("lowest", np.finfo(np.float32).min, np.float32)
    raised = tape.op("Max", [scores, lowest])
    valid = tape.op("Where", [is_valid, raised, constant("nothing", -np.inf, np.float32)])
    in_blocks = tape.op(
        "Reshape", [valid, constant("in_blocks", [0, -1, SELECTION_BLOCK], np.int64)]
    )
    _, of_best = tape.op_multi_out("TopK", [highest(in_blocks), blocks], {"axis": 1}, num_outputs=2)
    # In the order of the catalogue, so that the selection below keeps it where scores are equal.
    ordered, _ = tape.op_multi_out(
        "TopK", [of_best, blocks], {"axis": 1, "largest": 0}, num_outputs=2
    )
    column = tape.op("Unsqueeze", [ordered, constant("last_axis", [2], np.int64)])
    picked = tape.op("GatherND", [in_blocks, column], {"batch_dims": 1})
    flat = tape.op("Reshape", [picked, constant("flat", [0, -1], np.int64)])
    best_scores, at = tape.op_multi_out("TopK", [flat, k], {"axis": 1}, num_outputs=2)
    block = tape.op("Div", [at, size])
    within = tape.op("Sub", [at, tape.op("Mul", [block, size])])
    first = tape.op("Mul", [tape.op("GatherElements", [ordered, block], {"axis": 1}), size])
    best_rows = tape.op("Add", [first, within])
    for value, name, dtype in (
        (best_scores, "best_scores", ir.DataType.FLOAT),
        (best_rows, "best_rows", ir.DataType.INT64),
    ):
        value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape([users, "k"])
    graph.extend(tape.nodes)
    graph.inputs.extend([eligible, blocks, k])
    graph.outputs.clear()
    graph.outputs.extend([best_scores, best_rows])
    graph.name = "select"
    common.NameFixPass()(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return proto
