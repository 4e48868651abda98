"""Fitting: Adam on sampled batches until the ranking of validation positives stops improving."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fuserank.errors import ConfigError, DataError
from fuserank.training.batches.sampling import Sampler
from fuserank.training.evaluation.evaluate import Epoch
from fuserank.training.evaluation.metrics import roc_auc
from fuserank.training.evaluation.ranking import judge_users
from fuserank.training.fitting.checkpoint import Checkpoint, fingerprint
from fuserank.training.fitting.learner import Learner
from fuserank.training.model.catalogue_scores import CatalogueScores, user_inputs
from fuserank.training.model.ranker import Ranker, build_ranker
from fuserank.training.model.whitening import text_whitening

if TYPE_CHECKING:
    from fuserank.schema import Schema
    from fuserank.training.data.features import Features
    from fuserank.training.data.interactions import Interactions
    from fuserank.training.fitting.workers import Workers
    from fuserank.training.train_config import TrainConfig

__all__ = ["Fitted", "fit", "ranked_items"]

logger = logging.getLogger(__name__)

_AHEAD = 4
"""Batches that are sampled ahead of the step that learns from them."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained ranker.

    Attributes:
        ranker: with the averaged weights of the best epoch; float32 whatever it was trained in.
        epochs: every epoch in order.
        best_epoch: index of the epoch that is the best by the configured figure.
        seconds: time spent, validation and what an earlier process did included.
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
    on_epoch: Callable[[int, Epoch], bool] | None = None,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
    workers: Workers | None = None,
) -> Fitted:
    """Train a ranker; the same arguments give the same weights on the same machine.

    Args:
        features: tensors of all users and items.
        schema: the fitted fields.
        config: model and options.
        train: interactions to learn from; the histories are made of them as well.
        validation: interactions whose positives choose the best epoch. All items are ranked for
            each of their users, so that a sample of users is enough where there are many.
        on_progress: called with (steps done, steps at most).
        on_epoch: called with the index and the outcome of every epoch; training ends where it
            returns False.
        checkpoint: a file that holds the state after every epoch but the last and is removed at
            the end. Where it is there at the start, training goes on from it, and the weights
            become those that an undisturbed run has.
        tensorboard: a directory that gets an event file: what each epoch came to.
        workers: processes that share every batch and end with the same ranker. All of them call
            this function with the same arguments but their own `workers`; the first alone judges
            and writes.

    Raises:
        ConfigError: several workers, and a second model beside the ranker.
        DataError: the validation part has no positive; the checkpoint is damaged, of another run,
            or not the same for all workers.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; weight decay
    as in Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; the running
    average of the weights, which is what is judged and kept, after Polyak and Juditsky,
    "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 30(4), 1992.
    """
    _check(validation, config, workers)
    started = time.perf_counter()
    writes = workers is None or workers.is_first
    run = "" if checkpoint is None else fingerprint(features, schema, config, train, validation)
    sampler = Sampler(features, train, schema, config)
    batches = _Batches(sampler, workers)
    whitening = text_whitening(features, schema, config.whiten)
    ranker = build_ranker(schema, config, whitening)
    learner = Learner(
        schema,
        config,
        whitening,
        signature=batches.signature,
        steps_an_epoch=sampler.steps,
        workers=workers,
    )
    known_users = user_inputs(ranker, features, sampler.likes, schema)
    seen = train.of_users(np.unique(validation.user))

    def on_step(done: int) -> None:
        if on_progress is not None:
            on_progress(done, config.epochs * sampler.steps)

    def judge() -> tuple[float, float, float]:
        """Return recall, NDCG and AUC of the ranker."""
        if not writes:
            return 0.0, 0.0, 0.0
        scores = CatalogueScores(ranker, known_users, features.items.tensors)
        judged = judge_users(
            scores.matrix,
            seen=seen,
            held_out=validation,
            n_items=len(features.items),
            candidates=ranked_items(train, config, len(features.items)),
        ).ranking
        auc = roc_auc(validation.positive, scores.pairs(validation.user, validation.item))
        return judged.recall, judged.ndcg, 0.5 if np.isnan(auc) else auc

    found = None if checkpoint is None else Checkpoint.read(checkpoint, run)
    epochs, best_weights = [], ranker.full.get_weights()
    if found is not None:
        epochs, best_weights = _epochs(found), found.best_weights
        learner.restore(found.state)
        started -= found.seconds
        logger.info("%s: going on after epoch %d", checkpoint, len(epochs))
    if workers is not None:
        _check_together(len(epochs), workers)
    with _Events(tensorboard) if tensorboard is not None and writes else nullcontext() as events:
        while not _is_done(epochs, config):
            number = len(epochs)
            loss = _learn(learner, batches, number, sampler.steps, on_step)
            average = learner.average()
            ranker.full.set_weights(average)
            recall, ndcg, auc = judge() if workers is None else workers.of_first(judge())
            epochs.append(Epoch(loss=loss, recall=recall, ndcg=ndcg, auc=auc))
            if _best(epochs, config) == number:
                best_weights = average
            logger.info("epoch %d: loss %.4f, NDCG@10 %.4f", number + 1, loss, ndcg)
            if events is not None:
                events.write(number, epochs[-1])
            if on_epoch is not None and not on_epoch(number, epochs[-1]):
                break
            if checkpoint is not None and writes:
                Checkpoint(
                    fingerprint=run,
                    history=np.array([list(vars(each).values()) for each in epochs]),
                    seconds=time.perf_counter() - started,
                    state=learner.state,
                    best_weights=best_weights,
                ).write(checkpoint)
    ranker.full.set_weights(best_weights)
    if checkpoint is not None and writes:
        checkpoint.unlink(missing_ok=True)
    return Fitted(
        ranker=ranker,
        epochs=tuple(epochs),
        best_epoch=_best(epochs, config),
        seconds=time.perf_counter() - started,
    )


def ranked_items(
    train: Interactions, config: TrainConfig, n_items: int
) -> npt.NDArray[np.bool_] | None:
    """Return which items (n_items,) are ranked for a validation user; None for all.

    Items that were held out whole would all stand behind those that training knows.

    Args:
        train: the training part.
        config: of the split.
        n_items: items in all.
    """
    if config.split.strategy != "items":
        return None
    never: npt.NDArray[np.bool_] = train.item_counts(n_items) == 0
    return never


def _check(validation: Interactions, config: TrainConfig, workers: Workers | None) -> None:
    if workers is not None and config.beside != "none":
        raise ConfigError(
            f"train: found a model {config.beside!r} beside the ranker, expected none with several "
            "workers: each would compare a positive with its own share of the items alone"
        )
    if not validation.positive.any():
        raise DataError(
            "train: found no positive interaction in the validation part, expected one or more "
            "to choose the best epoch by; raise split.validation"
        )


def _learn(
    learner: Learner, batches: _Batches, number: int, steps: int, on_step: Callable[[int], None]
) -> float:
    """Learn from the batches of an epoch and return their mean loss."""
    losses = []
    for done, batch in enumerate(batches.epoch(number), start=1):
        losses.append(learner.step(batch))
        on_step(number * steps + done)
    return float(np.mean(losses))


def _epochs(found: Checkpoint) -> list[Epoch]:
    names = [field.name for field in fields(Epoch)]
    return [Epoch(**dict(zip(names, row, strict=True))) for row in found.history.tolist()]


def _best(epochs: list[Epoch], config: TrainConfig) -> int:
    """Return the index of the epoch with the highest figure, the first among equals."""
    return max(range(len(epochs)), key=lambda number: getattr(epochs[number], config.select_by))


def _is_done(epochs: list[Epoch], config: TrainConfig) -> bool:
    if not epochs:
        return False
    return (
        len(epochs) == config.epochs or len(epochs) - 1 - _best(epochs, config) >= config.patience
    )


def _check_together(epochs: int, workers: Workers) -> None:
    """Raise DataError where the first worker has done another number of epochs."""
    (of_first,) = workers.of_first((float(epochs),))
    if of_first != epochs:
        raise DataError(
            f"train: found {epochs} epochs in the checkpoint of worker {workers.index}, expected "
            f"{of_first:.0f} as in that of the first; name a file that all workers can read"
        )


class _Batches:
    """The batches of a sampler, or a worker's shares of them, through a ``tf.data`` pipeline.

    They are sampled in a thread of the pipeline's, a few ahead, so that sampling goes on while
    TensorFlow computes a step; their order is the sampler's.
    """

    def __init__(self, sampler: Sampler, workers: Workers | None) -> None:
        self._sampler = sampler
        self._workers = workers
        self.signature = tf.nest.map_structure(
            lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype),
            next(self._arrays(0)),
        )
        """A tensor specification for every entry of a batch."""

    def epoch(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield every `Batch` of an epoch as a dict of tensors."""
        pipeline = tf.data.Dataset.from_generator(
            lambda: self._arrays(number), output_signature=self.signature
        )
        yield from pipeline.prefetch(_AHEAD)

    def _arrays(self, number: int) -> Iterator[dict[str, Any]]:
        for batch in self._sampler.epoch(number):
            share = batch if self._workers is None else self._workers.share(batch)
            yield vars(share)


class _Events:
    """An event file of TensorBoard's; used as a context."""

    def __init__(self, directory: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(directory))
        metadata = tf.compat.v1.SummaryMetadata
        # What tf.summary.scalar says, which needs TensorBoard itself.
        self._scalar = metadata(
            plugin_data=metadata.PluginData(plugin_name="scalars"), data_class="DATA_CLASS_SCALAR"
        )

    def __enter__(self) -> _Events:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, number: int, epoch: Epoch) -> None:
        """Write the figures of an epoch, by which they count from 1."""
        with self._writer.as_default(step=number + 1):
            for name, value in vars(epoch).items():
                tf.summary.write(f"epoch/{name}", np.float32(value), metadata=self._scalar)
        self._writer.flush()
