"""The files of sentence-transformers: modules, pooling, limits, prompts, truncation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import Pooling, Precision, TextRole
from fuserank.errors import ConfigError, ExportError
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.pretrained import load_pretrained

FP32 = EncoderExportConfig(precision=Precision.FP32)


def write_layout(folder: Path, pooling: dict[str, object], **files: object) -> None:
    """Write what sentence-transformers adds to a model, in the form of its first versions."""
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {"idx": 0, "name": kind, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for kind, path in kinds.items()
    ]
    (folder / "1_Pooling").mkdir()
    contents = {"1_Pooling/config": pooling, "modules": modules, **files}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def save(bert: Path, folder: Path, *modules: torch.nn.Module, **options: object) -> Path:
    """Save a model whose pooling is followed by modules."""
    torch.manual_seed(1)
    first = [Transformer(str(bert)), PoolingModule(32)]
    model = SentenceTransformer(modules=[*first, *modules], device="cpu", **options)
    model.save(str(folder), create_model_card=False)
    return folder


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def exported(model: Path, out: Path, **options: object) -> TextEncoder:
    export_encoder(model, out, replace(FP32, **options))
    return TextEncoder.load(out)


def assert_close(found, expected):
    tolerance = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_reads_the_files_of_first_versions(bert, film_texts, tmp_path):
    write_layout(
        bert,
        {
            "word_embedding_dimension": 32,
            "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": False,
        },
        sentence_bert_config={"max_seq_length": 20, "do_lower_case": True},
        config_sentence_transformers={
            "prompts": {"query": "search: ", "passage": "film: "},
            "default_prompt_name": "passage",
        },
    )
    reference = SentenceTransformer(str(bert), device="cpu")
    encoder = exported(bert, tmp_path / "out")
    config = encoder.config

    assert (config.pooling, config.max_tokens) == (Pooling.CLS, 20)
    assert_close(encoder.encode(film_texts).vectors, reference.encode(film_texts))
    found = encoder.encode(film_texts, TextRole.QUERY).vectors
    assert_close(found, reference.encode_query(film_texts))
    np.testing.assert_array_equal(
        encoder.encode(["ALIEN"]).vectors, encoder.encode(["alien"]).vectors
    )


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({}, None, ("", "")),
        ({"query": "q: ", "document": "d: "}, None, ("q: ", "d: ")),
        ({"query": "q: ", "document": "", "passage": "p: "}, None, ("q: ", "p: ")),
        ({"query": "q: ", "corpus": "c: "}, "query", ("q: ", "c: ")),
        ({"query": "q: ", "document": ""}, "query", ("q: ", "")),
        ({"query": "", "passage": "p: "}, "passage", ("", "p: ")),
        ({"all": "text: "}, "all", ("text: ", "text: ")),
        ({"all": "text: ", "query": "q: "}, "all", ("q: ", "text: ")),
        ({"topic": "t: "}, None, ("", "")),
    ],
)
def test_each_role_has_its_prompt(prompts, default, expected, bert):
    general = {"prompts": prompts, "default_prompt_name": default}
    write_layout(bert, {"pooling_mode": "mean"}, config_sentence_transformers=general)
    found = load_pretrained(bert)
    assert (found.query_prompt, found.passage_prompt) == expected


def test_prompts_that_are_asked_for_win(bert, tmp_path):
    general = {"prompts": {"query": "q: ", "document": "d: "}}
    write_layout(bert, {"pooling_mode": "mean"}, config_sentence_transformers=general)
    config = exported(bert, tmp_path / "out", query_prompt="", passage_prompt="film: ").config
    assert (config.query_prompt, config.passage_prompt) == ("", "film: ")


def test_a_default_prompt_that_is_not_there_is_named(bert):
    general = {"prompts": {"query": "q: "}, "default_prompt_name": "films"}
    write_layout(bert, {"pooling_mode": "mean"}, config_sentence_transformers=general)
    with pytest.raises(ExportError, match=r"default_prompt_name 'films', expected one of \['query"):
        load_pretrained(bert)


def test_pooling_without_the_prompt_is_refused(bert):
    write_layout(
        bert,
        {"pooling_mode": "mean", "include_prompt": False},
        config_sentence_transformers={"prompts": {"a": "film: "}, "default_prompt_name": "a"},
    )
    with pytest.raises(ExportError, match=r"include_prompt false and a prompt; .* prompts to ''"):
        load_pretrained(bert)
    assert load_pretrained(bert, query_prompt="", passage_prompt="").query_prompt == ""


@pytest.mark.parametrize("pooling", ["weightedmean", ["mean", "cls"]])
def test_other_pooling_is_refused(pooling, bert):
    write_layout(bert, {"pooling_mode": pooling})
    with pytest.raises(
        ExportError, match=r"found pooling \[.*\], expected one of mean, cls, lastt"
    ):
        load_pretrained(bert)


@pytest.mark.parametrize(
    "head",
    [
        lambda: [Dense(32, 48)],
        lambda: [Dense(32, 24, bias=False, activation_function=torch.nn.Identity()), Normalize()],
        lambda: [
            Dense(32, 64, activation_function=torch.nn.GELU()),
            Normalize(),
            Dense(64, 16, activation_function=torch.nn.ReLU()),
        ],
    ],
)
def test_what_follows_the_pooling_is_in_the_graph(head, bert, film_texts, tmp_path):
    modules = head()
    folder = save(bert, tmp_path / "saved", *modules)
    encoder = exported(folder, tmp_path / "out")
    reference = SentenceTransformer(str(folder), device="cpu").encode(film_texts)
    assert_close(encoder.encode(film_texts).vectors, reference)
    assert encoder.dim == reference.shape[1]
    assert encoder.config.normalized is isinstance(modules[-1], Normalize)


@pytest.mark.parametrize("normalized", [False, True])
def test_a_cut_keeps_the_first_numbers_and_the_length(normalized, bert, film_texts, tmp_path):
    folder = save(bert, tmp_path / "saved", *[Normalize()] * normalized, truncate_dim=24)
    model = SentenceTransformer(str(folder), device="cpu")
    encoder = exported(folder, tmp_path / "out")
    expected = model.encode(film_texts, normalize_embeddings=normalized)
    assert encoder.dim == 24
    assert_close(encoder.encode(film_texts).vectors, expected)

    encoder = exported(folder, tmp_path / "out", dim=8)
    expected = model.encode(film_texts, normalize_embeddings=normalized, truncate_dim=8)
    assert_close(encoder.encode(film_texts).vectors, expected)
    assert exported(folder, tmp_path / "out", dim=32).dim == 32, "an option wins over the file"


def test_a_cut_to_more_numbers_than_there_are_is_refused(bert):
    with pytest.raises(ConfigError, match=r"dim: found 33, expected at most 32"):
        load_pretrained(bert, dim=33)


def test_other_modules_are_named(bert, tmp_path):
    folder = save(bert, tmp_path / "saved")
    modules = json.loads((folder / "modules.json").read_text())
    for kind, message in (
        ("sentence_transformers.sentence_transformer.modules.LSTM", "'LSTM' cannot be exported"),
        ("my_code.Normalize", "'my_code.Normalize' cannot be exported"),
        ("sentence_transformers.models.Pooling", "in another order they cannot be run"),
    ):
        more = [*modules, {"path": "2_More", "type": kind}]
        (folder / "modules.json").write_text(json.dumps(more))
        with pytest.raises(ExportError, match=message):
            load_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_features": 31}, r"2_Dense: found in_features 31, expected 32, the width of what"),
        ({"out_features": 9}, r"does not load: .*size mismatch.*expected a weight of \(9, 32\)"),
        ({"activation_function": "my.Gate"}, r"activation_function 'my.Gate', expected one of"),
        ({"module_input_name": "token_embeddings"}, r"a Dense module over tokens cannot be"),
        ({"bias": False}, r"does not load: .*bias"),
    ],
)
def test_dense_layers_that_do_not_fit_are_named(changes, message, bert, tmp_path):
    folder = save(bert, tmp_path / "saved", Dense(32, 8))
    edit(folder / "2_Dense" / "config.json", **changes)
    with pytest.raises(ExportError, match=message):
        load_pretrained(folder)


def test_pickled_dense_layers_are_refused_unless_allowed(bert, tmp_path):
    from safetensors.torch import load_file

    folder = save(bert, tmp_path / "saved", Dense(32, 8))
    weights = load_file(folder / "2_Dense" / "model.safetensors")
    torch.save(weights, folder / "2_Dense" / "pytorch_model.bin")
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"2_Dense: found no weights in safetensors form"):
        load_pretrained(folder)
    head = load_pretrained(folder, allow_pickle=True).head
    assert torch.equal(head[0].weight, weights["linear.weight"])


def test_a_width_other_than_that_of_the_network_is_named(bert):
    write_layout(bert, {"pooling_mode": "mean", "word_embedding_dimension": 48})
    with pytest.raises(ExportError, match=r"found a hidden_size of 32, expected 48 as the Pooling"):
        load_pretrained(bert)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config_kwargs": {"is_decoder": True}}, r"found config_kwargs with \['is_decoder'\]"),
        ({"processor_kwargs": {"cut": 1}}, r"found processor_kwargs with \['cut'\]"),
        ({"modality_config": {"message": {}}}, r"reads texts as conversations"),
    ],
)
def test_options_that_change_how_texts_are_read_are_refused(options, message, bert):
    write_layout(bert, {"pooling_mode": "mean"}, sentence_bert_config=options)
    with pytest.raises(ExportError, match=message):
        load_pretrained(bert)
