"""Metrics of observed pairs: how well they are told apart, and what probabilities are worth."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fuserank.errors import DataError

__all__ = [
    "Calibration",
    "CalibrationBin",
    "accuracy",
    "best_threshold",
    "brier",
    "calibration",
    "f1",
    "log_loss",
    "pr_auc",
    "precision",
    "recall",
    "roc_auc",
    "roc_curve",
    "sigmoid",
]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Pairs whose predicted probabilities lie in one interval.

    Attributes:
        low: from this probability,
        high: to below this one; the last interval includes it.
        count: pairs, one or more.
        predicted: their mean probability.
        observed: share of positives among them.
    """

    low: float
    high: float
    count: int
    predicted: float
    observed: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far predicted probabilities are from what happens.

    Attributes:
        error: expected calibration error, the mean over pairs of |predicted − observed| in the
            pair's bin.
        bins: in ascending order, the empty ones left out.
    """

    error: float
    bins: tuple[CalibrationBin, ...]


def sigmoid(logits: Floats) -> Doubles:
    """Return σ(z) as float64, without overflow.

    >>> sigmoid(np.array([-1e4, 0.0]))
    array([0. , 0.5])
    """
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


def accuracy(labels: Bools, predicted: Bools) -> float:
    """Return the share of pairs predicted as they are."""
    return float((labels == predicted).mean())


def precision(labels: Bools, predicted: Bools) -> float:
    """Return the share of positives among those predicted; 0 where none is predicted."""
    return _ratio((labels & predicted).sum(), predicted.sum())


def recall(labels: Bools, predicted: Bools) -> float:
    """Return the share of positives that are predicted; 0 where there is none."""
    return _ratio((labels & predicted).sum(), labels.sum())


def f1(labels: Bools, predicted: Bools) -> float:
    """Return the harmonic mean of precision and recall, 2tp / (2tp + fp + fn)."""
    return _ratio(2 * (labels & predicted).sum(), labels.sum() + predicted.sum())


def best_threshold(labels: Bools, scores: Floats) -> float:
    """Return the threshold t for which predicting scores ≥ t has the best F1.

    It lies halfway between two scores, the highest such one where several do equally well.
    Choose it on validation data, never on the data that judge.

    >>> best_threshold(np.array([False, True, True]), np.array([0.1, 0.3, 0.7]))
    0.2

    Args:
        labels: (n,) whether each pair is positive, n ≥ 1.
        scores: (n,) finite scores.
    """
    distinct, above, hits = _at_or_above(labels, scores)
    best = int(np.argmax(2 * hits / (above + max(int(labels.sum()), 1))))
    below = distinct[min(best + 1, len(distinct) - 1)]
    return float((distinct[best] + below) / 2)


def roc_auc(labels: Bools, scores: Floats) -> float:
    """Return the chance that a positive scores above a negative, ties counting one half.

    NaN where one of the classes is empty.

    Source: Fawcett, "An Introduction to ROC Analysis", Pattern Recognition Letters 27(8), 2006,
    section 7 (the area equals the Wilcoxon rank statistic).
    """
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2  # of each distinct score, from 1
    above = mean_rank[inverse][labels].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def roc_curve(labels: Bools, scores: Floats, points: int = 200) -> tuple[Doubles, Doubles]:
    """Return false positive rates and true positive rates, from (0, 0) to (1, 1), to be drawn.

    >>> roc_curve(np.array([False, True, True]), np.array([0.1, 0.1, 0.7]))
    (array([0., 0., 1.]), array([0. , 0.5, 1. ]))

    Args:
        labels: (n,) whether each pair is positive.
        scores: (n,) finite scores.
        points: at most this many, 2 or more; where there are more distinct scores, points are
            left out evenly along the curve.

    Raises:
        DataError: one of the classes is empty.

    Source: as of `roc_auc`, section 5.
    """
    n_positive = int(labels.sum())
    if not 0 < n_positive < len(labels):
        raise DataError(
            f"ROC curve: found {n_positive} positive pairs of {len(labels)}, expected pairs of "
            "both classes; judge on data with likes and dislikes"
        )
    _, above, hits = _at_or_above(labels, scores)
    true = np.append(0.0, hits / n_positive)
    false = np.append(0.0, (above - hits) / (len(labels) - n_positive))
    if len(true) > points:
        kept = np.unique(np.searchsorted(true + false, np.linspace(0.0, 2.0, points)))
        true, false = true[kept], false[kept]
    return false, true


def pr_auc(labels: Bools, scores: Floats) -> float:
    """Return average precision: the area under precision over recall, in steps.

    That is Σ (Rₙ − Rₙ₋₁) Pₙ over the distinct scores in descending order; points are not joined
    by straight lines, which would flatter. A guess comes to the base rate. NaN where no pair is
    positive.

    Source: Davis and Goadrich, "The Relationship Between Precision-Recall and ROC Curves", ICML
    2006, on interpolation.
    """
    n_positive = int(labels.sum())
    if not n_positive:
        return float("nan")
    _, above, hits = _at_or_above(labels, scores)
    return float((np.diff(hits, prepend=0) * hits / above).sum() / n_positive)


def brier(labels: Bools, probabilities: Floats) -> float:
    """Return the mean squared difference between probability and outcome, from 0 to 1.

    Source: Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather
    Review 78(1), 1950; of the positive class alone, which is half of what is defined there.
    """
    return float(np.square(probabilities.astype(np.float64) - labels).mean())


def calibration(labels: Bools, probabilities: Floats, bins: int = 15) -> Calibration:
    """Return the expected calibration error and the bins it is made of.

    Args:
        labels: (n,) whether each pair is positive, n ≥ 1.
        probabilities: (n,) in [0, 1].
        bins: intervals of equal width.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using
    Bayesian Binning", AAAI 2015; 15 bins as in Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017.
    """
    p = probabilities.astype(np.float64)
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.flatnonzero(count)
    predicted = np.bincount(place, weights=p, minlength=bins)[filled] / count[filled]
    observed = np.bincount(place, weights=labels, minlength=bins)[filled] / count[filled]
    return Calibration(
        error=float(np.average(np.abs(predicted - observed), weights=count[filled])),
        bins=tuple(
            CalibrationBin(
                low=float(i / bins),
                high=float((i + 1) / bins),
                count=int(count[i]),
                predicted=float(mean),
                observed=float(share),
            )
            for i, mean, share in zip(filled, predicted, observed, strict=True)
        ),
    )


def log_loss(labels: Bools, logits: Floats) -> float:
    """Return the mean cross-entropy −[r log σ(z) + (1−r) log(1−σ(z))] in nats."""
    z = logits.astype(np.float64)
    return float((np.logaddexp(0.0, z) - labels * z).mean())


def _at_or_above(labels: Bools, scores: Floats) -> tuple[Doubles, Counts, Counts]:
    """Return the distinct scores, descending, and how many pairs and positives reach each."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    last_of_tie = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))
    hits: Counts = np.cumsum(labels[order], dtype=np.int64)
    return ranked[last_of_tie], last_of_tie + 1, hits[last_of_tie]


def _ratio(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else 0.0
