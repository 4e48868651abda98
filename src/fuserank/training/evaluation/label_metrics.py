"""Metrics of labels, of which a row has one or several: averages over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from fuserank.training.evaluation.metrics import Bools, Counts, Doubles

__all__ = ["Averages", "LabelCounts", "macro_average", "micro_average"]


@dataclass(frozen=True, kw_only=True)
class Averages:
    """Precision, recall and F1 of several labels, averaged."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How often each label is there, is predicted, and both; (n_labels,) int64 each.

    Attributes:
        right: rows that have the label and of which it is predicted.
        predicted: rows of which it is predicted.
        true: rows that have it.
    """

    right: Counts
    predicted: Counts
    true: Counts

    @classmethod
    def of(cls, labels: Bools, predicted: Bools) -> Self:
        """Count over rows.

        Args:
            labels: (n, n_labels) which labels each row has; or (n,), taken as two classes.
            predicted: which are predicted, of the same shape.
        """
        true, found = _columns(labels), _columns(predicted)
        return cls((true & found).sum(axis=0), found.sum(axis=0), true.sum(axis=0))

    def of_labels(self, labels: Bools) -> LabelCounts:
        """The counts of the labels of a (n_labels,) mask."""
        return LabelCounts(self.right[labels], self.predicted[labels], self.true[labels])

    def __add__(self, other: LabelCounts) -> LabelCounts:
        """The counts over the rows of both."""
        return LabelCounts(
            self.right + other.right, self.predicted + other.predicted, self.true + other.true
        )


def micro_average(counts: LabelCounts) -> Averages:
    """Return precision, recall and F1 of the decisions on all labels taken together.

    With one label a row, each of the three is plain accuracy: what one class wrongly gains the
    other loses. They say something new of several labels only.
    """
    right, predicted, true = counts.right.sum(), counts.predicted.sum(), counts.true.sum()
    return Averages(
        precision=_ratio(right, predicted),
        recall=_ratio(right, true),
        f1=_ratio(2 * right, predicted + true),
    )


def macro_average(counts: LabelCounts) -> Averages:
    """Return the means over labels of precision, recall and F1, rare labels counting in full.

    A label that neither occurs nor is predicted counts as 0.

    Source: Opitz and Burst, "Macro F1 and Macro F1", arXiv:1911.03347, 2019: F1 here is the mean
    of the labels' F1, not the harmonic mean of the other two means.
    """
    right, predicted, true = counts.right, counts.predicted, counts.true
    return Averages(
        precision=float(_ratios(right, predicted).mean()),
        recall=float(_ratios(right, true).mean()),
        f1=float(_ratios(2 * right, predicted + true).mean()),
    )


def _columns(labels: Bools) -> Bools:
    """Return (n, n_labels) as it is, and (n,) as two columns: not so, and so."""
    return labels if labels.ndim == 2 else np.stack([~labels, labels], axis=1)


def _ratio(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else 0.0


def _ratios(part: Counts, whole: Counts) -> Doubles:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
