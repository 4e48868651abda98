"""The joint graph over float16 states, of which a device holds twice as many."""

import numpy as np
import onnx
import onnx_ir as ir

from fuserank.export.tensors import initializer

__all__ = ["half_joint"]

_HALF, _FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def half_joint(joint: onnx.ModelProto, *, perceptron: bool) -> onnx.ModelProto:
    """Return the joint graph of an inner product or of a relu perceptron, in float16.

    Inputs are ``user_state`` (users, width), ``item_state`` (items, width) and ``groups`` (groups,
    width) float16, ``user_unit``, ``user_constant`` (users) and ``item_constant`` (items) float32;
    the output is ``scores`` (users, items) float32. What they hold says `engine.scoring`: states
    are scaled, and a perceptron's user state is what relu cuts at.

        dot:       unit · Σ_g Σ_h groups_gh·user_h·item_h + both constants
        additive:  unit · Σ_g Σ_h groups_gh·max(user_h, item_h) + both constants

    A group sums a few of the products, all others being multiplied by zero: that much is added in
    float16. The groups are added in float32.

    Args:
        joint: the float32 graph, whose opset and shapes are taken.
        perceptron: whether it is one.
    """
    like = ir.from_proto(joint)
    shapes = {str(value.name): list(value.shape or ()) for value in like.graph.inputs}
    (users, width), items = shapes["user_state"], shapes["item_state"][0]
    graph = ir.Graph([], [], nodes=[], name="joint", opset_imports=dict(like.opset_imports))
    user, unit, user_constant, item, item_constant, groups = (
        ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        for name, dtype, shape in (
            ("user_state", _HALF, [users, width]),
            ("user_unit", _FLOAT, [users]),
            ("user_constant", _FLOAT, [users]),
            ("item_state", _HALF, [items, width]),
            ("item_constant", _FLOAT, [items]),
            ("groups", _HALF, ["groups", width]),
        )
    )
    axes = [initializer(graph, f"axis_{n}", np.array([n], dtype=np.int64)) for n in range(3)]
    tape = ir.tape.Tape()

    def column(value: ir.Value) -> ir.Value:
        return tape.op("Unsqueeze", [value, axes[1]])

    def turned(value: ir.Value) -> ir.Value:
        return tape.op("Transpose", [value], {"perm": [1, 0]})

    if perceptron:
        hidden = tape.op("Max", [column(user), tape.op("Unsqueeze", [item, axes[0]])])
        of_groups, axis = tape.op("MatMul", [hidden, turned(groups)]), axes[2]
    else:
        split = tape.op("Mul", [column(user), groups])
        of_groups, axis = tape.op("MatMul", [split, turned(item)]), axes[1]
    widened = tape.op("Cast", [of_groups], {"to": int(_FLOAT)})
    total = tape.op("ReduceSum", [widened, axis], {"keepdims": 0})
    scores = tape.op("Add", [tape.op("Mul", [total, column(unit)]), column(user_constant)])
    scores = tape.op("Add", [scores, item_constant])
    scores.name, scores.type = "scores", ir.TensorType(_FLOAT)
    scores.shape = ir.Shape([users, items])
    graph.inputs.extend([user, unit, user_constant, item, item_constant, groups])
    graph.extend(tape.nodes)
    graph.outputs.append(scores)
    return ir.to_proto(
        ir.Model(graph, ir_version=like.ir_version, producer_name=like.producer_name)
    )
