"""One graph, loaded and run."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fuserank.engine.session import GraphSession
from fuserank.errors import BundleIntegrityError


@pytest.fixture
def path(tmp_path):
    """A graph of a + b and a - b."""
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"])
        for name in ("b", "a", "sum", "difference")
    }
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        "g",
        [values["b"], values["a"]],
        [values["sum"], values["difference"]],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


def test_inputs_and_outputs_go_by_name(path):
    session = GraphSession(path)
    assert session.input_names == ("b", "a")
    assert session.output_names == ("sum", "difference")
    a, b = np.array([3, 4], np.float32), np.array([1, 2], np.float32)
    found = session.run({"a": a, "b": b, "not an input": a})
    assert {name: value.tolist() for name, value in found.items()} == {
        "sum": [4, 6],
        "difference": [2, 2],
    }


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
def test_a_file_that_is_no_graph_is_named(tmp_path, content):
    (tmp_path / "user.onnx").write_bytes(content)
    with pytest.raises(
        BundleIntegrityError, match=r"user.onnx: expected an ONNX graph that ONNX Runtime can load"
    ):
        GraphSession(tmp_path / "user.onnx")


def test_a_truncated_or_missing_graph_is_named(path, tmp_path):
    path.write_bytes(path.read_bytes()[:-9])
    for name in ("g.onnx", "nothing.onnx"):
        with pytest.raises(BundleIntegrityError, match=f"{name}: expected an ONNX graph"):
            GraphSession(tmp_path / name)
