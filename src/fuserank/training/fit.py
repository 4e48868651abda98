"""Fitting: Adam on sampled batches until the ranking of validation positives stops improving."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from fuserank.training.catalogue_scores import CatalogueScores, user_inputs
from fuserank.training.loss import interaction_loss
from fuserank.training.ranker import Ranker, build_ranker
from fuserank.training.ranking import judge_ranking
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
        ranker: with the weights of the best epoch.
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

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; weight decay
    as in Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """
    started = time.perf_counter()
    ranker = build_ranker(schema, config)
    sampler = Sampler(features, train, schema, config)
    step = _training_step(ranker, config)
    known_users = user_inputs(features, sampler.likes, schema)
    epochs: list[Epoch] = []
    best, best_weights = 0, ranker.full.get_weights()
    for number in range(config.epochs):
        losses = []
        for done, batch in enumerate(sampler.epoch(number), start=1):
            losses.append(float(step(batch)))
            if on_progress is not None:
                on_progress(number * sampler.steps + done, config.epochs * sampler.steps)
        scores = CatalogueScores(ranker, known_users, features.items.tensors)
        ranking = judge_ranking(
            scores.matrix, seen=train, held_out=validation, n_items=len(features.items)
        )
        loss = float(np.mean(losses))
        epochs.append(Epoch(loss=loss, recall=ranking.recall, ndcg=ranking.ndcg))
        logger.info("epoch %d: loss %.4f, NDCG@10 %.4f", number + 1, loss, ranking.ndcg)
        if number == 0 or ranking.ndcg > epochs[best].ndcg:
            best, best_weights = number, ranker.full.get_weights()
        elif number - best >= config.patience:
            break
    ranker.full.set_weights(best_weights)
    seconds = time.perf_counter() - started
    return Fitted(ranker=ranker, epochs=tuple(epochs), best_epoch=best, seconds=seconds)


def _training_step(ranker: Ranker, config: TrainConfig) -> Callable[[Batch], Any]:
    """Return the function that learns from one batch and returns its loss."""
    optimizer = keras.optimizers.Adam(
        config.learning_rate, weight_decay=config.weight_decay or None
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    variables = ranker.full.trainable_variables
    optimizer.build(variables)

    @tf.function(reduce_retracing=True)
    def step(users: Any, items: Any, candidates: Any, labels: Any, weights: Any) -> Any:
        n_candidates = tf.shape(candidates)[1]
        with tf.GradientTape() as tape:
            phi = tf.repeat(ranker.user_tower(users), n_candidates, axis=0)
            psi = tf.gather(ranker.item_tower(items), tf.reshape(candidates, [-1]))
            loss = interaction_loss(
                tf.reshape(ranker.interaction([phi, psi]), tf.shape(labels)),
                labels,
                weights,
                mse_weight=config.mse_weight,
                mse_on=config.mse_on,
            )
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return lambda batch: step(
        dict(batch.users), dict(batch.items), batch.candidates, batch.labels, batch.weights
    )
