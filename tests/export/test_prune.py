import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.scoring.block_scores import HAS_VNNI
from fuserank.errors import ConfigError, DataError
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.importance import measure
from fuserank.export.pretrained import load_pretrained
from fuserank.export.prunable import prunable_layers
from fuserank.export.prune import PruneConfig, prune

CONFIG = PruneConfig(heads=0.25, width=0.25, steps=0, samples=64, batch_size=16)
FP32 = EncoderExportConfig(precision="fp32")
WITH_HEADS = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
WIDTH_ALONE = ("llama", "mistral", "modernbert", "mpnet", "qwen2", "qwen3")


@pytest.mark.parametrize("kind", WITH_HEADS)
def test_heads_and_width_go_and_the_export_equals_sentence_transformers(
    tiny_model, film_texts, tmp_path, kind
):
    from sentence_transformers import SentenceTransformer

    report = prune(tiny_model(kind), film_texts, CONFIG, tmp_path / "small")
    assert (report.heads_before, report.heads) == ((4, 4), (3, 3))
    assert (report.width_before, report.width) == (64, 48)
    assert report.n_parameters < report.n_parameters_before
    config = load_pretrained(tmp_path / "small").model.config
    assert {layer: len(heads) for layer, heads in config.pruned_heads.items()} == {0: 1, 1: 1}

    exported = export_encoder(tmp_path / "small", tmp_path / "encoder", FP32)
    assert exported.missed == {}
    ours = TextEncoder.load(tmp_path / "encoder").encode(film_texts[:20]).vectors
    theirs = SentenceTransformer(str(tmp_path / "small"), device="cpu").encode(film_texts[:20])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_what_has_fewer_heads_can_be_quantized(tiny_model, film_texts, tmp_path):
    prune(tiny_model("bert"), film_texts, CONFIG, tmp_path / "small")
    int8 = EncoderExportConfig(precision="int8")
    report = export_encoder(tmp_path / "small", tmp_path / "encoder", int8)
    assert report.mean_cosine > (0.99 if HAS_VNNI else 0.97)


@pytest.mark.parametrize("kind", WIDTH_ALONE)
def test_other_architectures_lose_width_alone(tiny_model, film_texts, tmp_path, kind):
    with pytest.raises(ConfigError, match=f"heads is 0.25, expected 0 for a model of type {kind}"):
        prune(tiny_model(kind), film_texts, CONFIG, tmp_path / "small")
    report = prune(tiny_model(kind), film_texts, replace(CONFIG, heads=0.0), tmp_path / "small")
    assert (report.width, len(set(report.heads + report.heads_before))) == (48, 1)
    assert load_pretrained(tmp_path / "small").model.config.intermediate_size == 48
    export_encoder(tmp_path / "small", tmp_path / "encoder", FP32)


def test_what_adds_nothing_goes_first(bert, film_texts, tmp_path):
    pretrained = load_pretrained(bert)
    layers = prunable_layers(pretrained.model)
    with torch.no_grad():
        for layer in layers:
            layer.out_of.weight[:, 5:13] = 0.0
            layer.attended.weight[:, 16:24] = 0.0  # the third of four heads
    pretrained.model.save_pretrained(bert)
    importance = measure(pretrained, film_texts, n=32, seed=0)
    for of_neurons, of_heads in zip(importance.neurons, importance.heads, strict=True):
        assert set(torch.nonzero(of_neurons == 0).flatten().tolist()) == set(range(5, 13))
        assert torch.nonzero(of_heads == 0).flatten().tolist() == [2]

    report = prune(bert, film_texts, replace(CONFIG, width=8 / 64), tmp_path / "small")
    assert report.imitation.min_before > 1 - 1e-6
    small = load_pretrained(tmp_path / "small").model
    assert small.config.pruned_heads == {0: [2], 1: [2]}
    for mine, before in zip(prunable_layers(small), layers, strict=True):
        kept = torch.cat([before.out_of.weight[:, :5], before.out_of.weight[:, 13:]], dim=1)
        assert torch.equal(mine.out_of.weight, kept)


def test_importance_is_how_much_the_embedding_changes(tiny_model, film_texts):
    """A gate's exact derivative, by all directions in turn instead of random ones."""
    pretrained = load_pretrained(tiny_model("bert"))
    from fuserank.export.importance import _embed

    gate = torch.ones(1, requires_grad=True)
    layer = prunable_layers(pretrained.model)[0]

    def close(_, given):
        return (torch.cat([given[0][..., :7], gate * given[0][..., 7:8], given[0][..., 8:]], -1),)

    handle = layer.out_of.register_forward_pre_hook(close)
    embedding = _embed(pretrained, film_texts[:1])[0]
    slopes = [torch.autograd.grad(x, gate, retain_graph=True)[0] for x in embedding]
    handle.remove()
    exact = float(torch.cat(slopes).square().sum())
    drawn = [
        float(measure(pretrained, film_texts[:1], n=1, seed=seed).neurons[0][7])
        for seed in range(300)
    ]
    assert np.mean(drawn) == pytest.approx(exact, rel=0.3)


def test_what_is_left_learns_to_make_up_for_the_rest(tiny_model, film_texts, tmp_path):
    config = replace(CONFIG, steps=40, learning_rate=1e-3, width=0.5)
    found = prune(tiny_model("bert"), film_texts, config, tmp_path / "small").imitation
    assert len(found.losses) == 40
    assert found.mean_after > found.mean_before


def test_a_pruned_model_can_be_pruned_again(tiny_model, film_texts, tmp_path):
    prune(tiny_model("bert"), film_texts, CONFIG, tmp_path / "small")
    config = replace(CONFIG, heads=1 / 3)
    report = prune(tmp_path / "small", film_texts, config, tmp_path / "smaller")
    assert (report.heads_before, report.heads, report.width) == ((3, 3), (2, 2), 36)
    pruned = load_pretrained(tmp_path / "smaller").model.config.pruned_heads
    assert {layer: len(set(heads)) for layer, heads in pruned.items()} == {0: 2, 1: 2}
    export_encoder(tmp_path / "smaller", tmp_path / "encoder", FP32)


def test_the_same_seed_gives_the_same_weights(tiny_model, film_texts, tmp_path):
    config = replace(CONFIG, steps=2)
    reports = [prune(tiny_model("distilbert"), film_texts, config, tmp_path / n) for n in "ab"]
    assert reports[0].imitation == reports[1].imitation
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b


@pytest.mark.parametrize(
    "options", [{"heads": 1.0}, {"width": -0.1}, {"samples": 0}, {"width": 0.0}, {"steps": -1}]
)
def test_options_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"prune: {name} is"):
        PruneConfig(**options)


def test_without_texts_nothing_is_measured(tiny_model, tmp_path):
    with pytest.raises(DataError, match="texts: found 0 that differ"):
        prune(tiny_model("bert"), [], CONFIG, tmp_path / "small")
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("json_wanted", [True, False])
def test_the_command_says_what_it_came_to(
    tiny_model, film_dataset, tmp_path, monkeypatch, capsys, json_wanted
):
    from fuserank.export.cli import export as app

    monkeypatch.setattr("fuserank.training.data.dataset.load_dataset", lambda path: film_dataset)
    paths = [str(tiny_model("bert")), "films.toml", str(tmp_path / "small")]
    options = ["--heads=0.25", "--steps=1", *(["--json"] if json_wanted else [])]
    app(["prune", *paths, *options], exit_on_error=False, result_action="return_value")
    printed = capsys.readouterr().out
    if json_wanted:
        found = json.loads(printed)
        assert (found["heads"], found["width"]) == ([3, 3], 48)
    else:
        assert "6 of 8 heads, feed-forward layers of 48 for 64" in " ".join(printed.split())
    assert load_pretrained(tmp_path / "small").model.config.intermediate_size == 48
