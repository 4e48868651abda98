import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from fuserank.training.evaluation import list_metrics


def test_top_items_break_ties_by_order_and_leave_out_what_is_not_eligible():
    scores = np.array([[1, 3, 3, np.nan, 2], [5, 4, 3, 2, 1]], np.float32)
    eligible = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 0, 0]], bool)
    assert list_metrics.top_items(scores, eligible, 3).tolist() == [[1, 2, 4], [1, -1, -1]]


def test_top_items_of_a_short_catalogue_are_all_of_it():
    assert list_metrics.top_items(np.zeros((1, 2)), np.ones((1, 2), bool), 10).tolist() == [[0, 1]]


RANKED = st.tuples(st.integers(1, 6), st.integers(3, 12), st.integers(1, 12)).flatmap(
    lambda sizes: st.tuples(
        hnp.arrays(np.float64, sizes[:2], elements=st.floats(-5, 5), unique=True),
        hnp.arrays(np.bool_, sizes[:2]),
        st.just(min(sizes[2], sizes[1])),
    )
)


@given(RANKED)
def test_average_precision_of_whole_rankings_agrees_with_sklearn(case):
    scores, relevant, _ = case
    relevant[:, 0] |= ~relevant.any(axis=1)
    top = list_metrics.top_items(scores, np.ones_like(relevant), scores.shape[1])
    for row, found in enumerate(list_metrics.average_precision_at_k(top, relevant)):
        expected = reference.average_precision_score(relevant[row], scores[row])
        assert found == pytest.approx(expected)


@given(RANKED)
def test_ranking_metrics_agree_with_references(case):
    scores, relevant, k = case
    relevant[:, 0] |= ~relevant.any(axis=1)
    top = list_metrics.top_items(scores, np.ones_like(relevant), k)
    recalls = list_metrics.recall_at_k(top, relevant)
    gains = list_metrics.ndcg(top, relevant)
    precisions = list_metrics.precision_at_k(top, relevant)
    hits = list_metrics.hit_at_k(top, relevant)
    reciprocals = list_metrics.reciprocal_rank(top, relevant)
    averages = list_metrics.average_precision_at_k(top, relevant)
    for row, best in enumerate(np.argsort(-scores, axis=1)[:, :k]):
        wanted = set(np.flatnonzero(relevant[row]))
        assert recalls[row] == pytest.approx(len(wanted & set(best)) / len(wanted))
        expected = reference.ndcg_score(relevant[row : row + 1], scores[row : row + 1], k=k)
        assert gains[row] == pytest.approx(expected)
        found = [item in wanted for item in best]
        assert precisions[row] == pytest.approx(sum(found) / k)
        assert hits[row] == any(found)
        assert reciprocals[row] == (1 / (found.index(True) + 1) if any(found) else 0)
        at_hits = [sum(found[: i + 1]) / (i + 1) for i in range(k) if found[i]]
        assert averages[row] == pytest.approx(sum(at_hits) / min(k, len(wanted)))


def test_a_list_that_is_not_full_counts_only_what_it_holds():
    relevant = np.array([[True, False, True]])
    top = np.array([[0, -1]])
    assert list_metrics.recall_at_k(top, relevant).tolist() == [0.5]
    assert list_metrics.ndcg(top, relevant)[0] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert list_metrics.precision_at_k(top, relevant).tolist() == [0.5]
    assert list_metrics.average_precision_at_k(top, relevant).tolist() == [0.5]


LISTS = np.array([[0, 1, 2], [2, 3, -1], [1, -1, -1], [-1, -1, -1]])


def test_coverage_counts_items_in_any_list():
    nothing = np.zeros((4, 8), bool)
    assert list_metrics.coverage(list_metrics.label_counts(LISTS, nothing)) == 4 / 8
    assert list_metrics.coverage(list_metrics.label_counts(LISTS[3:], nothing[3:])) == 0


def test_lists_are_sets_of_labels():
    relevant = np.zeros((4, 5), bool)
    relevant[[0, 0, 1, 3], [1, 4, 2, 0]] = True
    found = list_metrics.label_counts(LISTS, relevant)
    assert found.right.tolist() == [0, 1, 1, 0, 0]
    assert found.predicted.tolist() == [1, 2, 2, 1, 0]
    assert found.true.tolist() == [1, 1, 1, 0, 1]


def test_novelty_is_the_mean_self_information_of_a_list():
    share = np.array([1.0, 0.5, 0.25, 0.125])
    np.testing.assert_allclose(list_metrics.novelty(LISTS, share), [1, 2.5, 1, np.nan])


@given(hnp.arrays(np.float32, (4, 3), elements=st.integers(-2, 2).map(float)))
def test_diversity_agrees_with_sklearn(vectors):
    alike = reference.pairwise.cosine_similarity(vectors.astype(np.float64))
    pairs = [1 - (alike[0, 1] + alike[0, 2] + alike[1, 2]) / 3, 1 - alike[2, 3], np.nan, np.nan]
    np.testing.assert_allclose(list_metrics.diversity(LISTS, vectors), pairs, atol=1e-12)
