from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from fuserank.errors import DataError
from fuserank.training.data.splits import SplitConfig, divide
from fuserank.training.evaluation.ranking import judge_users
from fuserank.training.fitting.fit import fit
from fuserank.training.model.catalogue_scores import CatalogueScores, user_inputs


@pytest.fixture(scope="module")
def fit_tiny(dataset, features, schema, make_config):
    """Return a function that trains on the tiny data set."""

    def run(on_progress=None, checkpoint=None, tensorboard=None, **options):
        config = make_config(**options)
        parts = divide(dataset, config.split, config.seed)
        return fit(
            features,
            schema,
            config,
            train=parts.train,
            validation=parts.validation,
            on_progress=on_progress,
            checkpoint=checkpoint,
            tensorboard=tensorboard,
        )

    return run


class Killed(Exception):
    pass


def kill_after(steps):
    """Return a callback that raises when so many steps are done."""

    def on_progress(done, _):
        if done == steps:
            raise Killed

    return on_progress


def assert_same_weights(first, second):
    for one, two in zip(
        first.ranker.full.get_weights(), second.ranker.full.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("model", ["perceptron", "bilinear"])
def test_a_ranker_learns_plain_tastes(fit_tiny, model):
    fitted = fit_tiny(model=model, epochs=30, patience=30, visitors=0.0)
    losses = [epoch.loss for epoch in fitted.epochs]
    assert losses[-1] < losses[0] / 2
    assert max(epoch.recall for epoch in fitted.epochs) > 0.9  # by chance 10 of 22 or so


def test_the_same_seed_gives_the_same_weights(fit_tiny):
    first, again = fit_tiny(), fit_tiny()
    other = fit_tiny(seed=7)
    assert first.epochs == again.epochs
    assert_same_weights(first, again)
    assert first.epochs != other.epochs


def test_the_best_epochs_weights_are_the_ones_kept(
    fit_tiny, dataset, features, schema, make_config
):
    # Steps this large soon make the ranking worse.
    fitted = fit_tiny(learning_rate=0.5, epochs=12, patience=3)
    ndcgs = [epoch.ndcg for epoch in fitted.epochs]
    assert fitted.best_epoch == int(np.argmax(ndcgs))
    assert len(ndcgs) in (12, fitted.best_epoch + 1 + 3)
    config = make_config()
    parts = divide(dataset, config.split, config.seed)
    likes = parts.train.histories(len(features.users))
    scores = CatalogueScores(
        fitted.ranker,
        user_inputs(fitted.ranker, features, likes, schema),
        features.items.tensors,
    )
    judged = judge_users(
        scores.matrix, seen=parts.train, held_out=parts.validation, n_items=len(features.items)
    ).ranking
    assert judged.ndcg == pytest.approx(max(ndcgs))


def test_progress_runs_to_the_end(fit_tiny):
    calls = []
    fit_tiny(on_progress=lambda done, total: calls.append((done, total)), epochs=2)
    assert all(after[0] == before[0] + 1 for before, after in pairwise(calls))
    assert calls[-1] == (calls[-1][1], calls[0][1])


def test_weight_decay_shrinks_weights(fit_tiny):
    def size(decay):
        weights = fit_tiny(weight_decay=decay).ranker.full.get_weights()
        return sum(float(np.square(array).sum()) for array in weights)

    assert size(5.0) < 0.8 * size(0.0)


def test_without_validation_positives_no_epoch_can_be_chosen(
    dataset, features, schema, make_config
):
    none = dataset.interactions.select(~dataset.interactions.positive)
    with pytest.raises(DataError, match=r"no positive interaction in the validation part"):
        fit(features, schema, make_config(), train=dataset.interactions, validation=none)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "mixed_float16", "source_dropout": 0.3},
        {"learning_rate": 0.5, "patience": 2, "epochs": 8},
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(fit_tiny, tmp_path, options):
    path = tmp_path / "run" / "checkpoint"
    whole = fit_tiny(**options)
    for steps in (3, 8, 8, 10):  # five an epoch: within the first, the second twice, its end
        with pytest.raises(Killed):
            fit_tiny(on_progress=kill_after(steps), checkpoint=path, **options)
        assert path.exists() == (steps > 5)
    resumed = fit_tiny(checkpoint=path, **options)
    assert resumed.epochs == whole.epochs
    assert resumed.best_epoch == whole.best_epoch
    assert_same_weights(resumed, whole)
    assert list(path.parent.iterdir()) == []


def test_a_run_killed_at_its_end_is_not_trained_further(fit_tiny, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    whole = fit_tiny()
    monkeypatch.setattr(type(path), "unlink", lambda *_, **__: None)
    fit_tiny(checkpoint=path)
    monkeypatch.undo()
    steps = []
    again = fit_tiny(checkpoint=path, on_progress=lambda *done: steps.append(done))
    assert not steps
    assert again.epochs == whole.epochs
    assert_same_weights(again, whole)
    assert not path.exists()


def test_a_checkpoint_of_another_run_is_refused(fit_tiny, tmp_path):
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        fit_tiny(on_progress=kill_after(8), checkpoint=path)
    before = path.read_bytes()
    for other in ({"dim": 4}, {"seed": 7}):  # another model; other data as well
        with pytest.raises(
            DataError, match=r"checkpoint: found a checkpoint of another run .* del"
        ):
            fit_tiny(checkpoint=path, **other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_refused(fit_tiny, tmp_path, content):
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected a checkpoint, found: .*delete it"):
        fit_tiny(checkpoint=path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "mixed_bfloat16"},
        {"fusion": "attention", "history": "sasrec", "source_dropout": 0.2},
        {"fusion": "weighted", "history": "attention", "model": "finalmlp"},
        {"fusion": "channel", "history": "gru", "model": "deepfm", "adapter": "experts"},
        {"model": "din", "loss": "softmax", "whiten": 2},
        {"model": "autoint", "loss": "bpr", "negatives_from": "hard"},
        {"model": "masknet"},
        {"model": "dcn"},
    ],
)
def test_mixed_precision_learns_what_float32_does(fit_tiny, options):
    before = keras.config.dtype_policy()
    exact = fit_tiny(epochs=2, **(options | {"precision": "float32"}))
    mixed = fit_tiny(epochs=2, **({"precision": "mixed_float16"} | options))
    assert keras.config.dtype_policy() == before
    assert all(layer.compute_dtype == "float32" for layer in mixed.ranker.full.layers)
    assert {weight.dtype for weight in mixed.ranker.full.weights} == {"float32"}
    assert mixed.epochs[-1].loss == pytest.approx(exact.epochs[-1].loss, rel=0.05)
    assert mixed.epochs[-1].loss != exact.epochs[-1].loss


def test_tensorboard_shows_the_figures_of_every_epoch(fit_tiny, tmp_path):
    fitted = fit_tiny(tensorboard=tmp_path)
    (path,) = tmp_path.iterdir()
    found = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found == {
        (f"epoch/{name}", number): pytest.approx(value)
        for number, epoch in enumerate(fitted.epochs, start=1)
        for name, value in vars(epoch).items()
    }


def test_held_out_items_are_judged_among_themselves(dataset, features, schema, make_config):
    config = make_config(split=SplitConfig(strategy="items", validation=0.3), epochs=1)
    parts = divide(dataset, config.split, config.seed)
    (epoch,) = fit(features, schema, config, train=parts.train, validation=parts.validation).epochs
    # A list of ten holds most of the dozen that are new; among all thirty items it would not.
    assert len(features.items) - len(np.unique(parts.train.item)) == 12
    assert epoch.recall > 0.6
