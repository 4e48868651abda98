"""From a trained run to a bundle: the one place where the exporter meets training."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Ragged
from fuserank.engine.encoder import TextEncoder, check_space
from fuserank.errors import ExportError
from fuserank.export.assemble import Assembled, ItemTable, Ranker, UserTable, assemble
from fuserank.export.interaction import export_interaction
from fuserank.schema import Kind, Side
from fuserank.training.artifact import TrainedRun
from fuserank.training.data.dataset import Dataset, Interactions
from fuserank.training.data.features import Features, build_features
from fuserank.training.model.collaborative import with_vectors

__all__ = ["export_bundle"]

Array = npt.NDArray[Any]


def export_bundle(
    run: TrainedRun,
    dataset: Dataset,
    encoder: Path,
    out: Path,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Assembled:
    """Make a bundle of a trained ranker, its encoder and the catalogue of its data set.

    Stored users keep everything that they are known to have met as *seen*, and the items that
    they liked, in order of time, as their history.

    Args:
        run: the trained ranker.
        dataset: the data it was trained on.
        encoder: directory of the exported text encoder it was trained with.
        out: the bundle's directory.
        on_progress: called with the number of items precomputed since the last call.

    Raises:
        ExportError: the data is not what the ranker was trained on, or its graph cannot be
            converted or factorised.
        SpaceMismatchError: the encoder is not the one that it was trained with.
    """
    texts = TextEncoder.load(encoder)
    if dataset.fingerprint != run.dataset_fingerprint:
        raise ExportError(
            f"data set {dataset.name!r}: found fingerprint {dataset.fingerprint[:12]}…, expected "
            f"{run.dataset_fingerprint[:12]}…, which the ranker was trained on; train again"
        )
    check_space(texts.space, run.encoder_space, str(encoder))
    features = build_features(dataset, run.schema, texts)
    if run.vectors is not None:
        if len(run.vectors) != len(features.items):
            raise ExportError(
                f"found collaborative vectors of {len(run.vectors)} items, expected those of "
                f"{len(features.items)}; train again"
            )
        _, features = with_vectors(run.schema, features, run.vectors)
    specs = run.schema.specs(Side.USER, Side.CONTEXT, Side.ITEM)
    ranker = Ranker(
        name=run.config.model,
        full=export_interaction(run.ranker.full, specs),
        schema=run.schema,
        threshold=run.report.threshold,
        quality=asdict(run.report),
    )
    return assemble(
        out,
        dataset.name,
        ranker,
        _items(dataset, run, features),
        users=_users(dataset, features),
        encoder=encoder,
        on_progress=on_progress,
    )


def _items(dataset: Dataset, run: TrainedRun, features: Features) -> ItemTable:
    def inputs(rows: slice) -> Mapping[str, Array]:
        return {name: array[rows] for name, array in features.items.tensors.items()}

    columns = dataset.items.columns
    return ItemTable(
        ids=features.items.ids,
        attributes=[
            {name: values[row] for name, values in columns.items() if values[row] is not None}
            for row in range(len(features.items))
        ],
        inputs=inputs,
        vectors={
            fitted.field.of: features.history_vectors(fitted.field)
            for fitted in run.schema.side(Side.USER)
            if fitted.field.kind is Kind.HISTORY and fitted.field.of is not None
        },
        title=dataset.title,
    )


def _users(dataset: Dataset, features: Features) -> UserTable:
    interactions = dataset.interactions
    n_users = len(features.users)
    return UserTable(
        ids=features.users.ids,
        inputs=features.users.tensors,
        seen=_by_user(interactions, n_users),
        history=_by_user(interactions.select(interactions.positive), n_users),
    )


def _by_user(interactions: Interactions, n_users: int) -> Ragged:
    """Return each user's items, in order of time."""
    times = interactions.timestamp
    if times is None:
        times = np.zeros(len(interactions), dtype=np.int64)
    order = np.lexsort((times, interactions.user))  # stable: equal times keep their order
    counts = np.bincount(interactions.user, minlength=n_users)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Ragged(interactions.item[order].astype(np.int32), offsets)
