"""The training step: a ranker, its optimizer, and the running average of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fuserank.training.fitting.loss import (
    batch_softmax_loss,
    bpr_loss,
    hardest,
    interaction_loss,
    softmax_loss,
)
from fuserank.training.model.ranker import build_ranker

if TYPE_CHECKING:
    from fuserank.schema import Schema
    from fuserank.training.fitting.workers import Workers
    from fuserank.training.model.whitening import Whitening
    from fuserank.training.train_config import TrainConfig

__all__ = ["Learner"]

Arrays = list[npt.NDArray[Any]]

_HARDEST = 8
"""One in so many of the negatives counts, where only the hardest do."""


class Learner:
    """A ranker that learns from batches.

    With a mixed precision the layers compute in 16 bits, while weights, logits, loss and optimizer
    stay float32; float16 has a loss scale that adapts, and a step whose gradients overflow is left
    out. What is learned leaves as float32 arrays, for a ranker that computes in float32.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; weight decay
    as in Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; the running
    average after Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging",
    SIAM J. Control Optim. 30(4), 1992; Micikevicius et al., "Mixed Precision Training", ICLR 2018.
    """

    def __init__(
        self,
        schema: Schema,
        config: TrainConfig,
        whitening: Whitening | None,
        *,
        signature: dict[str, Any],
        steps_an_epoch: int,
        workers: Workers | None,
    ) -> None:
        """Build the ranker and its optimizer; the same seed gives the same weights.

        Args:
            schema: the fitted fields.
            config: model and options.
            whitening: of text embeddings.
            signature: a tensor specification for every entry of a batch.
            steps_an_epoch: how far the running average reaches back.
            workers: with whom every batch is shared; None for a process of its own.
        """
        with _computing_in(config.precision):
            self._ranker = build_ranker(schema, config, whitening)
        self._config = config
        self._workers = workers
        self._variables = self._ranker.full.trainable_variables
        optimizer = keras.optimizers.Adam(
            config.learning_rate,
            weight_decay=config.weight_decay or None,
            use_ema=True,
            ema_momentum=steps_an_epoch / (steps_an_epoch + 1),  # reaches back about one epoch
        )
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        if config.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(self._variables)
        self._optimizer = optimizer
        self._compiled = tf.function(self._learn, input_signature=[signature])

    def step(self, batch: dict[str, Any]) -> float:
        """Learn from a batch, or from this worker's share of one, and return the batch's loss."""
        return float(self._compiled(batch))

    def average(self) -> Arrays:
        """Return the running average of the ranker's weights."""
        model = self._ranker.full
        latest = model.get_weights()
        self._optimizer.finalize_variable_values(self._variables)
        average: Arrays = model.get_weights()
        model.set_weights(latest)
        return average

    @property
    def state(self) -> Arrays:
        """Everything that the next step depends on but its batch."""
        return [np.asarray(variable) for variable in self._all_variables]

    def restore(self, state: Sequence[npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        for variable, value in zip(self._all_variables, state, strict=True):
            variable.assign(value)

    @property
    def _all_variables(self) -> list[Any]:
        return [*self._ranker.full.variables, *self._optimizer.variables]

    def _learn(self, batch: dict[str, Any]) -> Any:
        ranker, candidates = self._ranker, batch["candidates"]
        head = ranker.interaction
        with tf.GradientTape() as tape:
            # The head has yet to be fitted: it changes nothing, and costs nothing so.
            users = ranker.user_tower(batch["users"], training=True)
            items = ranker.item_tower(batch["items"], training=True)
            phi, psi = head.own(0, users), head.own(1, items)
            pairs = [
                tf.repeat(phi, tf.shape(candidates)[1], axis=0),
                tf.gather(psi, tf.reshape(candidates, [-1])),
            ]
            logits = tf.cast(head.model(pairs, training=True), tf.float32)
            loss, weight = self._loss(tf.reshape(logits, tf.shape(candidates)), batch)
            if head.beside is not None:
                every = head.beside.all_pairs(head.others(0, users), head.others(1, items))
                loss += batch_softmax_loss(
                    tf.cast(every, tf.float32), candidates[:, 0], batch["log_presence"]
                )
            scaled = self._optimizer.scale_loss(loss)
        # Dense, because Keras squares the slices of an embedding's gradient before it has summed
        # those of the same row: the second moment would depend on how a batch is divided.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(scaled, self._variables)]
        if self._workers is not None:
            loss, *gradients = self._workers.mean([loss, *gradients], weight)
        self._optimizer.apply(gradients, self._variables)
        return loss

    def _loss(self, logits: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
        """Return the loss, a mean over some of the candidates, and how many those are."""
        config, weights = self._config, batch["weights"]
        if config.negatives_from == "hard":
            kept = hardest(logits[:, 2:], weights[:, 2:], -(-config.negatives // _HARDEST))
            weights = tf.concat([weights[:, :2], kept], axis=1)
        if config.loss == "bpr":
            return bpr_loss(logits, weights), tf.reduce_sum(weights[:, 1:])
        if config.loss == "softmax":
            rows = tf.cast(tf.shape(logits)[0], tf.float32)
            return softmax_loss(logits, weights, batch["log_chances"]), rows
        loss = interaction_loss(
            logits, batch["labels"], weights, mse_weight=config.mse_weight, mse_on=config.mse_on
        )
        return loss, tf.reduce_sum(weights)


@contextmanager
def _computing_in(precision: str) -> Iterator[None]:
    """Give the layers that a block makes a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
