"""The commands of training on the files of the tiny data set."""

import json

import numpy as np
import pytest
from cyclopts import ValidationError

from fuserank.cli import app
from fuserank.engine.encoder import TextEncoder
from fuserank.errors import ConfigError, DataError
from fuserank.training.artifact import TrainedRun
from fuserank.training.batches import stored_parts
from fuserank.training.batches.interaction_store import StoredInteractions, open_store
from fuserank.training.batches.stored_dataset import load_stored
from fuserank.training.train import prepare, run_job
from fuserank.training.train_config import TrainConfig

# Keras hands TensorFlow's variables to numpy the old way.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

SMALL = ("--dim=8", "--hidden=8", "--epochs=2", "--batch-size=32", "--negatives=4")
CONFIG = TrainConfig(dim=8, hidden=8, epochs=2, batch_size=32, negatives=4)


@pytest.fixture
def run(toml, tmp_path, encoder, monkeypatch):
    """A function that trains into a directory of a name, and reads what it wrote."""
    monkeypatch.setattr(TextEncoder, "load", lambda path: encoder)

    def command(name, *options):
        arguments = ["train", toml, "encoder", tmp_path / name, *SMALL, *options]
        app(list(map(str, arguments)), exit_on_error=False, result_action="return_value")
        return TrainedRun.load(tmp_path / name)

    return command


def assert_same_weights(one, two, atol):
    for a, b in zip(one.ranker.full.get_weights(), two.ranker.full.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def test_what_was_repaired_is_printed_and_kept(run, capsys):
    found = run("run", "--json")
    printed = capsys.readouterr()
    steps = {step.name: (step.affected, step.total) for step in found.report.cleaning.steps}
    assert steps["user.age: missing"] == (1, 24)
    assert steps["repeated pairs"] == (0, 24 * 11)
    assert "user.age: missing" in printed.err
    kept = json.loads(printed.out)["cleaning"]["steps"]
    assert [step["name"] for step in kept] == list(steps)


@pytest.mark.parametrize("strategy", ["time", "users"])
def test_a_store_trains_what_memory_does(run, tmp_path, strategy):
    options = (f"--split.strategy={strategy}", "--split.validation=0.2", "--split.test=0.2")
    stored = run("stored", *options, "--store", tmp_path / "store")
    assert (tmp_path / "store" / "parts" / "train" / "store.json").is_file()
    loaded = run("loaded", *options)
    assert stored.dataset_fingerprint == loaded.dataset_fingerprint
    assert_same_weights(stored, loaded, atol=1e-6)
    for name in ("ranking", "popularity"):
        one, two = (getattr(found.report, name) for found in (stored, loaded))
        assert (one.n_users, one.recall) == (two.n_users, pytest.approx(two.recall))
        assert one.cuts[0].novelty == pytest.approx(two.cuts[0].novelty)
    assert stored.report.classification.n_pairs == loaded.report.classification.n_pairs
    assert stored.report.cleaning == loaded.report.cleaning


def test_a_sample_of_the_users_of_a_store_is_judged(run, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_parts.with_sample, "__defaults__", (5,))
    found = run("run", "--store", tmp_path / "store")
    assert 1 <= found.report.ranking.n_users <= 10


def test_what_a_store_cannot_do_is_refused_before_it_is_done(run, tmp_path):
    with pytest.raises(ConfigError, match=r"found collaborative 'ease', .* expected 'none' for"):
        run("run", "--collaborative=ease", "--store", tmp_path / "store")
    with pytest.raises(DataError, match="found strategy 'per_item'"):
        run("run", "--split.strategy=per_item", "--store", tmp_path / "store")
    assert isinstance(open_store(tmp_path / "store"), StoredInteractions)
    assert not (tmp_path / "store" / "parts").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.e2e
def test_workers_go_on_from_a_checkpoint_and_train_what_one_process_does(
    run, toml, encoder, tmp_path
):
    def killed(done, of):
        if done > of // 2:
            raise KeyboardInterrupt

    store = ("--store", tmp_path / "store")
    alone = run("alone", *store)
    job = prepare(load_stored(toml, tmp_path / "store"), encoder).job(CONFIG)
    checkpoint = tmp_path / "together.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run_job(job, checkpoint=checkpoint, on_progress=killed)
    assert checkpoint.is_file()
    together = run("together", *store, "--workers=2", "--resume")
    assert not checkpoint.exists()
    assert_same_weights(together, alone, atol=1e-4)
    assert len(together.report.epochs) == 2
    assert together.report.ranking.n_users == alone.report.ranking.n_users


def test_workers_are_counted_from_one(run):
    with pytest.raises(ValidationError, match="--workers"):
        run("run", "--workers=0")
