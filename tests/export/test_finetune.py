import json
from dataclasses import replace

import numpy as np
import pytest

from fuserank.engine.encoder import TextEncoder
from fuserank.errors import ConfigError, DataError
from fuserank.export.cli import export as app
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.finetune import FinetuneConfig, finetune
from fuserank.export.liked_pairs import LikedPairs
from fuserank.export.pretrained import load_pretrained
from fuserank.training.data.splits import SplitConfig


@pytest.fixture
def dataset(film_dataset):
    return film_dataset


CONFIG = FinetuneConfig(steps=60, batch_size=16, learning_rate=1e-3)


def test_the_loss_falls_and_the_model_can_be_exported(tiny_model, dataset, film_texts, tmp_path):
    done = []
    report = finetune(
        tiny_model("bert"),
        dataset,
        CONFIG,
        tmp_path / "tuned",
        on_progress=lambda *step: done.append(step),
    )
    assert done == [(step, 60) for step in range(1, 61)]
    assert report.n_pairs <= len(dataset.interactions)
    assert np.mean(report.losses[-10:]) < np.mean(report.losses[:10]) - 0.3

    vectors = {}
    for name, folder in (("before", tiny_model("bert")), ("after", tmp_path / "tuned")):
        export_encoder(folder, tmp_path / name, EncoderExportConfig(precision="fp32"))
        vectors[name] = TextEncoder.load(tmp_path / name).encode(film_texts).vectors
    assert np.abs(vectors["after"] - vectors["before"]).max() > 0.01
    assert closeness(vectors["after"]) > closeness(vectors["before"]) + 0.05


@pytest.mark.parametrize("json_wanted", [True, False])
def test_the_command_says_what_it_came_to(
    tiny_model, dataset, tmp_path, monkeypatch, capsys, json_wanted
):
    monkeypatch.setattr("fuserank.training.data.dataset.load_dataset", lambda path: dataset)
    options = ["--steps=3", "--batch-size=4", "--seed=7", "--split.strategy=random"]
    asked = ["--json"] if json_wanted else []
    paths = [str(tiny_model("bert")), "films.toml", str(tmp_path / "tuned")]
    app(["finetune", *paths, *options, *asked], exit_on_error=False, result_action="return_value")
    printed = capsys.readouterr().out
    config = FinetuneConfig(steps=3, batch_size=4, seed=7, split=SplitConfig(strategy="random"))
    expected = finetune(tiny_model("bert"), dataset, config, tmp_path / "again")
    if json_wanted:
        found = json.loads(printed)
        assert (tuple(found["losses"]), found["n_pairs"]) == (expected.losses, expected.n_pairs)
    else:
        assert f"3 steps on {expected.n_pairs} pairs" in " ".join(printed.split())
        assert f"{expected.losses[0]:.3f} in the first tenth" in " ".join(printed.split())
    assert load_pretrained(tmp_path / "tuned").dim == load_pretrained(tiny_model("bert")).dim


def closeness(vectors):
    """How much nearer films of one genre are than those of two."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    genre = np.arange(len(vectors)) % 5
    same = genre[:, None] == genre
    return cosines[same].mean() - cosines[~same].mean()


def test_the_same_seed_gives_the_same_weights(tiny_model, dataset, tmp_path):
    config = replace(CONFIG, steps=3)
    losses = [
        finetune(tiny_model("mpnet"), dataset, config, tmp_path / name).losses for name in "ab"
    ]
    assert losses[0] == losses[1]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (
        tmp_path / "b" / "model.safetensors"
    ).read_bytes()


def test_what_says_how_texts_are_embedded_is_kept(bert, dataset, tmp_path):
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (bert / "modules.json").write_text(
        '[{"path": "", "type": "sentence_transformers.models.Transformer"},'
        '{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},'
        '{"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]'
    )
    finetune(bert, dataset, replace(CONFIG, steps=1), tmp_path / "tuned")
    before, after = load_pretrained(bert), load_pretrained(tmp_path / "tuned")
    assert (after.pooling, after.normalized) == ("cls", True) == (before.pooling, before.normalized)
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab()


def test_without_pairs_or_texts_there_is_nothing_to_learn(tiny_model, dataset, tmp_path):
    once = np.unique(dataset.interactions.user, return_index=True)[1]
    alone = replace(dataset, interactions=dataset.interactions.select(once))
    with pytest.raises(DataError, match="found no user who likes two items that have texts"):
        finetune(tiny_model("bert"), alone, CONFIG, tmp_path / "tuned")
    fields = tuple(f for f in dataset.fields if f.name not in {"plot", "history"})
    with pytest.raises(DataError, match="found no text field of the items"):
        finetune(tiny_model("bert"), replace(dataset, fields=fields), CONFIG, tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    "option",
    [{"steps": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"warm_up": 1.5}, {"events": 0}],
)
def test_options_out_of_range_are_refused(option):
    (name,) = option
    with pytest.raises(ConfigError, match=f"finetune: {name} is"):
        FinetuneConfig(**option)


def test_a_dense_layer_behind_the_pooling_is_kept(bert, dataset, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(str(bert))
    width = transformer.get_embedding_dimension()
    modules = [transformer, Pooling(width, "mean"), Dense(width, 6)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "model"))
    finetune(tmp_path / "model", dataset, replace(CONFIG, steps=2), tmp_path / "tuned")
    report = export_encoder(
        tmp_path / "tuned", tmp_path / "encoder", EncoderExportConfig(precision="fp32")
    )
    assert report.config.dim == 6


def test_prompts_stand_before_the_texts_of_their_side(dataset):
    prompts = {"query_prompt": "query: ", "passage_prompt": "passage: "}
    batch = LikedPairs(dataset, CONFIG.split, seed=0, **prompts).draw(16, 3)
    of_items = [batch.texts[row] for row in batch.item_texts]
    assert all(text.startswith("passage: ") for text in of_items)
    assert "query: Watches a lot" in batch.texts
