"""Fitting: Adam on sampled batches until the ranking of validation positives stops improving."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from fuserank.errors import DataError
from fuserank.training.catalogue_scores import CatalogueScores, user_inputs
from fuserank.training.loss import interaction_loss
from fuserank.training.ranker import Ranker, build_ranker
from fuserank.training.ranking import Ranking, judge_ranking
from fuserank.training.sampling import Batch, Sampler

if TYPE_CHECKING:
    from fuserank.schema import Schema
    from fuserank.training.dataset import Interactions
    from fuserank.training.features import Features
    from fuserank.training.train_config import TrainConfig

__all__ = ["Epoch", "Fitted", "fit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the positives came to.

    Attributes:
        loss: mean over the batches.
        recall: Recall@10 of the validation positives, all items ranked.
        ndcg: NDCG@10 of the same.
    """

    loss: float
    recall: float
    ndcg: float


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained ranker.

    Attributes:
        ranker: with the averaged weights of the best epoch.
        epochs: every epoch in order.
        best_epoch: index of the epoch with the best validation NDCG@10.
        seconds: time spent, validation included.
    """

    ranker: Ranker
    epochs: tuple[Epoch, ...]
    best_epoch: int
    seconds: float


def fit(
    features: Features,
    schema: Schema,
    config: TrainConfig,
    *,
    train: Interactions,
    validation: Interactions,
    on_progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Train a ranker; the same arguments give the same weights on the same machine.

    Args:
        features: tensors of all users and items.
        schema: the fitted fields.
        config: model and options.
        train: interactions to learn from; the histories are made of them as well.
        validation: interactions whose positives choose the best epoch.
        on_progress: called with (steps done, steps at most).

    Raises:
        DataError: the validation part has no positive.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; weight decay
    as in Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; the running
    average of the weights, which is what is judged and kept, after Polyak and Juditsky,
    "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 30(4), 1992.
    """
    if not validation.positive.any():
        raise DataError(
            "train: found no positive interaction in the validation part, expected one or more "
            "to choose the best epoch by; raise split.validation"
        )
    started = time.perf_counter()
    sampler = Sampler(features, train, schema, config)
    learner = _Learner(build_ranker(schema, config), config, steps_an_epoch=sampler.steps)
    known_users = user_inputs(features, sampler.likes, schema)

    def judge() -> Ranking:
        scores = CatalogueScores(learner.ranker, known_users, features.items.tensors)
        return judge_ranking(
            scores.matrix, seen=train, held_out=validation, n_items=len(features.items)
        )

    epochs: list[Epoch] = []
    best, best_weights = 0, learner.ranker.full.get_weights()
    for number in range(config.epochs):
        losses = []
        for done, batch in enumerate(sampler.epoch(number), start=1):
            losses.append(learner.step(batch))
            if on_progress is not None:
                on_progress(number * sampler.steps + done, config.epochs * sampler.steps)
        with learner.averaged():
            ranking = judge()
            if number == 0 or ranking.ndcg > epochs[best].ndcg:
                best, best_weights = number, learner.ranker.full.get_weights()
        loss = float(np.mean(losses))
        epochs.append(Epoch(loss=loss, recall=ranking.recall, ndcg=ranking.ndcg))
        logger.info("epoch %d: loss %.4f, NDCG@10 %.4f", number + 1, loss, ranking.ndcg)
        if number - best >= config.patience:
            break
    learner.ranker.full.set_weights(best_weights)
    return Fitted(
        ranker=learner.ranker,
        epochs=tuple(epochs),
        best_epoch=best,
        seconds=time.perf_counter() - started,
    )


class _Learner:
    """A ranker, its optimizer, and the running average of its weights."""

    def __init__(self, ranker: Ranker, config: TrainConfig, *, steps_an_epoch: int) -> None:
        self.ranker = ranker
        self._config = config
        self._variables = ranker.full.trainable_variables
        self._optimizer = keras.optimizers.Adam(
            config.learning_rate,
            weight_decay=config.weight_decay or None,
            use_ema=True,
            ema_momentum=steps_an_epoch / (steps_an_epoch + 1),  # reaches back about one epoch
        )
        self._optimizer.exclude_from_weight_decay(var_names=["bias"])
        self._optimizer.build(self._variables)
        self._compiled = tf.function(self._learn, reduce_retracing=True)

    def step(self, batch: Batch) -> float:
        """Learn from a batch and return its loss."""
        arrays = (batch.candidates, batch.labels, batch.weights)
        return float(self._compiled(dict(batch.users), dict(batch.items), *arrays))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the ranker the average of its weights for the time of a block."""
        latest = self.ranker.full.get_weights()
        self._optimizer.finalize_variable_values(self._variables)
        yield
        self.ranker.full.set_weights(latest)

    def _learn(self, users: Any, items: Any, candidates: Any, labels: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            phi = tf.repeat(self.ranker.user_tower(users), tf.shape(candidates)[1], axis=0)
            psi = tf.gather(self.ranker.item_tower(items), tf.reshape(candidates, [-1]))
            loss = interaction_loss(
                tf.reshape(self.ranker.interaction([phi, psi]), tf.shape(labels)),
                labels,
                weights,
                mse_weight=self._config.mse_weight,
                mse_on=self._config.mse_on,
            )
        gradients = tape.gradient(loss, self._variables)
        self._optimizer.apply(gradients, self._variables)
        return loss
