import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from fuserank.training import metrics

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


def test_top_items_break_ties_by_order_and_leave_out_what_is_not_eligible():
    scores = np.array([[1, 3, 3, np.nan, 2], [5, 4, 3, 2, 1]], np.float32)
    eligible = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 0, 0]], bool)
    assert metrics.top_items(scores, eligible, 3).tolist() == [[1, 2, 4], [1, -1, -1]]


def test_top_items_of_a_short_catalogue_are_all_of_it():
    assert metrics.top_items(np.zeros((1, 2)), np.ones((1, 2), bool), 10).tolist() == [[0, 1]]


RANKED = st.tuples(st.integers(1, 6), st.integers(3, 12), st.integers(1, 12)).flatmap(
    lambda sizes: st.tuples(
        hnp.arrays(np.float64, sizes[:2], elements=st.floats(-5, 5), unique=True),
        hnp.arrays(np.bool_, sizes[:2]),
        st.just(min(sizes[2], sizes[1])),
    )
)


@given(RANKED)
def test_ranking_metrics_agree_with_references(case):
    scores, relevant, k = case
    relevant[:, 0] |= ~relevant.any(axis=1)
    top = metrics.top_items(scores, np.ones_like(relevant), k)
    recalls = metrics.recall_at_k(top, relevant)
    gains = metrics.ndcg(top, relevant)
    for row, best in enumerate(np.argsort(-scores, axis=1)[:, :k]):
        wanted = set(np.flatnonzero(relevant[row]))
        assert recalls[row] == pytest.approx(len(wanted & set(best)) / len(wanted))
        expected = reference.ndcg_score(relevant[row : row + 1], scores[row : row + 1], k=k)
        assert gains[row] == pytest.approx(expected)


def test_a_list_that_is_not_full_counts_only_what_it_holds():
    relevant = np.array([[True, False, True]])
    top = np.array([[0, -1]])
    assert metrics.recall_at_k(top, relevant).tolist() == [0.5]
    assert metrics.ndcg(top, relevant)[0] == pytest.approx(1 / (1 + 1 / np.log2(3)))
