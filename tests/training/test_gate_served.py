"""The gate on a trained ranker: from encoders on disk to what a bundle says of itself."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from onnx import TensorProto, helper, numpy_helper, save  # noqa: E402
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402

from fuserank.bench import encoding  # noqa: E402
from fuserank.bench.smaller_encoder import SmallerReport, measure_smaller  # noqa: E402
from fuserank.bundle import Bundle, layout  # noqa: E402
from fuserank.cli import app, main  # noqa: E402
from fuserank.engine.encoder import TextEncoder  # noqa: E402
from fuserank.engine.encoder_config import (  # noqa: E402
    CONFIG_FILE,
    MODEL_FILE,
    REFERENCE,
    TOKENIZER_FILE,
    EncoderConfig,
    Pooling,
    Precision,
)
from fuserank.engine.engine import load  # noqa: E402
from fuserank.errors import (  # noqa: E402
    BundleIntegrityError,
    ConfigError,
    ExportError,
    GateError,
    SpaceMismatchError,
)
from fuserank.export import tune as tune_module  # noqa: E402
from fuserank.export.encoder import EncoderExportConfig  # noqa: E402
from fuserank.export.gate import GateBudget  # noqa: E402
from fuserank.export.pipeline import Gate, export_bundle  # noqa: E402
from fuserank.export.trials import RankerData, Trials  # noqa: E402
from fuserank.export.tune import export_candidates, tune_encoder  # noqa: E402
from fuserank.training.artifact import TrainedRun  # noqa: E402
from fuserank.training.batches.stored_dataset import load_stored  # noqa: E402
from fuserank.training.data.dataset import load_dataset  # noqa: E402
from fuserank.training.data.splits import SplitConfig, divide  # noqa: E402
from fuserank.training.evaluation.metrics import roc_auc  # noqa: E402
from fuserank.training.train import train  # noqa: E402

# Keras hands TensorFlow's variables to numpy the old way.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

DIM = 12
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "likes", "war", "comedy", "horror", "."]
WORDS += [f"title{row}" for row in range(30)]
TABLE = np.random.default_rng(0).normal(size=(len(WORDS), DIM)).astype(np.float32)
TEXT_ALONE = (
    *("user.age", "user.city"),
    *("item.genres", "item.year", "item.poster"),
)
"""What the ranker does not look at, so that everything hangs on embeddings."""


def save_encoder(directory, table, precision=Precision.FP32, source=""):
    """Write an encoder that embeds a text as the normalised mean of its words' rows."""
    names = ["input_ids", "attention_mask"]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "two"], ["weights"]),
        helper.make_node("Mul", ["hidden", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceL2", ["sum"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Div", ["sum", "norm"], ["embedding"]),
    ]
    constants = {"table": table, "one": np.array([1]), "two": np.array([2])}
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"]) for n in names],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    directory.mkdir()
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=9), directory / MODEL_FILE)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(directory / TOKENIZER_FILE))
    config = EncoderConfig(
        model="words",
        dim=DIM,
        max_tokens=16,
        pad_token_id=0,
        pooling=Pooling.MEAN,
        normalized=True,
        precision=precision,
        source=source,
    )
    (directory / CONFIG_FILE).write_text(config.to_json())
    return directory


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """By name: the fp32 one, two made of it, and one of another source."""
    root = tmp_path_factory.mktemp("encoders")
    exact = save_encoder(root / "fp32", TABLE)
    space = TextEncoder.load(exact).space
    near = TABLE * np.float32(1.001)
    scrambled = np.random.default_rng(1).permutation(TABLE)
    return {
        "fp32": exact,
        "int8": save_encoder(root / "int8", near, Precision.INT8, space),
        "scrambled": save_encoder(root / "scrambled", scrambled, Precision.INT8, space),
        "foreign": save_encoder(root / "foreign", near, Precision.INT8, "sha256:other"),
    }


@pytest.fixture
def trained(toml, tmp_path, encoders, make_config):
    """A function that trains with an encoder and returns the run's directory."""

    def make(name):
        config = make_config(leave_out=TEXT_ALONE, id_dropout=1.0, epochs=8, learning_rate=0.05)
        run = train(load_dataset(toml), TextEncoder.load(encoders[name]), config)
        run.save(tmp_path / "run")
        return tmp_path / "run"

    return make


@pytest.fixture
def export(toml, tmp_path, encoders):
    """A function that runs the command and returns its exit code; the bundle is ``b``."""

    def command(run, encoder, *options, reference="fp32"):
        arguments = ["export", "bundle", run, toml, encoders[encoder], tmp_path / "b", *options]
        if reference is not None:
            arguments += ["--reference", encoders[reference]]
        return main(list(map(str, arguments)))

    return command


def inspect(path, capsys, *options):
    capsys.readouterr()
    app(["inspect", str(path), *options], exit_on_error=False, result_action="return_value")
    return capsys.readouterr().out


@pytest.mark.parametrize("trained_with", ["fp32", "int8"])
def test_an_encoder_that_ranks_alike_passes_whichever_trained(
    trained, export, tmp_path, capsys, trained_with
):
    assert export(trained(trained_with), "int8") == 0
    assert "gate: passed; NDCG@10" in capsys.readouterr().out
    bundle = Bundle.open(tmp_path / "b")
    assert layout.QUALITY in bundle.manifest.files
    assert (bundle.manifest.encoder.precision, bundle.manifest.encoder.degraded) == ("int8", ())
    report = json.loads(bundle.file(layout.QUALITY).read_bytes())["gate"]
    assert report["passed"]
    assert (report["reference"]["precision"], report["optimized"]["precision"]) == ("fp32", "int8")
    assert report["n_users"] == 24 > report["n_judged"] > 0
    assert report["overlap_10"] == report["overlap_100"] == 1
    assert report["reference"]["ndcg"] == report["optimized"]["ndcg"] > 0
    assert report["item_texts"]["least"] == pytest.approx(1)
    assert report["user_texts"]["n_texts"] == 23  # one says nothing of themselves
    assert "passed; NDCG@10" in inspect(tmp_path / "b", capsys)
    with load(tmp_path / "b", device="cpu") as engine:
        assert engine.info.degraded == ()
        assert engine.recommend({"user_id": "u1"}, k=3).item_ids


def test_users_are_judged_as_in_training(trained, toml, encoders):
    from fuserank.training.evaluation.ranking import judge_users
    from fuserank.training.model.catalogue_scores import CatalogueScores

    run, data = TrainedRun.load(trained("fp32")), load_dataset(toml)
    texts = TextEncoder.load(encoders["fp32"])
    features = RankerData(run, data).encode(texts)
    parts = divide(data, run.config.split, run.config.seed)
    likes = parts.train.histories(len(features.users))
    scores = CatalogueScores.of_known(run.ranker, features, likes, run.schema)
    judged = judge_users(scores.matrix, seen=parts.train, held_out=parts.validation, n_items=30)
    trials = Trials(RankerData(run, data), encoders["fp32"], texts)
    report = trials.of(encoders["fp32"], GateBudget()).report
    assert (report.n_users, report.n_judged) == (24, judged.ranking.n_users)
    assert report.reference.ndcg == pytest.approx(judged.ranking.ndcg)
    pairs = scores.pairs(parts.validation.user, parts.validation.item)
    assert report.reference.auc == pytest.approx(roc_auc(parts.validation.positive, pairs))


def test_a_store_is_compared_as_memory_is(toml, tmp_path, encoders, make_config):
    data = load_stored(toml, tmp_path / "store")
    split = SplitConfig(strategy="users", validation=0.3, test=0.2)
    config = make_config(leave_out=TEXT_ALONE, epochs=1, split=split)
    run = train(data, TextEncoder.load(encoders["int8"]), config)
    gate = Gate(reference=encoders["fp32"])
    done = [
        export_bundle(run, known, encoders["int8"], tmp_path / f"b{number}", gate=gate)
        for number, known in enumerate((data, load_dataset(toml)))
    ]
    assert done[0].gate.n_users == done[1].gate.n_users > 0
    assert done[0].gate.reference == done[1].gate.reference


def test_a_scrambled_encoder_fails_and_nothing_is_written(trained, export, tmp_path, capsys):
    run = trained("fp32")
    before = sorted(tmp_path.iterdir())
    assert export(run, "scrambled") == 1
    assert sorted(tmp_path.iterdir()) == before
    message = capsys.readouterr().err
    assert "scrambled: ndcg_loss is " in message
    assert "over the budget of ranking quality, and no bundle was written" in message


def test_a_degraded_bundle_says_so(trained, export, tmp_path, capsys):
    assert export(trained("fp32"), "scrambled", "--allow-degraded") == 0
    assert "gate: degraded: ndcg_loss is " in capsys.readouterr().out
    path = tmp_path / "b"
    assert "degraded: ndcg_loss" in " ".join(inspect(path, capsys).split())
    printed = json.loads(inspect(path, capsys, "--json"))
    (reason, *_) = printed["manifest"]["encoder"]["degraded"]
    assert reason.startswith("ndcg_loss is ")
    assert printed["quality"]["gate"]["reasons"][0] == reason
    assert not printed["quality"]["gate"]["passed"]
    with load(path, device="cpu") as engine:
        assert engine.info.degraded[0] == reason


def test_a_looser_budget_lets_more_pass(trained, export, tmp_path):
    assert export(trained("fp32"), "scrambled", "--ndcg-loss=1") == 0
    assert Bundle.open(tmp_path / "b").manifest.encoder.degraded == ()


def test_more_precise_encoders_are_tried_in_order(trained, toml, tmp_path, encoders):
    asked = []

    def more_precise():
        for name in ("int8", "fp32"):
            asked.append(name)
            yield encoders[name]

    run, data = TrainedRun.load(trained("fp32")), load_dataset(toml)
    gate = Gate(reference=encoders["fp32"], more_precise=more_precise())
    done = export_bundle(run, data, encoders["scrambled"], tmp_path / "b", gate=gate)
    assert (done.encoder, asked) == (encoders["int8"], ["int8"])
    assert done.gate.passed
    assert (
        Bundle.open(tmp_path / "b").manifest.encoder.space == TextEncoder.load(done.encoder).space
    )
    twice = replace(gate, more_precise=[encoders["scrambled"]])
    with pytest.raises(GateError, match=r"scrambled: ndcg_loss.*; .*scrambled: ndcg_loss"):
        export_bundle(run, data, encoders["scrambled"], tmp_path / "c", gate=twice)


@pytest.mark.parametrize(
    ("trained_with", "encoder", "reference", "error", "message"),
    [
        ("fp32", "int8", "int8", ConfigError, "found an encoder of precision int8, expected the"),
        ("fp32", "foreign", "fp32", SpaceMismatchError, "foreign: found an encoder made of"),
        ("foreign", "int8", "fp32", SpaceMismatchError, "which the ranker was trained with"),
        ("fp32", "int8", None, SpaceMismatchError, "which the ranker was trained with"),
    ],
)
def test_encoders_that_do_not_belong_together_are_refused(
    trained, toml, tmp_path, encoders, trained_with, encoder, reference, error, message
):
    gate = None if reference is None else Gate(reference=encoders[reference])
    run = TrainedRun.load(trained(trained_with))
    with pytest.raises(error, match=message):
        export_bundle(run, load_dataset(toml), encoders[encoder], tmp_path / "b", gate=gate)
    assert not (tmp_path / "b").exists()


def test_an_encoder_is_compared_with_the_reference_that_it_keeps(
    trained, export, tmp_path, encoders, capsys
):
    run = trained("int8")
    encoders["kept"] = Path(copytree(encoders["int8"], tmp_path / "kept"))
    copytree(encoders["fp32"], encoders["kept"] / REFERENCE)
    assert export(run, "kept", reference=None) == 0
    assert "gate: passed; NDCG@10" in capsys.readouterr().out
    assert not [name for name in Bundle.open(tmp_path / "b").manifest.files if REFERENCE in name]


def test_an_optimized_encoder_without_a_reference_is_refused(
    trained, export, tmp_path, encoders, capsys
):
    assert export(trained("int8"), "int8", reference=None) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "int8: found no reference/, expected the fp32 encoder" in message
    assert not (tmp_path / "b").exists()


def test_nothing_is_compared_of_an_fp32_encoder(trained, export, tmp_path, capsys):
    assert export(trained("fp32"), "fp32", reference=None) == 0
    assert "gate:" not in capsys.readouterr().out


def test_a_budget_without_a_gate_is_refused(export, tmp_path, capsys):
    assert export(tmp_path / "run", "int8", "--no-gate", "--allow-degraded", reference=None) == 1
    assert "found --no-gate and what the encoder may cost" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_bundle_that_was_not_compared_says_so(trained, export, tmp_path, capsys):
    assert export(trained("int8"), "int8", "--no-gate", reference=None) == 0
    assert "not compared with an fp32 encoder" in inspect(tmp_path / "b", capsys)
    quality = tmp_path / "b" / layout.QUALITY
    quality.write_bytes(quality.read_bytes().replace(b"null", b"true", 1))
    with pytest.raises(BundleIntegrityError, match=r"quality.json: altered"):
        Bundle.open(tmp_path / "b")


def test_an_older_bundle_without_figures_is_inspected_and_served(trained, export, tmp_path, capsys):
    assert export(trained("int8"), "int8", "--no-gate", reference=None) == 0
    path = tmp_path / "b" / layout.MANIFEST
    manifest = json.loads(path.read_bytes())
    del manifest["files"][layout.QUALITY], manifest["encoder"]["degraded"]
    path.write_text(json.dumps(manifest))
    (tmp_path / "b" / layout.QUALITY).unlink()
    assert "not compared" in inspect(tmp_path / "b", capsys)
    with load(tmp_path / "b", device="cpu") as engine:
        assert engine.info.degraded == ()


def copy_of(encoders, *names):
    """What stands for an export of several encoders."""

    def export(directory, texts):
        return {name: Path(copytree(encoders[name], directory / name)) for name in names}

    return export


def test_the_fastest_encoder_that_passes_is_kept(trained, toml, tmp_path, encoders, monkeypatch):
    run, data = TrainedRun.load(trained("fp32")), load_dataset(toml)
    # A clock by which the scrambled encoder is the fastest, and the int8 one the next.
    seconds = {"fp32": 3.0, "int8": 2.0, TextEncoder.load(encoders["scrambled"]).space: 1.0}
    monkeypatch.setattr(
        tune_module,
        "_seconds",
        lambda encoder, _: seconds.get(encoder.space, seconds[encoder.config.precision]),
    )
    export = copy_of(encoders, "int8", "scrambled", "fp32")
    for _ in range(2):  # an earlier result is replaced
        tuned = tune_encoder(export, run, data, tmp_path / "t")
    assert tuned.chosen == "int8"
    assert [c.name for c in tuned.candidates] == ["fp32", "int8", "scrambled"]
    assert [c.report.passed for c in tuned.candidates] == [True, True, False]
    assert tuned.candidates[1].ms_per_text == 2000
    files = {path.name for path in (tmp_path / "t").iterdir()}
    assert files == {"encoder", "candidates.json", "front.html"}
    encoder = tmp_path / "t" / "encoder"
    spaces = [TextEncoder.load(path).space for path in (encoder, encoder / REFERENCE)]
    assert spaces == [TextEncoder.load(encoders[name]).space for name in ("int8", "fp32")]
    assert json.loads((tmp_path / "t" / "candidates.json").read_bytes())["chosen"] == "int8"
    assert "Chosen: int8" in (tmp_path / "t" / "front.html").read_text()


def test_a_ranker_of_another_encoder_is_not_tuned(trained, toml, tmp_path, encoders):
    run = TrainedRun.load(trained("foreign"))
    export = copy_of(encoders, "int8", "fp32")
    with pytest.raises(SpaceMismatchError, match="which the ranker was trained with"):
        tune_encoder(export, run, load_dataset(toml), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_tuning_replaces_nothing_else(trained, toml, tmp_path, encoders):
    run = TrainedRun.load(trained("fp32"))
    with pytest.raises(ExportError, match="run: found something else, expected no directory"):
        tune_encoder(copy_of(encoders, "fp32"), run, load_dataset(toml), tmp_path / "run")
    with pytest.raises(ConfigError, match="found precision fp32, but every precision is tried"):
        export_candidates("model", EncoderExportConfig(precision=Precision.FP32))


def test_a_smaller_encoder_is_judged_by_the_rankers_of_the_whole_one(
    trained, toml, tmp_path, encoders, monkeypatch
):
    monkeypatch.setattr(encoding, "_ROUNDS", dict.fromkeys(encoding.WORKS, 1))
    run = trained("fp32")

    def measured(smaller, whole="fp32"):
        return measure_smaller(
            toml,
            whole=encoders[whole],
            smaller=encoders[smaller],
            runs=[run],
            threads=1,
            command="test",
        )

    alike = measured("foreign")
    [ranked] = alike.ranked
    assert ranked.whole_ndcg == ranked.smaller_ndcg > 0
    assert ranked.loss == alike.mean_loss == 0
    assert ranked.overlap_100 == 1
    assert ranked.item_cosine == pytest.approx(1)
    assert set(alike.times_as_fast) == {encoding.CATALOGUE, encoding.ONE}
    alike.save(tmp_path / "smaller.json")
    assert SmallerReport.load(tmp_path / "smaller.json") == alike

    worse = measured("scrambled")
    assert worse.mean_loss == worse.ranked[0].loss > 0.05
    assert worse.ranked[0].whole_ndcg == ranked.whole_ndcg
    with pytest.raises(SpaceMismatchError):
        measured("fp32", whole="int8")
