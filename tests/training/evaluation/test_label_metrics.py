import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from fuserank.training.evaluation.label_metrics import LabelCounts, macro_average, micro_average

MATRICES = st.tuples(st.integers(1, 20), st.integers(2, 5)).flatmap(
    lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape))
)


@given(MATRICES)
def test_averages_over_labels_agree_with_sklearn(matrices):
    for average, function in (("micro", micro_average), ("macro", macro_average)):
        found = function(LabelCounts.of(*matrices))
        expected = reference.precision_recall_fscore_support(
            *matrices, average=average, zero_division=0
        )
        assert (found.precision, found.recall, found.f1) == pytest.approx(expected[:3]), average


def test_counts_of_lots_of_rows_add_up():
    labels, predicted = np.random.default_rng(0).random((2, 9, 4)) < 0.5
    whole = LabelCounts.of(labels, predicted)
    halves = LabelCounts.of(labels[:5], predicted[:5])
    halves += LabelCounts.of(labels[5:], predicted[5:])
    assert macro_average(whole) == macro_average(halves)
    some = np.array([True, False, True, False])
    assert micro_average(whole.of_labels(some)) == micro_average(
        LabelCounts.of(labels[:, some], predicted[:, some])
    )


PAIRS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(hnp.arrays(np.bool_, n), hnp.arrays(np.bool_, n))
)


@given(PAIRS)
def test_averages_over_both_classes_agree_with_sklearn_and_micro_is_accuracy(pairs):
    labels, predicted = pairs
    counts = LabelCounts.of(labels, predicted)
    found = macro_average(counts)
    expected = reference.precision_recall_fscore_support(
        labels, predicted, average="macro", labels=[False, True], zero_division=0
    )
    assert (found.precision, found.recall, found.f1) == pytest.approx(expected[:3])
    micro = micro_average(counts)
    accuracy = (labels == predicted).mean()
    assert (micro.precision, micro.recall, micro.f1) == pytest.approx((accuracy,) * 3)
