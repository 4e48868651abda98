from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from fuserank.export.passes import SplitSkipNormalization

DIM = 8
RNG = np.random.default_rng(0)


def graph(inputs, outputs):
    """A normalised sum of x and s, with some of the operator's inputs and outputs."""
    names = {"gamma", "beta", "bias"} & set(inputs)
    tensors = [
        numpy_helper.from_array(RNG.normal(size=DIM).astype(np.float32), name)
        for name in sorted(names)
    ]
    shape = ["batch", "tokens", DIM]
    node = helper.make_node(
        "SkipLayerNormalization", inputs, outputs, domain="com.microsoft", epsilon=1e-6
    )
    made = [name for name in outputs if name]
    return helper.make_model(
        helper.make_graph(
            [node],
            "sum",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "s")],
            [
                helper.make_tensor_value_info(
                    n, TensorProto.FLOAT, shape if n in ("y", "sum") else None
                )
                for n in made
            ],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )


def run(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {n: np.random.default_rng(1).normal(3, 2, (2, 5, DIM)).astype(np.float32) for n in "xs"}
    return session.run(None, feeds)


@pytest.mark.parametrize("outputs", [["y"], ["y", "", "", "sum"]])
@pytest.mark.parametrize(
    "inputs",
    [
        ["x", "s", "gamma"],
        ["x", "s", "gamma", "beta"],
        ["x", "s", "gamma", "beta", "bias"],
        ["x", "s", "gamma", "", "bias"],
    ],
)
def test_the_same_sum_and_normalisation(inputs, outputs):
    before = graph(inputs, outputs)
    after = ir.to_proto(SplitSkipNormalization()(ir.from_proto(before)).model)
    onnx.checker.check_model(after)
    counts = Counter(node.op_type for node in after.graph.node)
    assert counts == {"Add": 1 + ("bias" in inputs), "LayerNormalization": 1}
    assert [v.name for v in after.graph.output] == [v.name for v in before.graph.output]
    for expected, found in zip(run(before), run(after), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_mean_that_is_used_stays():
    model = ir.from_proto(graph(["x", "s", "gamma"], ["y", "mean"]))
    assert not SplitSkipNormalization()(model).modified
