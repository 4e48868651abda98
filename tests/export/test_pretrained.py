import json
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import Pooling, Precision
from fuserank.errors import ConfigError, ExportError
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.pretrained import load_pretrained


def write_layout(folder: Path, pooling: dict[str, object], **files: object) -> None:
    """Write what sentence-transformers adds to a model, in the form of its first versions."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ]
    (folder / "1_Pooling").mkdir()
    contents = {"1_Pooling/config": pooling, "modules": modules, **files}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


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
    config = export_encoder(
        bert, tmp_path / "out", EncoderExportConfig(precision=Precision.FP32)
    ).config

    assert (config.pooling, config.max_tokens, config.prompt) == (Pooling.CLS, 20, "film: ")
    encoder = TextEncoder.load(tmp_path / "out")
    found = encoder.encode(film_texts).vectors
    np.testing.assert_allclose(found, reference.encode(film_texts), atol=1e-5)
    np.testing.assert_array_equal(
        encoder.encode(["ALIEN"]).vectors, encoder.encode(["alien"]).vectors
    )


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"nowhere': no such folder; pass a local folder"):
        load_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["someone/some-model", "not//a name"])
def test_a_hub_that_does_not_answer_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ExportError, match=rf"model '{name}': .* the hub .*; pass a local folder"):
        load_pretrained(name)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"config.json: missing; expected a folder with a"):
        load_pretrained(tmp_path)


def test_broken_json_is_named(bert, tmp_path):
    (bert / "config.json").write_text("{")
    with pytest.raises(ExportError, match=r"config.json: expected JSON, found"):
        load_pretrained(bert)


def test_other_architectures_are_refused_with_a_list(bert, tmp_path):
    (bert / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ExportError, match=r"found model_type 'gpt2', expected one of bert, camem"):
        load_pretrained(bert)


def test_pickled_weights_are_refused(bert, tmp_path):
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(
        ExportError, match=r"no weights in safetensors form; .*safe_serialization=True"
    ):
        load_pretrained(bert)


def test_damaged_weights_are_refused(bert, tmp_path):
    content = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match=r"the model does not load"):
        load_pretrained(bert)


def test_weights_that_would_stay_random_are_refused(bert, tmp_path):
    import safetensors.torch

    weights = safetensors.torch.load_file(bert / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ExportError, match=r"lack 1 tensors .* 'encoder.layer.1.output.dense.weight'"
    ):
        load_pretrained(bert)


def test_a_slow_tokenizer_is_refused(bert, tmp_path):
    for path in bert.glob("*token*"):
        path.unlink()
    (bert / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CanineTokenizer"}))
    with pytest.raises(ExportError, match=r"only a slow tokenizer \(CanineTokenizer\)"):
        load_pretrained(bert)


def test_a_missing_tokenizer_is_refused(bert, tmp_path):
    for path in [*bert.glob("*token*"), *bert.glob("vocab*")]:
        path.unlink()
    with pytest.raises(ExportError, match=r"the tokenizer does not load"):
        load_pretrained(bert)


def test_other_modules_are_refused(bert, tmp_path):
    write_layout(bert, {"pooling_mode": "mean"})
    modules = json.loads((bert / "modules.json").read_text())
    modules.append({"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (bert / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ExportError, match=r"found modules \['Transformer', 'Pooling', 'Dense'\]"):
        load_pretrained(bert)


@pytest.mark.parametrize("pooling", ["max", ["mean", "cls"]])
def test_other_pooling_is_refused(pooling, bert, tmp_path):
    write_layout(bert, {"pooling_mode": pooling})
    with pytest.raises(ExportError, match=r"found pooling \[.*\], expected one of mean, cls"):
        load_pretrained(bert)


def test_pooling_without_the_prompt_is_refused(bert, tmp_path):
    write_layout(
        bert,
        {"pooling_mode": "mean", "include_prompt": False},
        config_sentence_transformers={"prompts": {"a": "film: "}, "default_prompt_name": "a"},
    )
    with pytest.raises(ExportError, match="include_prompt false"):
        load_pretrained(bert)


@pytest.mark.parametrize(("kind", "positions"), [("bert", 66), ("roberta", 64)])
def test_more_tokens_than_positions_are_refused(kind, positions, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match=rf"max_tokens: found 67, expected at most {positions}"):
        load_pretrained(tiny_model(kind), max_tokens=67)
