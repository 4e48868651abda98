"""Training, from a data set to a judged ranker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fuserank.training.artifact import TrainedRun
from fuserank.training.data.features import build_features, fit_schema
from fuserank.training.data.splits import divide
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
    from fuserank.training.train_config import TrainConfig

__all__ = ["Prepared", "Trained", "prepare", "train", "train_parts", "train_prepared"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set with all that no option of training changes.

    Attributes:
        dataset: the data.
        schema: its fitted fields.
        features: the tensors of both tables.
        encoder_space: of their text embeddings.
    """

    dataset: Dataset
    schema: Schema
    features: Features
    encoder_space: str

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


def prepare(
    dataset: Dataset,
    encoder: TextEncoder,
    *,
    leave_out: tuple[str, ...] = (),
    on_progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Fit the schema and encode both tables.

    Args:
        dataset: the data.
        encoder: makes the embeddings of texts; it is not trained.
        leave_out: fields not to look at, each as ``item.description``.
        on_progress: called with the number of texts encoded since the last call.

    Raises:
        SchemaError: the data does not fit its fields.
        ConfigError: a field to leave out that is not there.
    """
    dataset = dataset.without(leave_out)
    schema = fit_schema(dataset, encoder.dim)
    features = build_features(dataset, schema, encoder, on_progress=on_progress)
    return Prepared(dataset=dataset, schema=schema, features=features, encoder_space=encoder.space)


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


def train_parts(
    prepared: Prepared,
    parts: Parts,
    config: TrainConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[int, Epoch], bool] | None = None,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
) -> Trained:
    """Train on the training part and fit the head on the validation part; nothing is judged.

    Args:
        prepared: the data.
        parts: its interactions.
        config: model and options.
        on_progress: called with (steps done, steps at most).
        on_epoch: as for `fit`.
        checkpoint: as for `fit`.
        tensorboard: as for `fit`.
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
        checkpoint=checkpoint,
        tensorboard=tensorboard,
    )
    fit_head(fitted.ranker, features, schema, parts, config)
    return Trained(fitted=fitted, schema=schema, features=features, vectors=vectors)


def train(
    dataset: Dataset,
    encoder: TextEncoder,
    config: TrainConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
) -> TrainedRun:
    """Prepare, split, train and judge; see `prepare` and `train_prepared`."""
    prepared = prepare(dataset, encoder, leave_out=config.leave_out)
    return train_prepared(
        prepared, config, on_progress=on_progress, checkpoint=checkpoint, tensorboard=tensorboard
    )


def train_prepared(
    prepared: Prepared,
    config: TrainConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
) -> TrainedRun:
    """Split, train and judge; arguments as in `train_parts`.

    Raises:
        DataError: the split leaves a part empty.
    """
    parts = divide(prepared.dataset, config)
    trained = train_parts(
        prepared,
        parts,
        config,
        on_progress=on_progress,
        checkpoint=checkpoint,
        tensorboard=tensorboard,
    )
    fitted = trained.fitted
    judged = judge(fitted.ranker, trained.features, trained.schema, parts, fitted.epochs)
    return TrainedRun(
        ranker=fitted.ranker,
        schema=trained.schema,
        config=config,
        report=judged.report,
        vectors=trained.vectors,
        dataset_fingerprint=prepared.dataset.fingerprint,
        encoder_space=prepared.encoder_space,
    )
