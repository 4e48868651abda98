"""Rewrites to simpler operators: same values, and nothing left of what was rewritten."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuserank.export.passes import DecomposeGemm, FoldBatchNorm, SquareAsProduct

X = {"x": ("float32", ["batch", 4])}


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rewritten(rewrite, proto):
    """Return the rewritten model and whether anything was."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    modified = rewrite(model).modified
    result = ir.to_proto(model)
    onnx.checker.check_model(result)
    return result, modified


def assert_same(before, after, x):
    found = [
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": x}
        )[0]
        for m in (before, after)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-5)


def operators(proto):
    return [node.op_type for node in proto.graph.node]


@settings(max_examples=30, deadline=None)
@given(
    turned=st.booleans(),
    bias=st.sampled_from([(), (3,), (1, 3)]),
    alpha=st.floats(0.25, 2.0, width=32),
    beta=st.floats(0.25, 2.0, width=32),
    rows=st.integers(1, 6),
)
def test_gemm(build_graph, turned, bias, alpha, beta, rows):
    weights = {"W": random(3, 4) if turned else random(4, 3)}
    if bias:
        weights["b"] = random(*bias, seed=1)
    attributes = {"transB": int(turned), "alpha": alpha, "beta": beta}
    reads = "x W b" if bias else "x W"
    model = build_graph(
        [("Gemm", reads, "y", attributes)], X, weights, ("y", "float32", ["batch", 3])
    )
    after, modified = rewritten(DecomposeGemm(), model)
    assert modified
    assert operators(after) == ["MatMul", "Add"][: 1 + bool(bias)]
    assert_same(model, after, random(rows, 4, seed=2))


def test_a_transposed_gemm_is_left_alone(build_graph):
    model = build_graph(
        [("Gemm", "x W", "y", {"transA": 1})],
        {"x": ("float32", [4, 4])},
        {"W": random(4, 3)},
        ("y", "float32", [4, 3]),
    )
    assert not rewritten(DecomposeGemm(), model)[1]


def test_a_gemm_of_computed_matrices_is_left_alone(build_graph):
    model = build_graph(
        [("Gemm", "x z", "y")],
        X | {"z": ("float32", [4, 3])},
        {},
        ("y", "float32", ["batch", 3]),
    )
    assert not rewritten(DecomposeGemm(), model)[1]


@settings(max_examples=20, deadline=None)
@given(tail=st.sampled_from([(), (5,)]), seed=st.integers(0, 99))
def test_batch_normalisation(build_graph, tail, seed):
    weights = {name: random(4, seed=seed + k) for k, name in enumerate(("g", "b", "m"))}
    weights["v"] = np.abs(random(4, seed=seed + 9)) + 0.1
    shape = ["batch", 4, *tail]
    model = build_graph(
        [("BatchNormalization", "x g b m v", "y", {"epsilon": 1e-3})],
        {"x": ("float32", shape)},
        weights,
        ("y", "float32", shape),
    )
    after, modified = rewritten(FoldBatchNorm(), model)
    assert modified
    assert operators(after) == ["Mul", "Add"]
    assert_same(model, after, random(3, 4, *tail, seed=seed))


@pytest.mark.parametrize(("power", "fires"), [(2.0, True), (3.0, False), (0.5, False)])
def test_squares(build_graph, power, fires):
    model = build_graph(
        [("Pow", "x e", "y")],
        X,
        {"e": np.array(power, np.float32)},
        ("y", "float32", ["batch", 4]),
    )
    after, modified = rewritten(SquareAsProduct(), model)
    assert modified is fires
    assert operators(after) == (["Mul"] if fires else ["Pow"])
    assert_same(model, after, np.abs(random(3, 4)))
