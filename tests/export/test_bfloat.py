"""bfloat16, which a CPU does not run: the graph's types, and the numbers by rounding as it does."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from fuserank.errors import ConfigError
from fuserank.export.passes import NarrowFloats
from fuserank.export.precision import products
from fuserank.export.precision.bfloat import write_bf16, write_simulated
from fuserank.export.pretrained import load_pretrained
from fuserank.export.trace import trace_encoder, write_graph

BFLOAT16, FLOAT = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT
DECODERS = {"llama", "qwen3"}


@pytest.fixture(
    scope="module",
    params=["bert", "distilbert", "mpnet", "modernbert", "roberta", *sorted(DECODERS)],
)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def pretrained(kind, tiny_model):
    return load_pretrained(tiny_model(kind))


@pytest.fixture(scope="module")
def written(pretrained, tmp_path_factory):
    """Return the directory of a graph, in float32, in bfloat16 and simulated."""
    folder = tmp_path_factory.mktemp("traced")
    write_graph(trace_encoder(pretrained).graph, folder)
    write_bf16(folder / "model.onnx", folder / "bf16.onnx")
    write_simulated(folder / "bf16.onnx", folder / "simulated.onnx")
    return folder


def embed(path, inputs):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {value.name: inputs[value.name] for value in session.get_inputs()})[0]


def tokens(pretrained, texts):
    pretrained.tokenizer.padding_side = "right"
    return dict(pretrained.tokenizer(texts, padding=True, truncation=True, return_tensors="np"))


def test_every_product_has_weights_in_bfloat16_and_the_output_is_float32(kind, written):
    model = onnx.load(written / "bf16.onnx")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    multiplied = products(written / "bf16.onnx")
    assert len(multiplied) == len(products(written / "model.onnx")) > 0
    assert {types[name] for name in multiplied} == {BFLOAT16}
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [FLOAT]
    assert {value.type.tensor_type.elem_type for value in model.graph.input} == {
        onnx.TensorProto.INT64
    }
    if kind not in DECODERS:  # which have an operator that is in no opset
        onnx.checker.check_model(model)


def test_types_agree_so_that_only_kernels_are_missing_on_a_cpu(written):
    # ONNX Runtime checks types first: what two inputs of one type disagree in is another error.
    with pytest.raises(Exception, match="NOT_IMPLEMENTED : Could not find an implementation for"):
        embed(written / "bf16.onnx", {})


def test_rounded_as_a_device_rounds_embeddings_stay_close(pretrained, written, film_texts):
    inputs = tokens(pretrained, film_texts)
    exact = embed(written / "model.onnx", inputs)
    rounded = embed(written / "simulated.onnx", inputs)
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
    cosines = (exact * rounded).sum(axis=1) / norms
    assert cosines.min() >= 0.9995
    # Nor is it a graph that rounds nothing.
    assert np.abs(exact - rounded).max() > 1e-4


def test_positions_and_masks_stay_float32(written):
    model = ir.from_proto(onnx.load(written / "bf16.onnx"))
    for node in model.graph:
        if node.op_type in {"Cos", "Sin", "Log", "ReduceSum", "Sqrt"}:
            assert all(value.dtype is not ir.DataType.BFLOAT16 for value in node.inputs)


def test_files_are_the_same_and_the_source_stays(written, tmp_path):
    before = (written / "model.onnx").read_bytes()
    write_bf16(written / "model.onnx", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (written / "bf16.onnx").read_bytes()
    assert (written / "model.onnx").read_bytes() == before


def test_nothing_can_be_kept(tmp_path):
    with pytest.raises(ConfigError, match=r"bf16: found 1 weights to keep .* use .* fp32"):
        write_bf16(tmp_path / "none", tmp_path / "out", ["weights"])


X = {"x": ("int64", ["batch", 3])}


def lookup_and_product(build_graph):
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((7, 4)).astype(np.float32),
        "W": rng.standard_normal((4, 5)).astype(np.float32),
        "least": np.float32(np.finfo(np.float32).min),
    }
    nodes = [
        ("Gather", "table x", "rows", {}),
        ("MatMul", "rows W", "z", {}),
        ("Max", "z least", "y", {}),
    ]
    return build_graph(nodes, X, weights, ("y", "float32", ["batch", 3, 5]))


def test_a_product_is_that_of_rounded_factors(build_graph, tmp_path):
    model = ir.from_proto(onnx.shape_inference.infer_shapes(lookup_and_product(build_graph)))
    NarrowFloats()(model)
    narrow = ir.to_proto(model)
    onnx.checker.check_model(narrow, full_check=True)
    ids = np.arange(6).reshape(2, 3)
    found = ReferenceEvaluator(narrow).run(None, {"x": ids})[0]
    table, weights = (
        tensor.astype(ml_dtypes.bfloat16).astype(np.float32)
        for tensor in (onnx.numpy_helper.to_array(t) for t in source_weights(build_graph))
    )
    exact = table[ids] @ weights
    assert found.dtype == np.float32
    # The product itself is rounded: to eight bits, of numbers that it may have added in them.
    np.testing.assert_allclose(found, exact, rtol=2**-6, atol=2**-6)
    (tmp_path / "narrow").write_bytes(narrow.SerializeToString())
    write_simulated(tmp_path / "narrow", tmp_path / "simulated")
    simulated = embed(tmp_path / "simulated", {"x": ids})
    expected = exact.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_allclose(simulated, expected, rtol=2**-8)


def source_weights(build_graph):
    found = {tensor.name: tensor for tensor in lookup_and_product(build_graph).graph.initializer}
    return found["table"], found["W"]


def test_the_least_float_does_not_become_an_infinity(build_graph):
    model = ir.from_proto(onnx.shape_inference.infer_shapes(lookup_and_product(build_graph)))
    NarrowFloats()(model)
    held = [value.const_value.numpy() for value in model.graph.initializers.values()]
    assert all(np.isfinite(array.astype(np.float64)).all() for array in held)
