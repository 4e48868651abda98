"""Training, from a data set to a judged ranker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fuserank.errors import ConfigError
from fuserank.schema import Side
from fuserank.training.artifact import TrainedRun
from fuserank.training.batches.interaction_store import StoredInteractions
from fuserank.training.batches.stored_parts import divide_stored, with_sample
from fuserank.training.data.cleaning import CleaningReport, repaired_values
from fuserank.training.data.features import build_features, fit_schema
from fuserank.training.data.splits import check_parts, divide
from fuserank.training.evaluation.evaluate import Epoch, judge
from fuserank.training.fitting.fit import Fitted, fit
from fuserank.training.fitting.stacking import fit_head
from fuserank.training.model.collaborative import collaborative_vectors, likes_of, with_vectors

if TYPE_CHECKING:
    from fuserank.engine.encoder import TextEncoder
    from fuserank.schema import Schema
    from fuserank.training.data.dataset import Dataset
    from fuserank.training.data.features import Features
    from fuserank.training.data.splits import Parts
    from fuserank.training.fitting.workers import Workers
    from fuserank.training.train_config import TrainConfig

__all__ = [
    "Job",
    "Prepared",
    "Trained",
    "divided",
    "prepare",
    "run_job",
    "train",
    "train_parts",
    "train_prepared",
]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set with all that no option of training changes.

    Attributes:
        dataset: the data.
        schema: its fitted fields.
        features: the tensors of both tables.
        encoder_space: of their text embeddings.
        cleaning: what was left out of the interactions, and what is repaired in the tables.
    """

    dataset: Dataset
    schema: Schema
    features: Features
    encoder_space: str
    cleaning: CleaningReport

    def extended(
        self, parts: Parts, config: TrainConfig
    ) -> tuple[Schema, Features, npt.NDArray[np.float32] | None]:
        """Return schema and features with what the training part says of items.

        The vectors of items are returned as well; None where no option asks for them.

        Raises:
            SchemaError: a field has the name that collaborative vectors go by.
        """
        if config.collaborative == "none":
            return self.schema, self.features, None
        likes = likes_of(parts.train, len(self.features.users), len(self.features.items))
        vectors = collaborative_vectors(likes, config)
        return *with_vectors(self.schema, self.features, vectors), vectors

    def job(self, config: TrainConfig) -> Job:
        """Divide the interactions and return all that a run with some options reads.

        Raises:
            ConfigError: an option asks for collaborative vectors of interactions on disk.
            DataError: the split leaves a part empty, or cannot be made of interactions on disk.
            SchemaError: as of `extended`.
        """
        parts = divided(self.dataset, config)
        schema, features, vectors = self.extended(parts, config)
        return Job(
            config=config,
            parts=parts,
            schema=schema,
            features=features,
            vectors=vectors,
            cleaning=self.cleaning,
            dataset_fingerprint=self.dataset.fingerprint,
            encoder_space=self.encoder_space,
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that has yet to begin; any process can do it.

    Attributes:
        config: model and options.
        parts: the interactions.
        schema: the fields that the ranker reads.
        features: the tensors of both tables, with collaborative vectors where it reads those.
        vectors: (n_items, width) float32, these vectors; None where it reads none.
        cleaning: of the data.
        dataset_fingerprint: of the data.
        encoder_space: of the text embeddings.
    """

    config: TrainConfig
    parts: Parts
    schema: Schema
    features: Features
    vectors: npt.NDArray[np.float32] | None
    cleaning: CleaningReport
    dataset_fingerprint: str
    encoder_space: str


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A ranker whose head is fitted, and what it reads.

    Attributes:
        fitted: the ranker and how training went.
        schema: the fields that it reads.
        features: the tensors of both tables, with collaborative vectors where it reads those.
        vectors: (n_items, width) float32, these vectors; None where it reads none.
    """

    fitted: Fitted
    schema: Schema
    features: Features
    vectors: npt.NDArray[np.float32] | None


def prepare(
    dataset: Dataset,
    encoder: TextEncoder,
    *,
    leave_out: tuple[str, ...] = (),
    on_progress: Callable[[int], None] | None = None,
    keep: Path | None = None,
) -> Prepared:
    """Fit the schema and encode both tables.

    Args:
        dataset: the data.
        encoder: makes the embeddings of texts; it is not trained.
        leave_out: fields not to look at, each as ``item.description``.
        on_progress: called with the number of texts encoded since the last call.
        keep: as for `build_features`.

    Raises:
        SchemaError: the data does not fit its fields.
        ConfigError: a field to leave out that is not there.
    """
    dataset = dataset.without(leave_out)
    schema = fit_schema(dataset, encoder.dim)
    features = build_features(dataset, schema, encoder, on_progress=on_progress, keep=keep)
    tables = {Side.USER: dataset.users.columns, Side.ITEM: dataset.items.columns}
    repaired = repaired_values(schema, tables)
    return Prepared(
        dataset=dataset,
        schema=schema,
        features=features,
        encoder_space=encoder.space,
        cleaning=CleaningReport(dataset.cleaning.steps + repaired.steps),
    )


def train_parts(
    prepared: Prepared,
    parts: Parts,
    config: TrainConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[int, Epoch], bool] | None = None,
) -> Trained:
    """Train on the training part and fit the head on the validation part; nothing is judged.

    Args:
        prepared: the data.
        parts: its interactions.
        config: model and options.
        on_progress: called with (steps done, steps at most).
        on_epoch: as for `fit`.
    """
    schema, features, vectors = prepared.extended(parts, config)
    fitted = fit(
        features,
        schema,
        config,
        train=parts.train,
        validation=parts.validation,
        on_progress=on_progress,
        on_epoch=on_epoch,
    )
    fit_head(fitted.ranker, features, schema, parts, config)
    return Trained(fitted=fitted, schema=schema, features=features, vectors=vectors)


def train(
    dataset: Dataset,
    encoder: TextEncoder,
    config: TrainConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> TrainedRun:
    """Prepare, split, train and judge; see `prepare` and `train_prepared`."""
    prepared = prepare(dataset, encoder, leave_out=config.leave_out)
    return train_prepared(prepared, config, on_progress=on_progress)


def train_prepared(
    prepared: Prepared,
    config: TrainConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> TrainedRun:
    """Split, train and judge; see `Prepared.job` and `run_job`."""
    run = run_job(prepared.job(config), on_progress=on_progress)
    assert run is not None
    return run


def run_job(
    job: Job,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
    workers: Workers | None = None,
) -> TrainedRun | None:
    """Train and judge.

    Args:
        job: what.
        on_progress: called with (steps done, steps at most).
        checkpoint: as for `fit`.
        tensorboard: as for `fit`.
        workers: as for `fit`.

    Returns:
        The run; None for workers other than the first, who alone judges.
    """
    config, parts, features, schema = job.config, job.parts, job.features, job.schema
    fitted = fit(
        features,
        schema,
        config,
        train=parts.train,
        validation=parts.validation,
        on_progress=on_progress,
        checkpoint=checkpoint,
        tensorboard=tensorboard,
        workers=workers,
    )
    if workers is not None and not workers.is_first:
        return None
    fit_head(fitted.ranker, features, schema, parts, config)
    report = judge(fitted.ranker, features, schema, parts, fitted.epochs).report
    return TrainedRun(
        ranker=fitted.ranker,
        schema=schema,
        config=config,
        report=replace(report, cleaning=job.cleaning),
        vectors=job.vectors,
        dataset_fingerprint=job.dataset_fingerprint,
        encoder_space=job.encoder_space,
    )


def divided(dataset: Dataset, config: TrainConfig) -> Parts:
    """Divide interactions in memory, or in a store, of which a sample of users is judged.

    Raises:
        ConfigError: an option asks for collaborative vectors of interactions on disk.
        DataError: the split leaves a part empty, or cannot be made of interactions on disk.
    """
    known = dataset.interactions
    if not isinstance(known, StoredInteractions):
        return divide(dataset, config.split, config.seed)
    if config.collaborative != "none":
        raise ConfigError(
            f"train: found collaborative {config.collaborative!r}, which is made of all likes in "
            "memory, expected 'none' for interactions in a store; leave one of them out"
        )
    parts = divide_stored(known, config.split, config.seed, known.directory / "parts")
    check_parts(parts, dataset.name, config.split)
    return with_sample(parts, config.seed)
