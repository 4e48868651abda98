import dataclasses
import re
from pathlib import Path

import pytest

import fuserank.training.cli
from fuserank.cli import app
from fuserank.errors import ConfigError
from fuserank.training.artifact import TrainedRun
from fuserank.training.data.dataset_config import read_config
from fuserank.training.data.splits import SplitConfig
from fuserank.training.experiment import (
    RECIPES,
    Choice,
    EvaluateConfig,
    Experiment,
    Range,
    find_experiment,
    read_experiment,
    recipe,
)
from fuserank.training.train import train
from fuserank.training.train_config import TrainConfig

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"

WHOLE = """
[train]
model = "gmf"
leave_out = ["item.poster", "user.age"]
calibrate = false
learning_rate = 1
dim = 16

[train.split]
strategy = "random"
test = 0.2

[tune]
learning_rate = { low = 0.0005, high = 0.02, log = true }
dim = [8, 16]
id_dropout = [0, 0.5]
negatives = { low = 8, high = 256, log = true, whole = true }

[evaluate]
seeds = 5
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes an experiment file."""

    def make(content):
        path = tmp_path / "experiment.toml"
        path.write_text(content, encoding="utf-8")
        return path

    return make


def documented(kind):
    return re.findall(rf"^```toml {kind}\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)


def test_a_file_is_read_over_the_defaults(write):
    found = read_experiment(write(WHOLE))
    assert found == Experiment(
        train=TrainConfig(
            model="gmf",
            leave_out=("item.poster", "user.age"),
            calibrate=False,
            learning_rate=1.0,
            dim=16,
            split=SplitConfig(strategy="random", test=0.2),
        ),
        tune={
            "learning_rate": Range(low=0.0005, high=0.02, log=True),
            "dim": Choice((8, 16)),
            "id_dropout": Choice((0.0, 0.5)),
            "negatives": Range(low=8, high=256, log=True, whole=True),
        },
        evaluate=EvaluateConfig(seeds=5),
    )
    assert read_experiment(write("")) == Experiment()


def test_what_is_written_reads_as_it_was(write):
    for experiment in (Experiment(), read_experiment(write(WHOLE)), *map(recipe, RECIPES)):
        assert read_experiment(write(experiment.to_toml())) == experiment


def test_every_option_is_written():
    options = dataclasses.asdict(TrainConfig())
    written = Experiment().to_toml()
    for name in (*options, *options["split"]):
        assert re.search(rf"^(\[train\.)?{name}\b", written, re.MULTILINE)


def test_values_that_go_with_others_that_are_tuned_are_let_through(write):
    content = """
    [train]
    collaborative = "ials"
    [tune]
    model = ["din", "gmf"]
    collaborative_as = ["blend", "source"]
    """
    assert read_experiment(write(content)).tune["model"] == Choice(("din", "gmf"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dim = ", "expected a TOML file, found: "),
        ("[trian]", ": found unknown key 'trian', expected train, tune, evaluate"),
        ("train = 3", ", [train]: found 3, expected a table"),
        ("[train]\ndin = 3", "; did you mean 'dim'?"),
        ("[train]\ndim = 3.5", ", [train]: dim is 3.5, expected a whole number"),
        ("[train]\ndim = true", ", [train]: dim is True, expected a whole number"),
        ("[train]\nlearning_rate = '1'", ", [train]: learning_rate is '1', expected a number"),
        ("[train]\nmodel = 'gmff'", "; did you mean 'gmf'?"),
        ("[train]\nmodel = 3", ", [train]: model is 3, expected one of perceptron, bilinear, "),
        ("[train]\ndim = 0", ": train: dim is 0, expected a whole number from 1"),
        ("[train]\nsplit = 3", ", [train.split]: found 3, expected a table"),
        ("[train.split]\ntets = 0.1", ", [train.split]: found unknown key 'tets', expected "),
        ("[train.split]\ntest = 1.5", ": split: test is 1.5, expected a share"),
        ("[evaluate]\nseeds = 0", ": evaluate: seeds is 0, expected a whole number from 1"),
        ("[evaluate]\nbaselines = 1", ", [evaluate]: baselines is 1, expected true or false"),
        ("[tune]\nlearning = [1, 2]", "[tune]: found unknown key 'learning', expected model, "),
        ("[train]\nleave_out = 'x'", "[train]: leave_out is 'x', expected a list of text"),
        ("[tune]\nleave_out = [[], ['x']]", "[tune]: found leave_out, expected options that leave"),
        ("[tune]\nseed = [1, 2]", "[tune]: found seed, expected options that leave"),
        ("[tune.split]\ntest = [0.1, 0.2]", "[tune]: found split, expected options that leave"),
        ("[tune]\ndim = 8", "[tune]: dim is 8, expected a list of values or a table such as"),
        ("[tune]\ndim = [8]", "[tune]: dim is [8], expected two different values or more"),
        ("[tune]\ndim = [8, 8]", "expected two different values or more"),
        ("[tune]\ndim = [8, 'x']", "[tune]: dim is 'x', expected a whole number"),
        ("[tune]\ndim = [8, 0]", "[tune]: train: dim is 0, expected a whole number from 1"),
        ("[tune]\ndim = {low = 8}", "[tune]: dim: found no key 'high'; add it"),
        ("[tune]\ndim = {low = 8, high = 16}", "whole = false, but dim is a whole number; add"),
        (
            "[tune]\nid_dropout = {low = 0, high = 1, whole = true}",
            "whole = true, but id_dropout is a number; leave whole out",
        ),
        ("[tune]\ndim = {low = 8, hi = 16}", "found no key 'high'"),
        ("[tune]\ndim = {low = 8, high = 16, step = 2}", "[tune.dim]: found unknown key 'step'"),
        ("[tune]\nmodel = {low = 8, high = 16}", "[tune]: model is {'low': 8, 'high': 16}, "),
        ("[tune]\nvisitors = {low = 0.5, high = 0.5}", "low = 0.5 and high = 0.5, expected two"),
        ("[tune]\nvisitors = {low = 0, high = nan}", "expected two finite numbers"),
        ("[tune]\nvisitors = {low = 0.5, high = 2}", "[tune]: train: visitors is 2.0, expected"),
        ("[tune]\nvisitors = {low = 0, high = 1, log = true}", "low is 0, expected above 0"),
        ("[tune]\ndim = {low = 1.5, high = 8, whole = true}", "expected whole numbers where"),
    ],
)
def test_what_is_wrong_is_named(write, content, message):
    path = write(content)
    with pytest.raises(ConfigError) as caught:
        read_experiment(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml: found no such file"):
        find_experiment(str(tmp_path / "none.toml"))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        find_experiment(str(binary))
    with pytest.raises(ConfigError, match="did you mean 'music'"):
        find_experiment("musik")
    with pytest.raises(ConfigError, match="recipe: found 'musik', expected one of movielens"):
        recipe("musik")


def test_the_recipes_differ_and_are_all_documented():
    assert RECIPES == ("movielens", "music", "news", "ratings", "shop", "video")
    assert len({recipe(name).train for name in RECIPES}) == len(RECIPES)
    assert all(f"| `{name}` |" in DOCS.read_text() for name in RECIPES)
    for command in (
        fuserank.training.cli.train,
        fuserank.training.cli.baselines,
        fuserank.training.cli.tune,
    ):
        assert f"recipe: {', '.join(RECIPES)}." in (command.__doc__ or "")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains(name, dataset, encoder):
    small = dataclasses.replace(recipe(name).train, epochs=1, dim=8, hidden=8, batch_size=64)
    run = train(dataset, encoder, small)
    assert run.report.ranking.n_users > 0


@pytest.mark.parametrize("number", range(4))
def test_documented_data_sets_are_read(number, tmp_path):
    path = tmp_path / "dataset.toml"
    path.write_text(documented("dataset")[number])
    assert read_config(path).fields


def test_documented_experiments_are_read(write):
    (content,) = documented("experiment")
    assert read_experiment(write(content)).tune


@pytest.fixture
def configured(monkeypatch):
    """Return a function that runs a command and returns the options of training it came to."""

    def run(*arguments):
        command, bound, _ = app.parse_args(
            ["baselines", "dataset.toml", *arguments], exit_on_error=False
        )
        assert command is fuserank.training.cli.baselines
        return bound.arguments.get("config", TrainConfig())

    for name in ("DIM", "SPLIT_TEST"):
        monkeypatch.delenv(f"FUSERANK_BASELINES_{name}", raising=False)
    return run


def test_the_command_line_overrides_the_environment_the_file_and_the_defaults(
    write, configured, monkeypatch
):
    given = read_experiment(write(WHOLE)).train
    path = str(write(WHOLE))
    assert configured() == TrainConfig()
    assert configured("--experiment", path) == given
    found = configured("--dim", "32", "--experiment", path, "--split.test", "0.3")
    split = dataclasses.replace(given.split, test=0.3)
    assert found == dataclasses.replace(given, dim=32, split=split)
    # A flag that repeats a default is a flag nevertheless.
    model = TrainConfig().model
    assert configured("--experiment", path, "--model", model).model == model
    monkeypatch.setenv("FUSERANK_BASELINES_DIM", "64")
    assert configured("--experiment", path).dim == 64
    assert configured("--experiment", path, "--dim", "32").dim == 32
    assert configured("--experiment", "shop").loss == recipe("shop").train.loss


def test_an_experiment_that_is_wrong_is_an_error_of_ours(write, configured):
    with pytest.raises(ConfigError, match="did you mean 'dim'"):
        configured("--experiment", str(write("[train]\ndin = 3")))


def test_the_artefact_keeps_the_options_it_was_trained_with(dataset, encoder, write, tmp_path):
    experiment = read_experiment(write("[train]\nmodel = 'gmf'\nepochs = 1\ndim = 8"))
    train(dataset, encoder, experiment.train).save(tmp_path / "run")
    assert TrainedRun.load(tmp_path / "run").config == experiment.train
