"""Which scorers select over float16 states, and what their graphs read."""

import onnx
import pytest

from fuserank.export.factorise import factorise
from fuserank.export.selection import select_graph
from fuserank.export.sides import sides_by_name


@pytest.mark.parametrize(
    ("kind", "is_half"), [("dot", True), ("additive", True), ("deep", False), ("generic", False)]
)
def test_states_are_float16_where_a_bound_is_known(make_bundle, kind, is_half):
    full = make_bundle(kind).full
    parts = factorise(full, sides_by_name(value.name for value in full.graph.input))
    graph = select_graph(parts.joint, parts.scorer)
    onnx.checker.check_model(graph, full_check=True)
    dtypes = {value.name: value.type.tensor_type.elem_type for value in graph.graph.input}
    of_states = {code for name, code in dtypes.items() if "state" in name}
    assert of_states == {onnx.TensorProto.FLOAT16 if is_half else onnx.TensorProto.FLOAT}
    assert ("groups" in dtypes) == ("user_unit" in dtypes) == is_half
    again = select_graph(parts.joint, parts.scorer)
    assert graph.SerializeToString() == again.SerializeToString()


def test_a_perceptron_with_another_activation_stays_float32(make_bundle):
    full = make_bundle("additive").full
    tanh = onnx.ModelProto()
    tanh.CopyFrom(full)
    for node in tanh.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Tanh"
    parts = factorise(tanh, sides_by_name(value.name for value in tanh.graph.input))
    assert parts.scorer.activation == "tanh"
    graph = select_graph(parts.joint, parts.scorer)
    assert "groups" not in {value.name for value in graph.graph.input}
