"""Loading networks and tokenizers, and refusing what cannot be exported."""

import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import torch
from sentence_transformers import SentenceTransformer

from fuserank.engine.encoder_config import Pooling
from fuserank.errors import ConfigError, ExportError
from fuserank.export.pretrained import load_pretrained
from fuserank.export.trace import PooledModel, tokenized


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


def pickle_weights(folder: Path) -> Path:
    """Replace safe weights by pickled ones."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def test_pickled_weights_are_refused_unless_allowed(bert, tiny_model):
    pickle_weights(bert)
    with pytest.raises(
        ExportError,
        match=r"no weights in safetensors form; .*safe_serialization=True, or pass --allow-pickle",
    ):
        load_pretrained(bert)
    before, after = load_pretrained(tiny_model("bert")), load_pretrained(bert, allow_pickle=True)
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], tensor), name


def test_allowed_pickles_run_no_code(bert, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    (bert / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Bomb()}, bert / "pytorch_model.bin")
    with pytest.raises(ExportError, match="the model does not load"):
        load_pretrained(bert, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_missing_weights_are_named(bert):
    (bert / "model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"bert: found no weights, expected model.safetensors"):
        load_pretrained(bert)


def test_damaged_weights_are_refused(bert, tmp_path):
    content = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match=r"the model does not load"):
        load_pretrained(bert)


def test_weights_that_would_stay_random_are_refused(bert, tmp_path):
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


@pytest.mark.parametrize(("kind", "positions"), [("bert", 66), ("roberta", 64)])
def test_more_tokens_than_positions_are_refused(kind, positions, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match=rf"max_tokens: found 67, expected at most {positions}"):
        load_pretrained(tiny_model(kind), max_tokens=67)


def test_weights_of_another_size_are_named(bert):
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))
    with pytest.raises(ExportError, match=r"the model does not load: .*size mismatch for"):
        load_pretrained(bert)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "x--y.Z"}}, r"code of its own \(x--y.Z\), expected bert as"),
        ({"rope_scaling": {"rope_type": "dynamic"}}, r"rotary embeddings of type 'dynamic'"),
        ({"vocab_size": 20}, r"the model does not load|a tokenizer of \d+ tokens, expected at"),
    ],
)
def test_models_that_cannot_be_exported_are_refused(change, message, bert):
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ExportError, match=message):
        load_pretrained(bert)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pad_token": None}, r"a tokenizer without padding token, expected one"),
        ({"truncation_side": "left"}, r"cuts the beginning of long texts"),
        ({"chat_template": "{{ messages }}"}, r"a model for conversations .* modules.json"),
    ],
)
def test_tokenizers_that_the_engine_does_not_follow_are_refused(change, message, bert):
    path = bert / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    if "pad_token" in change:
        (bert / "special_tokens_map.json").unlink()
        path.write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 66})
        )
    with pytest.raises(ExportError, match=message):
        load_pretrained(bert)


def test_a_padding_token_other_than_the_counted_one_is_refused(tiny_model, tmp_path):
    folder = Path(shutil.copytree(tiny_model("roberta"), tmp_path / "roberta"))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": 3}))
    with pytest.raises(ExportError, match=r"pads with token 1, expected 3, by which the model cou"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("architectures", "pooling"),
    [(["Qwen3ForCausalLM"], Pooling.LAST), (["Qwen3Model"], Pooling.MEAN)],
)
def test_a_bare_decoder_is_pooled_as_sentence_transformers_pools_it(
    architectures, pooling, tiny_model, film_texts, tmp_path
):
    folder = Path(shutil.copytree(tiny_model("qwen3"), tmp_path / "qwen3"))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": architectures}))
    pretrained = load_pretrained(folder)
    assert pretrained.pooling is pooling
    reference = SentenceTransformer(str(folder), device="cpu").encode(film_texts[:7])
    with torch.inference_mode():
        found = PooledModel(pretrained)(**tokenized(pretrained, film_texts[:7])).numpy()
    np.testing.assert_allclose(found, reference, atol=1e-4)
