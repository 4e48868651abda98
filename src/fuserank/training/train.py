"""Training, from a data set to a judged ranker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fuserank.training.artifact import TrainedRun
from fuserank.training.evaluate import evaluate
from fuserank.training.features import build_features, fit_schema
from fuserank.training.fit import fit
from fuserank.training.splits import divide

if TYPE_CHECKING:
    from fuserank.engine.encoder import TextEncoder
    from fuserank.training.dataset import Dataset
    from fuserank.training.train_config import TrainConfig

__all__ = ["train"]


def train(
    dataset: Dataset,
    encoder: TextEncoder,
    config: TrainConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> TrainedRun:
    """Split, fit the schema, encode both tables, train and judge.

    Args:
        dataset: the data.
        encoder: makes the embeddings of texts; it is not trained.
        config: model and options.
        on_progress: called with (steps done, steps at most).

    Raises:
        DataError: the split leaves a part empty.
        SchemaError: the data does not fit its fields.
    """
    parts = divide(dataset, config)
    schema = fit_schema(dataset, encoder.dim)
    features = build_features(dataset, schema, encoder)
    fitted = fit(
        features,
        schema,
        config,
        train=parts.train,
        validation=parts.validation,
        on_progress=on_progress,
    )
    return TrainedRun(
        ranker=fitted.ranker,
        schema=schema,
        config=config,
        report=evaluate(fitted.ranker, features, schema, parts),
        dataset_fingerprint=dataset.fingerprint,
        encoder_space=encoder.space,
    )
