from itertools import pairwise

import numpy as np
import pytest

from fuserank.errors import DataError
from fuserank.training.catalogue_scores import CatalogueScores, user_inputs
from fuserank.training.fit import fit
from fuserank.training.histories import Histories
from fuserank.training.ranking import judge_ranking
from fuserank.training.splits import divide


@pytest.fixture(scope="module")
def fit_tiny(dataset, features, schema, make_config):
    """Return a function that trains on the tiny data set."""

    def run(on_progress=None, **options):
        config = make_config(**options)
        parts = divide(dataset, config)
        return fit(
            features,
            schema,
            config,
            train=parts.train,
            validation=parts.validation,
            on_progress=on_progress,
        )

    return run


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
    for one, two in zip(
        first.ranker.full.get_weights(), again.ranker.full.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    assert first.epochs != other.epochs


def test_the_best_epochs_weights_are_the_ones_kept(
    fit_tiny, dataset, features, schema, make_config
):
    # Steps this large soon make the ranking worse.
    fitted = fit_tiny(learning_rate=0.5, epochs=12, patience=3)
    ndcgs = [epoch.ndcg for epoch in fitted.epochs]
    assert fitted.best_epoch == int(np.argmax(ndcgs))
    assert len(ndcgs) in (12, fitted.best_epoch + 1 + 3)
    parts = divide(dataset, make_config())
    likes = Histories.of_positives(parts.train, n_users=len(features.users))
    scores = CatalogueScores(
        fitted.ranker, user_inputs(features, likes, schema), features.items.tensors
    )
    judged = judge_ranking(
        scores.matrix, seen=parts.train, held_out=parts.validation, n_items=len(features.items)
    )
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
