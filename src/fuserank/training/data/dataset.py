"""Data sets: users, items and who chose what, as the files of a ``dataset.toml`` hold them."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fuserank.errors import ConfigError, DataError
from fuserank.schema.fields import Field, Kind, Side
from fuserank.training.data.cleaning import REPEATED, CleaningReport, clean
from fuserank.training.data.dataset_config import (
    DatasetConfig,
    InteractionsConfig,
    TableConfig,
    read_config,
)
from fuserank.training.data.fingerprint import dataset_fingerprint, file_digest
from fuserank.training.data.interactions import Interactions
from fuserank.training.data.table_file import TableFile, read_table_file, suggestion
from fuserank.training.data.tables import Table, read_table, users_of

__all__ = ["Dataset", "load_dataset"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set that was read and found consistent.

    Attributes:
        name: the name that its ``dataset.toml`` gives.
        fields: the fields of all sides, each with an id field.
        users: what is known of users.
        items: what is known of items.
        interactions: who chose what, each (user, item) pair once, in the order of the file.
        title: the column of ``items`` that is shown to people.
        fingerprint: sha256 over the ``dataset.toml`` and the files that it names, in hexadecimal.
        cleaning: what was left out of the interactions.
    """

    name: str
    fields: tuple[Field, ...]
    users: Table
    items: Table
    interactions: Interactions
    title: str | None
    fingerprint: str
    cleaning: CleaningReport = dataclasses.field(default_factory=CleaningReport)

    @property
    def dropped_duplicates(self) -> int:
        """Interactions left out because the same pair occurs again later."""
        return self.cleaning.affected(REPEATED)

    def without(self, names: Sequence[str]) -> "Dataset":
        """Return the data set without some fields, and without what is made of them.

        A history of a field goes with it, and a text with the history that it joins.

        Args:
            names: fields, each as ``item.description``.

        Raises:
            ConfigError: a name that is no field's, or an id's.
        """
        known = {field.tensor: field for field in self.fields}
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"train: leave_out names {name!r}, expected one of the fields of data set "
                    f"{self.name!r}: {', '.join(known)}{suggestion(name, known)}"
                )
            if known[name].kind is Kind.ID:
                raise ConfigError(
                    f"train: leave_out names the id field {name!r}, expected another; ids are "
                    "hidden by id_dropout = 1"
                )
        left_out = set(names)
        for field in self.fields:
            if field.kind is Kind.HISTORY and f"{Side.ITEM}.{field.of}" in left_out:
                left_out.add(field.tensor)
        for field in self.fields:
            if field.joins is not None and f"{field.side}.{field.joins}" in left_out:
                left_out.add(field.tensor)
        kept = tuple(field for field in self.fields if field.tensor not in left_out)
        return dataclasses.replace(self, fields=kept)


def load_dataset(path: str | Path) -> Dataset:
    """Read the data set that a ``dataset.toml`` describes.

    Raises:
        DataError: a file is missing, foreign or damaged, a column is missing or of a wrong type, a
            row is wrong, or there is nothing to learn from.
        SchemaError: the fields contradict each other.
    """
    config = read_config(Path(path))
    file = _read_interactions(config)
    items = read_table(config.items, config.fields, Side.ITEM)
    if config.users is None:
        users = users_of(file.ids(config.interactions.user).unique().to_pylist(), config)
    else:
        users = read_table(config.users, config.fields, Side.USER)
    interactions, report = _cleaned(
        _interactions(file, config, users, items), config, n_users=len(users), n_items=len(items)
    )
    _check_positives(interactions, config.interactions)
    return Dataset(
        name=config.name,
        fields=config.fields,
        users=users,
        items=items,
        interactions=interactions,
        title=config.items.title,
        fingerprint=dataset_fingerprint(config, file_digest(file.path)),
        cleaning=report,
    )


def _read_interactions(config: DatasetConfig) -> TableFile:
    options = config.interactions
    wanted = {options.user: "user", options.item: "item"}
    if options.rating is not None:
        wanted[options.rating] = "rating"
    if options.timestamp is not None:
        wanted[options.timestamp] = "timestamp"
    return read_table_file(options.path, wanted, delimiter=options.delimiter)


def _interactions(
    file: TableFile, config: DatasetConfig, users: Table, items: Table
) -> Interactions:
    options = config.interactions
    if options.rating is None:
        rating = np.ones(len(file), np.float32)
        positive = np.ones(len(file), np.bool_)
    else:
        rating = file.ratings(options.rating).to_numpy()
        positive = rating >= np.float32(options.positive_at or 0)
    timestamp = None
    if options.timestamp is not None:
        timestamp = file.timestamps(
            options.timestamp, allow_negative=config.cleaning.drop_negative_times
        ).to_numpy()
    return Interactions(
        user=_rows_of(file, options.user, users, config.users),
        item=_rows_of(file, options.item, items, config.items),
        rating=rating,
        timestamp=timestamp,
        positive=positive,
    )


def _rows_of(
    file: TableFile, column: str, known: Table, config: TableConfig | None
) -> npt.NDArray[np.int32]:
    """The row that each id of a column has in the table; None says that the table is theirs."""
    ids = file.ids(column)
    rows = pc.index_in(ids, value_set=pa.array(known.ids, pa.string()))
    if config is not None and rows.null_count:
        row = pc.index(pc.is_null(rows), True).as_py()
        raise DataError(
            f"{file.path}, {file.place(row)}, column {column!r}: found {ids[row].as_py()!r}, which "
            f"{config.path} does not hold; {rows.null_count} interactions name such ids: add those "
            "ids to the table, or remove the interactions"
        )
    found: npt.NDArray[np.int32] = rows.to_numpy()
    return found


def _cleaned(
    interactions: Interactions, config: DatasetConfig, *, n_users: int, n_items: int
) -> tuple[Interactions, CleaningReport]:
    """What cleaning leaves of the interactions, and what it left out."""
    left, report = clean(interactions, config.cleaning, n_users=n_users, n_items=n_items)
    for step in report.steps:
        if step.affected:
            logger.info(
                "%s: dropped %d of %d interactions: %s",
                config.name,
                step.affected,
                step.total,
                step.name,
            )
    if not len(left):
        raise DataError(
            f"{config.source}, [cleaning]: found no interaction that is left of "
            f"{len(interactions)}, expected one or more; loosen what drops most:\n{report}"
        )
    return left, report


def _check_positives(interactions: Interactions, options: InteractionsConfig) -> None:
    if not interactions.positive.any():
        raise DataError(
            f"{options.path}, column {options.rating!r}: found no positive interaction, the "
            f"highest rating is {interactions.rating.max():g}; lower positive_at, which is "
            f"{options.positive_at}"
        )
