import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from fuserank.errors import DataError
from fuserank.training.evaluation import metrics

# Few distinct scores, so that ties are common.
PAIRS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.bool_, n), hnp.arrays(np.float32, n, elements=st.integers(-4, 4).map(float))
    )
)


@given(PAIRS)
def test_threshold_metrics_agree_with_sklearn(pairs):
    labels, scores = pairs
    predicted = scores >= 0
    for name, function in (
        ("precision", reference.precision_score),
        ("recall", reference.recall_score),
        ("f1", reference.f1_score),
    ):
        expected = function(labels, predicted, zero_division=0)
        assert getattr(metrics, name)(labels, predicted) == pytest.approx(expected), name
    assert metrics.accuracy(labels, predicted) == pytest.approx((labels == predicted).mean())


@given(PAIRS)
def test_roc_auc_agrees_with_sklearn_ties_included(pairs):
    labels, scores = pairs
    if labels.all() or not labels.any():
        assert np.isnan(metrics.roc_auc(labels, scores))
    else:
        assert metrics.roc_auc(labels, scores) == pytest.approx(
            reference.roc_auc_score(labels, scores)
        )


@given(PAIRS)
def test_log_loss_agrees_with_sklearn(pairs):
    labels, logits = pairs
    expected = reference.log_loss(labels, metrics.sigmoid(logits), labels=[False, True])
    assert metrics.log_loss(labels, logits) == pytest.approx(expected)


def test_log_loss_of_a_certain_mistake_is_finite():
    assert metrics.log_loss(np.array([True]), np.array([-1e4], np.float32)) == pytest.approx(1e4)


@given(PAIRS)
def test_best_threshold_is_as_good_as_any(pairs):
    labels, scores = pairs

    def f1_at(threshold: float) -> float:
        return metrics.f1(labels, scores >= threshold)

    best = f1_at(metrics.best_threshold(labels, scores))
    assert best == pytest.approx(max(map(f1_at, np.unique(scores))))


def test_precision_and_recall_without_any_positive_are_zero():
    none = np.zeros(3, bool)
    assert (
        metrics.precision(none, none) == metrics.recall(none, none) == metrics.f1(none, none) == 0
    )


@given(PAIRS)
def test_pr_auc_agrees_with_sklearn_ties_included(pairs):
    labels, scores = pairs
    if not labels.any():
        assert np.isnan(metrics.pr_auc(labels, scores))
    else:
        expected = reference.average_precision_score(labels, scores)
        assert metrics.pr_auc(labels, scores) == pytest.approx(expected)


BOTH_CLASSES = PAIRS.filter(lambda pairs: 0 < pairs[0].sum() < len(pairs[0]))


@given(BOTH_CLASSES)
def test_roc_curve_agrees_with_sklearn(pairs):
    labels, scores = pairs
    false, true, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    found = metrics.roc_curve(labels, scores)
    np.testing.assert_allclose(found, (false, true))


@given(BOTH_CLASSES, st.integers(2, 10))
def test_a_thinned_roc_curve_keeps_its_ends_and_lies_on_the_whole_one(pairs, points):
    labels, scores = pairs
    false, true = metrics.roc_curve(labels, scores, points=points)
    whole = set(zip(*metrics.roc_curve(labels, scores), strict=True))
    assert len(false) <= points
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert set(zip(false, true, strict=True)) <= whole
    assert (np.diff(false + true) > 0).all()


def test_a_long_roc_curve_keeps_its_area_when_thinned():
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.3
    scores = labels + rng.normal(size=20_000)
    false, true = metrics.roc_curve(labels, scores)
    assert np.trapezoid(true, false) == pytest.approx(metrics.roc_auc(labels, scores), abs=1e-4)


def test_a_roc_curve_needs_both_classes():
    with pytest.raises(DataError, match="found 2 positive pairs of 2, expected pairs of both"):
        metrics.roc_curve(np.array([True, True]), np.array([0.1, 0.2]))


@given(PAIRS)
def test_brier_agrees_with_sklearn(pairs):
    labels, logits = pairs
    p = metrics.sigmoid(logits)
    assert metrics.brier(labels, p) == pytest.approx(reference.brier_score_loss(labels, p))


@given(PAIRS, st.integers(1, 20))
def test_calibration_agrees_with_its_definition(pairs, n_bins):
    labels, scores = pairs
    p = (scores + 4) / 8  # both ends of [0, 1] and edges of bins occur
    found = metrics.calibration(labels, p, n_bins)
    error, bins = 0.0, iter(found.bins)
    for i in range(n_bins):
        inside = np.array([min(int(value * n_bins), n_bins - 1) == i for value in p.tolist()])
        if not inside.any():
            continue
        one = next(bins)
        assert (one.low, one.high) == pytest.approx((i / n_bins, (i + 1) / n_bins))
        assert one.count == inside.sum()
        assert one.predicted == pytest.approx(p[inside].mean())
        assert one.observed == pytest.approx(labels[inside].mean())
        error += inside.sum() * abs(p[inside].mean() - labels[inside].mean()) / len(p)
    assert next(bins, None) is None
    assert found.error == pytest.approx(error)


def test_true_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    p = rng.random(100_000)
    assert metrics.calibration(rng.random(100_000) < p, p).error < 0.01
    assert metrics.calibration(rng.random(100_000) < p, np.ones_like(p)).error > 0.4
