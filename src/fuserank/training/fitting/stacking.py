"""Fitting the head of a trained ranker on the validation part: what is blended, and probabilities.

Source: Wolpert, "Stacked Generalization", Neural Networks 5(2), 1992.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuserank.training.evaluation import metrics
from fuserank.training.evaluation.ranking import judge_users
from fuserank.training.fitting.fit import ranked_items
from fuserank.training.model.catalogue_scores import CatalogueScores

if TYPE_CHECKING:
    from fuserank.schema import Schema
    from fuserank.training.data.features import Features
    from fuserank.training.data.splits import Parts
    from fuserank.training.model.ranker import Ranker
    from fuserank.training.train_config import TrainConfig

__all__ = ["fit_head", "fit_sigmoid"]

_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
"""Weights that are tried, where all scores vary alike."""

_TURNS = 3
"""How often each of several weights is chosen anew."""

_SCORES = 1 << 25
"""Scores of one kind that choose weights, at most: of as many users as that makes, 130 MB."""

_STEPS, _SMALL = 50, 1e-9


def fit_head(
    ranker: Ranker, features: Features, schema: Schema, parts: Parts, config: TrainConfig
) -> None:
    """Set the head's numbers: the blend that ranks the validation part best, then probabilities.

    Args:
        ranker: a trained ranker, whose head is as it was built.
        features: tensors of all users and items.
        schema: the fitted fields.
        parts: the interactions; histories hold what was liked in training.
        config: what is blended, and whether probabilities are calibrated.
    """
    head, validation = ranker.interaction, parts.validation
    calibrates = config.calibrate and 0 < validation.positive.mean() < 1
    added = [head.beside_weight] if head.beside is not None else []
    added += [head.weight] if head.blends else []
    if not (added or calibrates):
        return
    likes = parts.train.histories(len(features.users))
    scores = CatalogueScores.of_known(ranker, features, likes, schema)
    if added:
        _fit_weights(added, scores, parts, ranked_items(parts.train, config, len(features.items)))
    if calibrates:
        logits = scores.pairs(validation.user, validation.item)
        slope, intercept = fit_sigmoid(logits, validation.positive)
        if slope > 0:  # else likes score below dislikes, and the order is worth more
            head.slope.assign(slope)
            head.intercept.assign(intercept)


def _fit_weights(
    weights: Sequence[Any],
    scores: CatalogueScores,
    parts: Parts,
    candidates: npt.NDArray[np.bool_] | None,
) -> None:
    """Set the weights of what is added to the model's score, for the best NDCG@10 of validation.

    One after the other is chosen, in turns, while the others stay.
    """
    validation = parts.validation
    users = np.unique(validation.user[validation.positive])
    chosen = np.random.default_rng(0).permutation(users)[: max(_SCORES // len(scores.psi), 1)]
    chosen.sort()
    held_out = validation.select(np.isin(validation.user, chosen))
    for weight in weights:
        weight.assign(0.0)
    model = scores.matrix(chosen)
    added, units = [], []
    for weight in weights:
        weight.assign(1.0)
        found = scores.matrix(chosen) - model
        weight.assign(0.0)
        units.append(float(model.std() / max(found.std(), _SMALL)))
        added.append(np.float32(units[-1]) * found)
    shares = np.zeros(len(weights), dtype=np.float32)

    def ndcg(at: int, share: float) -> float:
        tried = shares.copy()
        tried[at] = share

        def blended(some: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
            rows = np.searchsorted(chosen, some)
            total: npt.NDArray[np.float32] = model[rows]
            for each, matrix in zip(tried, added, strict=True):
                total = total + each * matrix[rows]
            return total

        return judge_users(
            blended,
            seen=parts.train,
            held_out=held_out,
            n_items=len(scores.psi),
            candidates=candidates,
        ).ranking.ndcg

    for _ in range(_TURNS if len(weights) > 1 else 1):
        for at in range(len(weights)):
            shares[at] = max(_WEIGHTS, key=lambda share: ndcg(at, share))
    for weight, unit, share in zip(weights, units, shares, strict=True):
        weight.assign(unit * share)


def fit_sigmoid(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Return a and b for which σ(a·z + b) fits labels best, by Newton's method.

    Args:
        logits: z, (n,).
        labels: (n,), both classes among them. A label counts a little less than one, so that pairs
            that are told apart without fault do not make a infinite.

    Source: Lin, Lin and Weng, "A Note on Platt's Probabilistic Outputs for Support Vector
    Machines", Machine Learning 68, 2007.
    """
    z = logits.astype(np.float64)
    n_positive = labels.sum()
    n_negative = len(labels) - n_positive
    targets = np.where(labels, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    design = np.stack([z, np.ones_like(z)], axis=1)

    def loss(numbers: npt.NDArray[np.float64]) -> float:
        found = design @ numbers
        return float((np.logaddexp(0.0, found) - targets * found).sum())

    numbers = np.array([0.0, np.log((n_positive + 1) / (n_negative + 1))])
    for _ in range(_STEPS):
        p = metrics.sigmoid(design @ numbers)
        gradient = design.T @ (p - targets)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + _SMALL * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > _SMALL and loss(numbers - size * step) > loss(numbers):
            size /= 2
        numbers = numbers - size * step
        if np.abs(size * step).max() < _SMALL:
            break
    return float(numbers[0]), float(numbers[1])
