"""From a trained run to a bundle: the one place where the exporter meets training."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Ragged
from fuserank.engine.encoder import TextEncoder
from fuserank.errors import ExportError
from fuserank.export.assemble import Assembled, ItemTable, Ranker, UserTable, assemble
from fuserank.export.interaction import export_interaction
from fuserank.schema import Kind, Side
from fuserank.training.artifact import TrainedRun
from fuserank.training.dataset import Dataset, Interactions
from fuserank.training.features import Features, build_features

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
        ExportError: the data or the encoder is not what the ranker was trained with, or its
            graph cannot be converted or factorised.
    """
    texts = TextEncoder.load(encoder)
    _check("data set", dataset.fingerprint, run.dataset_fingerprint)
    _check("encoder", texts.space, run.encoder_space)
    features = build_features(dataset, run.schema, texts)
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


def _check(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise ExportError(
            f"{what}: found {found}, expected {expected}, which the ranker was trained with; "
            "train again, or export with what it was trained with"
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
