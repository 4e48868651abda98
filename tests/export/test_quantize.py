import logging
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fuserank.export.pretrained import load_pretrained
from fuserank.export.quantize import quantize_int8
from fuserank.export.trace import trace_encoder, write_graph


@pytest.fixture(params=["bert", "distilbert", "roberta"])
def pretrained(request, tiny_model):
    return load_pretrained(tiny_model(request.param))


def traced(pretrained, folder):
    write_graph(trace_encoder(pretrained).graph, folder)
    return folder / "model.onnx"


def embed(model: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_int8_stays_close_and_is_smaller(pretrained, film_texts, tmp_path):
    source = traced(pretrained, tmp_path)
    before = source.read_bytes()
    quantize_int8(source, tmp_path / "int8.onnx")

    inputs = dict(
        pretrained.tokenizer(film_texts, padding=True, truncation=True, return_tensors="np")
    )
    reference, found = (embed(m, inputs) for m in (before, (tmp_path / "int8.onnx").read_bytes()))
    cosines = (reference * found).sum(1) / np.linalg.norm(reference, axis=1)
    assert (cosines / np.linalg.norm(found, axis=1)).min() >= 0.99
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.onnx", "model.onnx"]


def test_every_matrix_is_int8_and_signed_per_channel(pretrained, tmp_path):
    quantize_int8(traced(pretrained, tmp_path), tmp_path / "int8.onnx")
    tensors = onnx.load(tmp_path / "int8.onnx").graph.initializer
    large = [t for t in tensors if len(t.dims) == 2 and min(t.dims) > 1]
    tables = [t for t in large if t.dims[0] in {600, 66, 2}]
    types = Counter(t.data_type for t in large if t not in tables)
    assert set(types) == {onnx.TensorProto.INT8}
    assert all(t.data_type in {onnx.TensorProto.INT8, onnx.TensorProto.UINT8} for t in tables)
    scales = [t for t in tensors if t.name.endswith("_scale") and list(t.dims) == [64]]
    assert scales, "one scale for each of the 64 columns of the inner layer"


def test_nothing_is_logged(pretrained, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        quantize_int8(traced(pretrained, tmp_path), tmp_path / "int8.onnx")
    assert caplog.records == []
