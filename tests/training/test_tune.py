import dataclasses
import json
from types import SimpleNamespace

import optuna
import pytest

from fuserank.cli import main
from fuserank.errors import ConfigError, DataError
from fuserank.training import tune as tuning
from fuserank.training.data.splits import divide
from fuserank.training.evaluation.evaluate import Epoch
from fuserank.training.evaluation.ranking import judge_users
from fuserank.training.experiment import Choice, EvaluateConfig, Experiment, Range, read_experiment
from fuserank.training.model.catalogue_scores import CatalogueScores, user_inputs
from fuserank.training.train import prepare, train_prepared
from fuserank.training.tune import BEST, DEFAULT_SPACE, TRIALS, tune

SPACE = {
    "learning_rate": Range(low=0.001, high=0.1, log=True),
    "dim": Choice((4, 8)),
    "negatives": Range(low=2, high=8, whole=True),
}


@pytest.fixture
def stub_fit(monkeypatch):
    """Replace training by a function of the options; return the configurations it was given.

    The nearer the learning rate is to 0.01, the better; `stub_fit.break_at` stops a run as a kill
    would.
    """

    class Stub(list):
        break_at = None
        fail = staticmethod(lambda config: False)

        def __call__(self, prepared, parts, config, *, on_epoch):
            if len(self) == self.break_at:
                raise KeyboardInterrupt
            self.append(config)
            if self.fail(config):
                raise ConfigError("train: cannot do that")
            best = 1 / (1 + abs(config.learning_rate / 0.01 - 1))
            epochs = []
            for number in range(config.epochs):
                epochs.append(Epoch(loss=1.0, recall=0.0, ndcg=best * (number + 1) / config.epochs))
                if not on_epoch(number, epochs[-1]):
                    break
            fitted = SimpleNamespace(epochs=epochs, best_epoch=len(epochs) - 1)
            return SimpleNamespace(fitted=fitted, features=prepared.features)

    stub = Stub()
    monkeypatch.setattr(tuning, "train_parts", stub)
    monkeypatch.setattr(tuning.gc, "collect", int)  # there are no weights, and it takes a while
    return stub


@pytest.fixture
def run(dataset, encoder, make_config, tmp_path):
    """Return a function that tunes on the tiny data set."""

    def tune_tiny(out="out", *, space=SPACE, trials=4, seconds=None, on_progress=None, **options):
        experiment = Experiment(
            train=make_config(**options), tune=space, evaluate=EvaluateConfig(seeds=2)
        )
        return tune(
            dataset,
            encoder,
            experiment,
            tmp_path / out,
            trials=trials,
            seconds=seconds,
            on_progress=on_progress,
        )

    return tune_tiny


def options(tuned):
    return [trial.options for trial in tuned.trials]


def outcomes(tuned):
    return [dataclasses.replace(trial, seconds=0.0) for trial in tuned.trials]


def test_real_trials_are_trained_and_the_best_kept(run, make_config, tmp_path):
    calls = []
    tuned = run(trials=2, on_progress=lambda *done: calls.append(done))
    assert calls == [(1, 2), (2, 2)]
    assert [len(trial.epochs) for trial in tuned.trials] == [3, 3]
    figures = [trial.ndcg for trial in tuned.trials]
    assert all(trial.ndcg == max(trial.epochs) for trial in tuned.trials)
    assert tuned.best_trial == figures.index(max(figures))
    best = make_config(**tuned.trials[tuned.best_trial].options)
    assert tuned.best == Experiment(train=best, evaluate=EvaluateConfig(seeds=2))
    assert read_experiment(tmp_path / "out" / BEST) == tuned.best


def test_what_is_blended_counts(run, dataset, encoder, make_config):
    blended = Choice(("ease", "ials"))
    tuned = run(trials=1, space={"collaborative": blended}, id_dropout=1.0, epochs=1)
    (trial,) = tuned.trials
    # The weight is chosen on the validation part and may be 0: worse it does not get.
    assert trial.ndcg >= max(trial.epochs)
    prepared = prepare(dataset, encoder)
    parts = divide(dataset, tuned.best.train.split, tuned.best.train.seed)
    run_alone = train_prepared(prepared, tuned.best.train)
    schema, features, _ = prepared.extended(parts, tuned.best.train)
    likes = parts.train.histories(len(features.users))
    users = user_inputs(run_alone.ranker, features, likes, schema)
    scores = CatalogueScores(run_alone.ranker, users, features.items.tensors)
    n_items = len(features.items)
    judged = judge_users(
        scores.matrix, seen=parts.train, held_out=parts.validation, n_items=n_items
    ).ranking
    assert trial.ndcg == pytest.approx(judged.ndcg)


@pytest.mark.usefixtures("stub_fit")
def test_proposals_are_of_the_space_and_learn(run):
    tuned = run(trials=30)
    for proposed in options(tuned):
        assert 0.001 <= proposed["learning_rate"] <= 0.1
        assert proposed["dim"] in (4, 8)
        assert proposed["negatives"] in range(2, 9)
    early, late = (
        [trial.ndcg for trial in part] for part in (tuned.trials[:10], tuned.trials[20:])
    )
    assert sum(late) > sum(early)


@pytest.mark.usefixtures("stub_fit")
def test_the_same_seed_proposes_the_same_trials(run):
    first, again, other = run("a"), run("b"), run("c", seed=7)
    assert outcomes(first) == outcomes(again)
    assert not any(one in options(other) for one in options(first))


def test_a_killed_run_goes_on_where_it_stopped(run, stub_fit):
    whole = run("whole", trials=14)  # more than are drawn at random before the sampler learns
    stub_fit.clear()
    stub_fit.break_at = 6
    with pytest.raises(KeyboardInterrupt):
        run("killed", trials=14)
    assert len(stub_fit) == 6
    stub_fit.break_at = None
    stub_fit.clear()
    resumed = run("killed", trials=14)
    assert len(stub_fit) == 8
    assert outcomes(resumed) == outcomes(whole)
    assert {trial.state for trial in whole.trials} == {"finished", "pruned"}
    stub_fit.clear()
    assert outcomes(run("killed", trials=14)) == outcomes(whole)
    assert not stub_fit


@pytest.mark.usefixtures("stub_fit")
def test_only_trials_that_fall_behind_are_stopped_and_they_do_not_win(run):
    tuned = run(trials=20, epochs=6)
    assert all(trial.state == "finished" for trial in tuned.trials[:5])
    pruned = [trial for trial in tuned.trials if trial.state == "pruned"]
    assert pruned
    assert all(2 < len(trial.epochs) <= 6 for trial in pruned)
    best = tuned.trials[tuned.best_trial]
    assert best.state == "finished"
    assert best.ndcg == max(trial.ndcg for trial in tuned.trials)


def test_failed_trials_are_recorded_and_passed_over(run, stub_fit, tmp_path):
    stub_fit.fail = lambda config: config.dim == 8
    tuned = run(trials=8)
    for trial in tuned.trials:
        assert (trial.state == "failed") == (trial.options["dim"] == 8)
        assert (trial.error == "train: cannot do that") == (trial.state == "failed")
    assert tuned.best.train.dim == 4
    written = json.loads((tmp_path / "out" / TRIALS).read_text())["trials"]
    assert [trial["state"] for trial in written] == [trial.state for trial in tuned.trials]


def test_it_is_an_error_where_every_trial_fails(run, stub_fit, tmp_path):
    stub_fit.fail = lambda config: True
    with pytest.raises(
        ConfigError, match="all of the 3 trials failed, the last with: train: canno"
    ):
        run(trials=3)
    assert len(json.loads((tmp_path / "out" / TRIALS).read_text())["trials"]) == 3
    assert not (tmp_path / "out" / BEST).exists()


@pytest.mark.usefixtures("stub_fit")
def test_no_trial_begins_after_the_time(run):
    assert len(run(trials=50, seconds=1e-9).trials) == 1


@pytest.mark.usefixtures("stub_fit")
def test_trials_of_something_else_are_refused(run, tmp_path):
    run()
    with pytest.raises(
        ConfigError, match=r"\[train\] epochs 3, expected 5; give another directory"
    ):
        run(epochs=5)
    with pytest.raises(ConfigError, match=r"\[tune\] dim \{'values': \[4, 8\]\}, expected None"):
        run(space={name: SPACE[name] for name in ("learning_rate", "negatives")})
    (tmp_path / "out" / TRIALS).write_text("{")
    with pytest.raises(DataError, match=r"trials.json: expected trials of 'fuserank tune'"):
        run()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": 0}, "tune: trials is 0, expected above 0"),
        ({"seconds": float("nan")}, "tune: seconds is nan, expected above 0"),
    ],
)
def test_impossible_numbers_are_refused(run, given, message):
    with pytest.raises(ConfigError, match=message):
        run(**given)


@pytest.mark.usefixtures("stub_fit")
def test_a_small_space_is_tuned_where_none_is_declared(run):
    tuned = run(space={}, trials=2)
    assert all(proposed.keys() == DEFAULT_SPACE.keys() for proposed in options(tuned))


@pytest.mark.usefixtures("stub_fit")
def test_optuna_prints_nothing(run, capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    run()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def command(monkeypatch, dataset, encoder, tmp_path):
    """Return a function that runs 'fuserank tune' on the tiny data set."""
    monkeypatch.setattr("fuserank.training.data.dataset.load_dataset", lambda path: dataset)
    monkeypatch.setattr("fuserank.engine.encoder.TextEncoder.load", lambda path: encoder)
    experiment = tmp_path / "experiment.toml"
    experiment.write_text("[train]\nepochs = 3\nhidden = 8\n[tune]\ndim = [4, 8]\n")
    arguments = ["tune", "dataset.toml", "encoder", str(tmp_path / "tuned")]
    arguments += ["--experiment", str(experiment), "--trials", "3"]
    return lambda *more: main([*arguments, *more])


def test_the_command_tunes_and_writes_a_file_for_the_next(command, stub_fit, tmp_path, capsys):
    assert command("--hidden", "4") == 0
    assert {config.hidden for config in stub_fit} == {4}
    assert {config.epochs for config in stub_fit} == {3}
    printed = capsys.readouterr().out
    assert "best.toml" in printed.replace("\n", "")
    assert "finished" in printed
    best = read_experiment(tmp_path / "tuned" / BEST).train
    assert (best.hidden, best.epochs) == (4, 3)


def test_the_command_prints_json(command, stub_fit, capsys):
    assert command("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["trials"]) == len(stub_fit) == 3
    assert found["best"]["train"]["dim"] == found["trials"][found["best_trial"]]["options"]["dim"]
