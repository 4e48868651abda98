"""Every architecture: the exported graph embeds as sentence-transformers does, and is fused."""

import logging

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import Precision
from fuserank.export.attention import one_operator_each
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.pretrained import SUPPORTED_MODEL_TYPES, load_pretrained
from fuserank.export.trace import trace_encoder

FP32 = EncoderExportConfig(precision=Precision.FP32)
DECODERS = ("llama", "mistral", "qwen2", "qwen3")
TO_SENTENCE_TRANSFORMERS = {"last": "lasttoken"}
COMBINATIONS = [
    *((kind, "last" if kind in DECODERS else "mean") for kind in SUPPORTED_MODEL_TYPES),
    *((kind, "cls") for kind in ("bert", "distilbert", "mpnet", "modernbert", "roberta")),
    *((kind, "max") for kind in ("bert", "xlm-roberta", "qwen3")),
    *((kind, "mean") for kind in DECODERS),
    ("bert", "last"),
]


def saved(kind, pooling, normalized, tiny_model, folder):
    """Save a model as sentence-transformers does, and return it."""
    transformer = Transformer(str(tiny_model(kind)))
    mode = TO_SENTENCE_TRANSFORMERS.get(pooling, pooling)
    modules = [transformer, Pooling(32, pooling_mode=mode)] + [Normalize()] * normalized
    model = SentenceTransformer(modules=modules, device="cpu")
    model.save(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


def assert_close(found, expected):
    tolerance = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("kind", "pooling"), COMBINATIONS)
@pytest.mark.parametrize("normalized", [False, True])
def test_embeds_as_sentence_transformers_does(
    kind, pooling, normalized, tiny_model, film_texts, tmp_path
):
    reference = saved(kind, pooling, normalized, tiny_model, tmp_path / "saved")
    report = export_encoder(tmp_path / "saved", tmp_path / "out", FP32)

    encoder = TextEncoder.load(tmp_path / "out")
    # Longer than the traced example, than a local window and, the last, than the model takes.
    texts = [*film_texts, "Alien", " ".join(film_texts[:4])]
    assert_close(encoder.encode(texts).vectors, reference.encode(texts))
    assert report.config.pooling == pooling
    assert report.config.normalized is normalized
    assert report.config.max_tokens == min(
        reference.max_seq_length, 66 if kind not in ("camembert", "mpnet") else 64
    )
    assert report.max_abs_error <= 1e-5 * max(1, np.abs(reference.encode(texts)).max())


@pytest.mark.parametrize("kind", SUPPORTED_MODEL_TYPES)
def test_fuses_all_that_its_architecture_gives(kind, tiny_model):
    pretrained = load_pretrained(tiny_model(kind))
    traced = trace_encoder(pretrained)
    assert traced.missed == {}
    expected = pretrained.architecture.expected(pretrained.model.config)
    assert {name: traced.fused[name] for name in expected} == expected
    assert "Softmax" not in {node.op_type for node in traced.graph.graph.node}


@pytest.mark.parametrize("kind", ["bert", "modernbert", "qwen3"])
def test_quantizes(kind, tiny_model, film_texts, tmp_path):
    report = export_encoder(tiny_model(kind), tmp_path / "out")
    assert report.mean_cosine >= 0.97
    assert np.isfinite(TextEncoder.load(tmp_path / "out").encode(film_texts).vectors).all()


@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "modernbert", "mistral", "qwen3"])
def test_layers_compute_the_same_while_they_are_traced_as_operators(kind, tiny_model):
    model = load_pretrained(tiny_model(kind)).model
    ids = torch.randint(5, 200, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(40) < torch.tensor([40, 25, 1])[:, None]).long()
    inputs = {"input_ids": ids, "attention_mask": mask}
    with torch.inference_mode():
        before = model(**inputs).last_hidden_state
        with one_operator_each(model):
            during = model(**inputs).last_hidden_state
        after = model(**inputs).last_hidden_state
    real = mask.bool()
    torch.testing.assert_close(during[real], before[real], rtol=0, atol=2e-5)
    assert torch.equal(after, before), "the model is as it was"


def test_what_did_not_fuse_is_said(tiny_model, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("fuserank.export.trace._fuse", lambda graph, config: graph)
    with caplog.at_level(logging.WARNING):
        report = export_encoder(tiny_model("bert"), tmp_path / "out", FP32)
    assert report.missed == {
        "EmbedLayerNormalization": 1,
        "Attention": 2,
        "SkipLayerNormalization": 4,
        "BiasGelu": 2,
    }
    assert "the graph lacks 1 EmbedLayerNormalization, 2 Attention" in caplog.text


def test_the_graph_holds_no_table_of_positions(tiny_model):
    graph = trace_encoder(load_pretrained(tiny_model("qwen3"))).graph
    names = {tensor.name for tensor in graph.graph.initializer}
    assert not {"cos_cache", "sin_cache"} & names
