"""What is asked of the systems: a bundle, requests it can answer, and its items' inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Bundle, layout
from fuserank.engine.encoder import TextEncoder
from fuserank.errors import ConfigError, DataError
from fuserank.schema import Side

__all__ = ["Request", "Workload", "bundle_workload", "dataset_item_inputs", "requests_of"]

Array = npt.NDArray[Any]
Request = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One benchmark's material.

    Attributes:
        name: for reports and file names.
        bundle: the bundle's directory.
        requests: asked in turn, from the beginning again when they run out.
        item_inputs: by input of the full graph, (n_items, …): what naive scoring needs; None
            where it is not known, and naive scoring is then left out.
    """

    name: str
    bundle: Path
    requests: Sequence[Request]
    item_inputs: Mapping[str, Array] | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError where there is nothing to ask."""
        if not self.requests:
            raise ConfigError(f"workload {self.name!r}: found no requests, expected 1 or more")


def bundle_workload(
    path: Path, n_requests: int, dataset: Path | None = None, seed: int = 0
) -> Workload:
    """Return the workload of a bundle's stored users.

    Args:
        path: the bundle's directory.
        n_requests: requests wanted.
        dataset: the ``dataset.toml`` that the bundle was made of, for naive scoring.
        seed: of the draw of users.
    """
    bundle = Bundle.open(path)
    return Workload(
        name=bundle.manifest.name,
        bundle=path,
        requests=requests_of(bundle, n_requests, seed=seed),
        item_inputs=None if dataset is None else dataset_item_inputs(bundle, dataset),
    )


def requests_of(bundle: Bundle, n_requests: int, *, seed: int = 0) -> list[Request]:
    """Return requests of stored users, drawn at random.

    Args:
        bundle: a bundle with stored users.
        n_requests: requests wanted.
        seed: of the draw.

    Raises:
        ConfigError: a bundle without stored users or without a user id field.
    """
    id_field = bundle.schema.id_field(Side.USER)
    if id_field is None or not bundle.has(layout.USER_IDS):
        raise ConfigError(
            f"{bundle.path}: found no stored users to ask about; measure a bundle that has some, "
            "or a synthetic catalogue"
        )
    user_ids = list(bundle.strings(layout.USER_IDS))
    drawn = np.random.default_rng(seed).integers(len(user_ids), size=n_requests)
    return [{id_field.field.name: user_ids[row]} for row in drawn.tolist()]


def dataset_item_inputs(bundle: Bundle, dataset: Path) -> dict[str, Array]:
    """Return the inputs of the item side for every item of a bundle, from its data set.

    A bundle holds item states instead of these, because nothing that serves needs them.

    Args:
        bundle: a bundle.
        dataset: the ``dataset.toml`` that it was made of.

    Raises:
        DataError: the data set's items are not those of the bundle.
    """
    from fuserank.training.data.dataset import load_dataset
    from fuserank.training.data.features import build_features

    encoder = TextEncoder.load(bundle.file(layout.ENCODER))
    items = build_features(load_dataset(dataset), bundle.schema, encoder).items
    if list(items.ids) != list(bundle.strings(layout.ITEM_IDS)):
        raise DataError(
            f"{dataset}: its {len(items):,} items are not the {bundle.manifest.n_items:,} of "
            f"{bundle.path}, in the same order; give the data set that the bundle was made of"
        )
    return dict(items.tensors)
