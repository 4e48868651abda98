import logging

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fuserank.engine.encoder_config import Precision
from fuserank.engine.scoring.block_scores import HAS_VNNI
from fuserank.errors import ConfigError
from fuserank.export.precision import CANDIDATES, products, sensitivity, write_precision
from fuserank.export.pretrained import load_pretrained
from fuserank.export.trace import trace_encoder, write_graph

# bf16 has tests of its own: a CPU does not run it.
SMALLER = [p for p in Precision if p not in {Precision.FP32, Precision.BF16}]
LEAST = {"fp16": 0.9999, "w8": 0.999, "int8": 0.995, "int8-dynamic": 0.998, "w4": 0.92}

LEAST_SATURATING = LEAST | {"int8": 0.94, "int8-dynamic": 0.9}
"""Where ONNX Runtime's eight-bit products saturate, as they do without VNNI."""


@pytest.fixture(scope="module", params=["bert", "distilbert", "roberta", "qwen3"])
def pretrained(request, tiny_model):
    return load_pretrained(tiny_model(request.param))


@pytest.fixture(scope="module")
def source(pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced")
    write_graph(trace_encoder(pretrained).graph, folder)
    return folder / "model.onnx"


def tokens(pretrained, texts):
    batch = pretrained.tokenizer(texts, padding=True, truncation=True, return_tensors="np")
    return dict(batch)


def embed(path, inputs):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {value.name: inputs[value.name] for value in session.get_inputs()})[0]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def batches(pretrained, film_texts):
    return [tokens(pretrained, [text]) for text in film_texts[:40]]


def right_padded(pretrained, texts):
    pretrained.tokenizer.padding_side = "right"
    return tokens(pretrained, texts)


@pytest.mark.parametrize("precision", SMALLER)
def test_stays_close_and_is_smaller(precision, pretrained, source, film_texts, batches, tmp_path):
    before = source.read_bytes()
    write_precision(source, tmp_path / "out.onnx", precision, (), batches)
    inputs = right_padded(pretrained, film_texts)
    cosines = (embed(source, inputs) * embed(tmp_path / "out.onnx", inputs)).sum(1)
    assert cosines.min() >= (LEAST if HAS_VNNI else LEAST_SATURATING)[precision]
    assert source.read_bytes() == before
    assert [path.name for path in source.parent.iterdir()] == ["model.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]
    assert (tmp_path / "out.onnx").stat().st_size < len(before)


@pytest.mark.parametrize("precision", SMALLER)
def test_nothing_is_logged_and_files_are_the_same(precision, source, batches, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        for name in "ab":
            write_precision(source, tmp_path / name, precision, (), batches)
    assert caplog.records == []
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_embeddings_do_not_depend_on_batch_mates(pretrained, source, film_texts, batches, tmp_path):
    inputs = right_padded(pretrained, film_texts)

    def differences(precision):
        write_precision(source, tmp_path / precision, precision, (), batches)
        together = embed(tmp_path / precision, inputs)[:8]
        alone = embed(tmp_path / precision, {name: ids[:8] for name, ids in inputs.items()})
        return np.abs(together - alone).max()

    for precision in (Precision.INT8, Precision.INT8_DYNAMIC, Precision.W8, Precision.W4):
        assert differences(precision) <= 1e-5


def test_a_batch_without_padding_needs_no_mask(pretrained, source, film_texts, batches, tmp_path):
    write_precision(source, tmp_path / "out.onnx", Precision.INT8, (), batches)
    padded = right_padded(pretrained, film_texts[:12])
    together = embed(tmp_path / "out.onnx", padded)
    for row, text in enumerate(film_texts[:12]):
        alone = embed(tmp_path / "out.onnx", tokens(pretrained, [text]))[0]
        # The two ways of attention differ in the last bits, which may turn a code.
        assert together[row] @ alone > 0.9999


@pytest.mark.parametrize("precision", [p for p in SMALLER if p is not Precision.FP16])
def test_what_is_kept_stays_fp32(precision, pretrained, source, film_texts, batches, tmp_path):
    inputs = right_padded(pretrained, film_texts)
    reference = embed(source, inputs)
    errors = []
    for keep in ((), products(source)):
        write_precision(source, tmp_path / "out.onnx", precision, keep, batches)
        errors.append(np.abs(embed(tmp_path / "out.onnx", inputs) - reference).max())
    assert errors[1] < errors[0]
    tensors = {t.name: t.data_type for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert all(tensors[name] == onnx.TensorProto.FLOAT for name in products(source))


def test_sensitivity_names_every_product_the_worst_first(pretrained, source, film_texts):
    found = sensitivity(source, [right_padded(pretrained, film_texts[:16])], Precision.W4)
    assert set(found) == set(products(source))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert next(iter(found.values())) > 1e-6


def test_keeping_the_most_sensitive_helps(pretrained, source, film_texts, tmp_path):
    inputs = right_padded(pretrained, film_texts)
    reference = embed(source, inputs)
    worst = next(iter(sensitivity(source, [inputs], Precision.W4)))
    losses = []
    for keep in ((), (worst,)):
        write_precision(source, tmp_path / "out.onnx", Precision.W4, keep)
        losses.append(1 - (embed(tmp_path / "out.onnx", inputs) * reference).sum(1).mean())
    assert losses[1] < losses[0]


def test_candidates_end_with_the_exact_one():
    assert CANDIDATES[-1] is Precision.FP32


def test_what_cannot_be_done_is_said(source, tmp_path):
    with pytest.raises(ConfigError, match=r"precision: found fp32, expected one of int8, "):
        write_precision(source, tmp_path / "out", Precision.FP32)
    with pytest.raises(ConfigError, match=r"no product with weights named 'nothing' to keep"):
        write_precision(source, tmp_path / "out", Precision.INT8, ["nothing"])
    with pytest.raises(ConfigError, match=r"precision fp16: found 1 weights to keep"):
        write_precision(source, tmp_path / "out", Precision.FP16, products(source)[:1])
    with pytest.raises(ConfigError, match=r"precision bf16: found 1 weights to keep"):
        write_precision(source, tmp_path / "out", Precision.BF16, products(source)[:1])
    with pytest.raises(ConfigError, match=r"found no batches, expected texts like those"):
        sensitivity(source, [])
    with pytest.raises(ConfigError, match=r"int8: found no texts, .* int8-dynamic needs none"):
        write_precision(source, tmp_path / "out", Precision.INT8)
