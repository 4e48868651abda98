"""Judging a trained ranker on interactions it has not seen, next to popularity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.errors import DataError
from fuserank.schema import Side
from fuserank.training.data.cleaning import CleaningReport
from fuserank.training.evaluation import metrics
from fuserank.training.evaluation.label_metrics import LabelCounts, macro_average
from fuserank.training.evaluation.ranking import (
    JudgedUsers,
    Ranking,
    judge_users,
    share_of_users,
)

if TYPE_CHECKING:
    from fuserank.schema import Schema
    from fuserank.training.data.features import Features
    from fuserank.training.data.splits import Parts
    from fuserank.training.model.ranker import Ranker

__all__ = ["Classification", "Epoch", "Judged", "Report", "judge"]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the positives came to.

    Attributes:
        loss: mean over the batches.
        recall: Recall@10 of the validation positives, all items ranked.
        ndcg: NDCG@10 of the same.
        auc: chance that a validation positive scores above a negative; 0.5 where all are alike.
    """

    loss: float
    recall: float
    ndcg: float
    auc: float = 0.5


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
        macro_f1: mean of the F1 of both classes.
        roc_auc: chance that a positive scores above a negative; None where all pairs are alike.
        pr_auc: mean precision over the positives, by descending score; None where there is none.
        log_loss: mean cross-entropy in nats.
        brier: mean squared error of the probabilities.
        calibration: how far probabilities are from the shares of positives.
    """

    n_pairs: int
    base_rate: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    macro_f1: float
    roc_auc: float | None
    pr_auc: float | None
    log_loss: float
    brier: float
    calibration: metrics.Calibration


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a trained ranker came to.

    Attributes:
        threshold: probability from which a pair counts as a like; best F1 on validation pairs.
        classification: of held-out observed pairs.
        ranking: of held-out positives among all items that the user had not met.
        popularity: the same for the number of likes in training.
        cold_items: of held-out positives among the items that training never met alone; None
            where there is none.
        epochs: how training went.
        cleaning: what was left out of the interactions, and repaired in the tables, before it.
    """

    threshold: float
    classification: Classification
    ranking: Ranking
    popularity: Ranking
    cold_items: Ranking | None
    epochs: tuple[Epoch, ...]
    cleaning: CleaningReport = field(default_factory=CleaningReport)

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


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A ranker on the test part, with what a page or a comparison shows.

    Attributes:
        report: the figures.
        users: figures of each user.
        labels: (n,) bool of the held-out pairs.
        logits: (n,) float32 of the same.
    """

    report: Report
    users: JudgedUsers
    labels: metrics.Bools
    logits: npt.NDArray[np.float32]


def judge(
    ranker: Ranker,
    features: Features,
    schema: Schema,
    parts: Parts,
    epochs: tuple[Epoch, ...] = (),
) -> Judged:
    """Judge a ranker on the test part; histories hold what was liked in training.

    Args:
        ranker: the trained model.
        features: tensors of all users and items.
        schema: the fitted fields.
        parts: the interactions; validation chooses the threshold, test judges.
        epochs: how training went, for the report.

    Raises:
        DataError: no test interaction is positive.
    """
    # Keras takes seconds to import, which who only reads a report should not wait for.
    from fuserank.training.model.catalogue_scores import CatalogueScores

    likes = parts.train.histories(len(features.users))
    scores = CatalogueScores.of_known(ranker, features, likes, schema)
    validation = scores.pairs(parts.validation.user, parts.validation.item)
    threshold = metrics.best_threshold(parts.validation.positive, metrics.sigmoid(validation))
    logits = scores.pairs(parts.test.user, parts.test.item)
    n_items = len(features.items)
    judge_test = _on_test_part(parts, n_items)
    judged = judge_test(scores.matrix, item_vectors=_text_vectors(features, schema))
    likes_of_items = parts.train.like_counts(n_items)
    cold = parts.train.item_counts(n_items) == 0
    report = Report(
        threshold=threshold,
        classification=_classify(parts.test.positive, logits, threshold),
        ranking=judged.ranking,
        popularity=judge_test(
            lambda users: np.broadcast_to(likes_of_items, (len(users), n_items))
        ).ranking,
        cold_items=judge_test(scores.matrix, candidates=cold).ranking
        if (cold[parts.test.item] & parts.test.positive).any()
        else None,
        epochs=epochs,
    )
    return Judged(report=report, users=judged, labels=parts.test.positive, logits=logits)


def _on_test_part(parts: Parts, n_items: int) -> Callable[..., JudgedUsers]:
    """Return `judge_users` for the test part, which yet takes scores and what is judged of it."""
    users = np.unique(parts.test.user)
    return partial(
        judge_users,
        # Of those who are judged alone, since the training part may be larger than memory.
        seen=parts.train.of_users(users).joined(parts.validation.of_users(users)),
        met_by=share_of_users((parts.train, parts.validation), n_items),
        held_out=parts.test,
        n_items=n_items,
    )


def _text_vectors(features: Features, schema: Schema) -> npt.NDArray[np.float32] | None:
    """Return (n_items, dim) what items are about, by which the diversity of a list is told."""
    for fitted in schema.text_fields(Side.ITEM):
        vectors: npt.NDArray[np.float32] = features.items.tensors[fitted.field.tensor]
        return vectors
    return None


def _classify(labels: metrics.Bools, logits: metrics.Floats, threshold: float) -> Classification:
    probabilities = metrics.sigmoid(logits)
    predicted = probabilities >= threshold
    auc, pr_auc = metrics.roc_auc(labels, logits), metrics.pr_auc(labels, logits)
    return Classification(
        n_pairs=len(labels),
        base_rate=float(labels.mean()),
        accuracy=metrics.accuracy(labels, predicted),
        precision=metrics.precision(labels, predicted),
        recall=metrics.recall(labels, predicted),
        f1=metrics.f1(labels, predicted),
        macro_f1=macro_average(LabelCounts.of(labels, predicted)).f1,
        roc_auc=None if np.isnan(auc) else auc,
        pr_auc=None if np.isnan(pr_auc) else pr_auc,
        log_loss=metrics.log_loss(labels, logits),
        brier=metrics.brier(labels, probabilities),
        calibration=metrics.calibration(labels, probabilities),
    )
