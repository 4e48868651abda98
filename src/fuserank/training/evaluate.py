"""Judging a trained ranker on interactions it has not seen, next to popularity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fuserank.errors import DataError
from fuserank.training import metrics
from fuserank.training.histories import Histories
from fuserank.training.ranking import Ranking, judge_ranking

if TYPE_CHECKING:
    from fuserank.schema import Schema
    from fuserank.training.features import Features
    from fuserank.training.ranker import Ranker
    from fuserank.training.splits import Parts

__all__ = ["Classification", "Report", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Classification:
    """How well observed pairs are told apart.

    Attributes:
        n_pairs: held-out pairs.
        base_rate: share of positives among them; always predicting a like is right that often.
        accuracy: share predicted as it is, at the report's threshold.
        precision: share of positives among those predicted.
        recall: share of positives that are predicted.
        f1: harmonic mean of both.
        roc_auc: chance that a positive scores above a negative; None where all pairs are alike.
        log_loss: mean cross-entropy in nats; training against sampled negatives puts
            probabilities below the base rate of observed pairs, which this shows.
    """

    n_pairs: int
    base_rate: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    roc_auc: float | None
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a trained ranker came to.

    Attributes:
        threshold: probability from which a pair counts as a like; best F1 on validation pairs.
        classification: of held-out observed pairs.
        ranking: of held-out positives among all items that the user had not met.
        popularity: the same for the number of likes in training.
    """

    threshold: float
    classification: Classification
    ranking: Ranking
    popularity: Ranking

    def to_json(self) -> bytes:
        """Return the report as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def from_json(cls, text: bytes, source: str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            DataError: not a report.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise DataError(f"{source}: expected a training report, found: {error}") from error


def evaluate(ranker: Ranker, features: Features, schema: Schema, parts: Parts) -> Report:
    """Judge a ranker on the test part; histories hold what was liked in training.

    Args:
        ranker: the trained model.
        features: tensors of all users and items.
        schema: the fitted fields.
        parts: the interactions; validation chooses the threshold, test judges.

    Raises:
        DataError: no test interaction is positive.
    """
    # Keras takes seconds to import, which who only reads a report should not wait for.
    from fuserank.training.catalogue_scores import CatalogueScores, user_inputs

    likes = Histories.of_positives(parts.train, n_users=len(features.users))
    scores = CatalogueScores(ranker, user_inputs(features, likes, schema), features.items.tensors)
    validation = scores.pairs(parts.validation.user, parts.validation.item)
    threshold = metrics.best_threshold(parts.validation.positive, metrics.sigmoid(validation))
    logits = scores.pairs(parts.test.user, parts.test.item)
    seen = parts.train.joined(parts.validation)
    liked = parts.train.item[parts.train.positive]
    popularity = np.bincount(liked, minlength=len(features.items)).astype(np.float64)
    n_items = len(features.items)
    return Report(
        threshold=threshold,
        classification=_classify(parts.test.positive, logits, threshold),
        ranking=judge_ranking(scores.matrix, seen=seen, held_out=parts.test, n_items=n_items),
        popularity=judge_ranking(
            lambda users: np.tile(popularity, (len(users), 1)),
            seen=seen,
            held_out=parts.test,
            n_items=n_items,
        ),
    )


def _classify(labels: metrics.Bools, logits: metrics.Floats, threshold: float) -> Classification:
    predicted = metrics.sigmoid(logits) >= threshold
    auc = metrics.roc_auc(labels, logits)
    return Classification(
        n_pairs=len(labels),
        base_rate=float(labels.mean()),
        accuracy=metrics.accuracy(labels, predicted),
        precision=metrics.precision(labels, predicted),
        recall=metrics.recall(labels, predicted),
        f1=metrics.f1(labels, predicted),
        roc_auc=None if np.isnan(auc) else auc,
        log_loss=metrics.log_loss(labels, logits),
    )
