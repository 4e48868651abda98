import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fuserank.engine.encoder import TextEncoder
from fuserank.errors import ConfigError, DataError, ExportError
from fuserank.export.distil import DistilConfig, distil
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.excerpts import divide, with_excerpts
from fuserank.export.imitation import Imitation
from fuserank.export.pretrained import load_pretrained
from fuserank.export.texts import texts_of
from fuserank.schema import Kind

CONFIG = DistilConfig(layers=1, steps=60, batch_size=16, learning_rate=1e-3)
FP32 = EncoderExportConfig(precision="fp32")


def test_the_student_comes_nearer_and_can_be_exported(tiny_model, film_texts, tmp_path):
    done = []
    report = distil(
        tiny_model("bert"),
        film_texts,
        CONFIG,
        tmp_path / "student",
        on_progress=lambda *step: done.append(step),
    )
    assert done == [(step, 60) for step in range(1, 61)]
    assert (report.taken, report.n_layers) == ((1,), 2)
    assert report.n_parameters < report.n_parameters_before
    found = report.imitation
    assert found.n_held_out == 5
    assert found.n_texts > 2 * len(film_texts)
    assert found.min_before <= found.mean_before < found.mean_after <= 1.0
    assert found.min_after <= found.mean_after
    assert np.mean(found.losses[-10:]) < np.mean(found.losses[:10])

    student = load_pretrained(tmp_path / "student")
    assert student.model.config.num_hidden_layers == 1
    exported = export_encoder(tmp_path / "student", tmp_path / "encoder", FP32)
    assert (exported.fused["Attention"], exported.missed) == (1, {})


def test_the_export_embeds_as_sentence_transformers_reads_the_student(
    tiny_model, film_texts, tmp_path
):
    from sentence_transformers import SentenceTransformer

    distil(tiny_model("bert"), film_texts, replace(CONFIG, steps=2), tmp_path / "student")
    export_encoder(tmp_path / "student", tmp_path / "encoder", FP32)
    ours = TextEncoder.load(tmp_path / "encoder").encode(film_texts[:20]).vectors
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(film_texts[:20])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
    "kind", ["camembert", "distilbert", "electra", "llama", "mpnet", "qwen2", "qwen3", "roberta"]
)
def test_students_of_every_family_begin_with_the_teachers_weights(
    tiny_model, film_texts, tmp_path, kind
):
    config = replace(CONFIG, steps=0)
    report = distil(tiny_model(kind), film_texts, config, tmp_path / "student")
    assert report.imitation.losses == ()
    assert report.imitation.mean_after == report.imitation.mean_before
    teacher = load_pretrained(tiny_model(kind)).model.state_dict()
    student = load_pretrained(tmp_path / "student").model.state_dict()
    for name, tensor in student.items():
        if not name.startswith("pooler."):
            origin = name.replace("layer.0.", "layer.1.").replace("layers.0.", "layers.1.")
            assert torch.equal(tensor, teacher[origin]), name
    export_encoder(tmp_path / "student", tmp_path / "encoder", FP32)


def test_layers_are_taken_evenly_and_the_last_one_with_them(tmp_path, tiny_model, film_texts, bert):
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(bert, num_hidden_layers=5, pruned_heads={1: [0], 2: [3]})
    BertModel(config).save_pretrained(bert)
    three = replace(CONFIG, layers=3, steps=1)
    assert distil(bert, film_texts, three, tmp_path / "student").taken == (1, 3, 4)
    assert load_pretrained(tmp_path / "student").model.config.pruned_heads == {0: [0]}


@pytest.mark.parametrize("hidden_weight", [0.0, 1.0])
def test_the_texts_alone_can_be_learned_from(tiny_model, film_texts, tmp_path, hidden_weight):
    config = replace(CONFIG, hidden_weight=hidden_weight, excerpts=False)
    report = distil(tiny_model("bert"), film_texts, config, tmp_path / "student").imitation
    assert report.n_texts == len(film_texts) - report.n_held_out
    assert report.mean_after > report.mean_before


def test_the_teacher_reads_a_text_once_where_what_it_makes_is_kept(
    tiny_model, film_texts, tmp_path, monkeypatch
):
    def distilled(name):
        read = []
        run = Imitation._run

        def counting(self, network, texts):
            if network is self._teacher.model:
                read.extend(texts)
            return run(self, network, texts)

        with monkeypatch.context() as patch:
            patch.setattr(Imitation, "_run", counting)
            found = distil(tiny_model("bert"), film_texts[:12], config, tmp_path / name).imitation
        return read, found

    config = replace(CONFIG, steps=20)
    kept, found = distilled("kept")
    assert len(kept) == len(set(kept))
    monkeypatch.setattr("fuserank.export.imitation._MAX_BYTES", 0)
    anew, same = distilled("anew")
    assert len(anew) > len(kept)
    np.testing.assert_allclose(same.losses, found.losses, rtol=1e-4)


def test_the_table_of_tokens_stays_the_teachers(tiny_model, film_texts, tmp_path):
    distil(tiny_model("bert"), film_texts, replace(CONFIG, steps=3), tmp_path / "student")
    tables, layers = zip(
        *(
            (found.get_input_embeddings().weight, found.encoder.layer[-1].output.dense.weight)
            for path in (tiny_model("bert"), tmp_path / "student")
            for found in [load_pretrained(path).model]
        ),
        strict=True,
    )
    assert torch.equal(*tables)
    assert not torch.equal(*layers)


def test_batches_are_alike_in_length_and_hold_whole_texts(tiny_model, film_texts):
    config = replace(CONFIG, whole=0.5)
    imitation = Imitation(load_pretrained(tiny_model("bert")), film_texts, config)
    batches = [next(imitation._batches) for _ in range(64)]
    assert {len(batch) for batch in batches} == {config.batch_size}
    lengths = np.array([[len(imitation.texts[row]) for row in batch] for batch in batches])
    assert lengths.std(axis=1).mean() < lengths.std() / 3
    n_whole = len(film_texts) - len(imitation.held_out)
    share = np.mean(np.array(batches) < n_whole)
    expected = 0.5 + 0.5 * n_whole / len(imitation.texts)
    assert share == pytest.approx(expected, abs=0.06)


def test_the_same_seed_gives_the_same_weights(tiny_model, film_texts, tmp_path):
    config = replace(CONFIG, steps=3)
    reports = [
        distil(tiny_model("mpnet"), film_texts, replace(config, seed=seed), tmp_path / name)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert reports[0].imitation == reports[1].imitation
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(
    "option",
    [
        {"layers": 0},
        {"steps": -1},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"warm_up": 1.5},
        {"hidden_weight": -1.0},
        {"whole": 1.5},
        {"held_out": 1.0},
    ],
)
def test_options_out_of_range_are_refused(option):
    (name,) = option
    with pytest.raises(ConfigError, match=f"distil: {name} is"):
        DistilConfig(**option)


def test_what_cannot_be_distilled_says_why(tiny_model, film_texts, tmp_path):
    out = tmp_path / "student"
    with pytest.raises(ConfigError, match="layers is 2, expected fewer than the 2"):
        distil(tiny_model("bert"), film_texts, replace(CONFIG, layers=2), out)
    with pytest.raises(DataError, match="texts: found 1 that differ, expected at least 2"):
        distil(tiny_model("bert"), ["one", "one", " "], CONFIG, out)
    with pytest.raises(ExportError, match="modernbert"):
        distil(tiny_model("modernbert"), film_texts, CONFIG, out)
    assert not out.exists()


def test_excerpts_are_of_the_texts_and_held_out_texts_are_not_among_them():
    texts = [f"The hero number {n} leaves. Nobody comes back!" for n in range(40)]
    learned, held = divide([*texts, texts[0], ""], 0.05, np.random.default_rng(0))
    assert (len(held), sorted(learned + held)) == (2, sorted(texts))
    made = with_excerpts(learned, np.random.default_rng(0))
    assert made[: len(learned)] == learned
    assert "Nobody comes back!" in made
    assert len(made) == len(set(made))
    assert not set(made) & set(held)
    words = {word for text in learned for word in text.split()}
    assert {word for text in made for word in text.split()} == words
    assert made == with_excerpts(learned, np.random.default_rng(0))


def test_texts_are_those_of_items_and_users_once_each(film_dataset, film_texts):
    assert texts_of(film_dataset) == [*dict.fromkeys(film_texts), "Watches a lot"]
    fields = tuple(f for f in film_dataset.fields if f.kind not in {Kind.TEXT, Kind.HISTORY})
    with pytest.raises(DataError, match="found no texts of items or users"):
        texts_of(replace(film_dataset, fields=fields))


@pytest.mark.parametrize("json_wanted", [True, False])
def test_the_command_says_what_it_came_to(
    tiny_model, film_dataset, tmp_path, monkeypatch, capsys, json_wanted
):
    from fuserank.export.cli import export as app

    monkeypatch.setattr("fuserank.training.data.dataset.load_dataset", lambda path: film_dataset)
    paths = [str(tiny_model("bert")), "films.toml", str(tmp_path / "student")]
    options = ["--layers=1", "--steps=2", "--batch-size=4", *(["--json"] if json_wanted else [])]
    app(["distil", *paths, *options], exit_on_error=False, result_action="return_value")
    printed = capsys.readouterr().out
    if json_wanted:
        found = json.loads(printed)
        assert (found["taken"], len(found["imitation"]["losses"])) == ([1], 2)
    else:
        assert "1 of 2 layers" in " ".join(printed.split())
        assert "5 held-out texts" in " ".join(printed.split())
    assert load_pretrained(tmp_path / "student").model.config.num_hidden_layers == 1
