import json
import shutil
from zipfile import ZipFile

import keras
import numpy as np
import pytest

from fuserank.errors import DataError
from fuserank.training.artifact import TrainedRun
from fuserank.training.train import train

# Keras hands TensorFlow's variables to numpy the old way.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def run(dataset, encoder, make_config):
    return train(dataset, encoder, make_config(model="perceptron", epochs=1))


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    run.save(directory)
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def test_training_records_what_it_was_made_of(run, dataset, encoder):
    assert run.dataset_fingerprint == dataset.fingerprint
    assert run.encoder_space == encoder.space
    assert run.report.ranking.n_users == run.report.popularity.n_users > 0


def test_a_run_comes_back_as_it_was(run, saved, features):
    loaded = TrainedRun.load(saved)
    for part in ("schema", "config", "report", "dataset_fingerprint", "encoder_space"):
        assert getattr(loaded, part) == getattr(run, part), part
    for one, two in zip(
        run.ranker.full.get_weights(), loaded.ranker.full.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    inputs = features.items.tensors
    np.testing.assert_array_equal(run.ranker.item_tower(inputs), loaded.ranker.item_tower(inputs))


def test_the_configuration_names_the_versions(saved):
    origin = json.loads((saved / "config.json").read_text())
    assert origin["config"]["split"]["strategy"] == "per_user"
    assert origin["versions"].keys() == {"fuserank", "keras", "tensorflow"}


def test_saving_replaces_an_older_run(run, copy):
    (copy / "stale.txt").write_text("old")
    run.save(copy)
    assert not (copy / "stale.txt").exists()
    assert TrainedRun.load(copy).config == run.config
    assert [entry.name for entry in copy.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["model.keras", "schema.json", "config.json", "report.json"])
def test_a_missing_part_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: no such file; expected a directory"):
        TrainedRun.load(copy)


@pytest.mark.parametrize("name", ["model.keras", "schema.json", "config.json", "report.json"])
def test_a_damaged_part_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=name):
        TrainedRun.load(copy)


def test_a_model_with_flipped_bytes_is_refused(copy):
    content = bytearray((copy / "model.keras").read_bytes())
    for position in range(len(content) // 3, len(content) // 2):
        content[position] ^= 0xFF
    (copy / "model.keras").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.keras: expected a Keras model"):
        TrainedRun.load(copy)


def test_a_configuration_out_of_range_is_refused(copy):
    origin = json.loads((copy / "config.json").read_text())
    origin["config"]["dim"] = 0
    (copy / "config.json").write_text(json.dumps(origin))
    with pytest.raises(DataError, match=r"config\.json.*dim is 0"):
        TrainedRun.load(copy)


def test_a_model_of_another_schema_is_refused(copy):
    schema = json.loads((copy / "schema.json").read_text())
    schema["fields"] = [f for f in schema["fields"] if f["field"]["name"] != "age"]
    (copy / "schema.json").write_text(json.dumps(schema))
    with pytest.raises(DataError, match="both files must come from the same run"):
        TrainedRun.load(copy)


def test_a_model_that_carries_code_is_not_run(copy):
    inputs = keras.Input((1,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(copy / "model.keras")
    assert "Lambda" in ZipFile(copy / "model.keras").read("config.json").decode()
    with pytest.raises(DataError, match=r"model\.keras: expected a Keras model"):
        TrainedRun.load(copy)
