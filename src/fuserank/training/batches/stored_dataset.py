"""Data sets whose interactions stay on disk."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from fuserank.errors import DataError
from fuserank.schema import Side
from fuserank.training.batches.interaction_store import StoredInteractions, is_store, open_store
from fuserank.training.batches.store_writing import store_interactions, stored_users
from fuserank.training.data.dataset import Dataset
from fuserank.training.data.dataset_config import DatasetConfig, read_config
from fuserank.training.data.fingerprint import dataset_fingerprint, file_digest
from fuserank.training.data.tables import read_table, users_of

__all__ = ["load_stored"]


def load_stored(path: str | Path, directory: Path) -> Dataset:
    """Read the data set that a ``dataset.toml`` describes, its interactions in a store.

    The store is made where it is not there yet. The tables of users and items are in memory; the
    interactions have to be a Parquet file.

    Args:
        path: the ``dataset.toml``.
        directory: the store.

    Raises:
        DataError: as of `load_dataset` and `store_interactions`; the directory holds something
            else, or a store that was made of another file or by other options.
        SchemaError: the fields contradict each other.
    """
    config = read_config(Path(path))
    file = config.interactions.path
    if not file.is_file():
        raise DataError(f"{file}: found no such file; create it or correct the path")
    _check_place(directory)
    items = read_table(config.items, config.fields, Side.ITEM)
    if config.users is None:
        users = users_of(stored_users(config.interactions), config)
    else:
        users = read_table(config.users, config.fields, Side.USER)
    digest = file_digest(file)
    interactions = _store(config, users.ids, items.ids, digest, directory)
    return Dataset(
        name=config.name,
        fields=config.fields,
        users=users,
        items=items,
        interactions=interactions,
        title=config.items.title,
        fingerprint=dataset_fingerprint(config, digest),
        cleaning=interactions.cleaning,
    )


def _check_place(directory: Path) -> None:
    """Raise DataError where a store would replace what is none."""
    if directory.exists() and not is_store(directory):
        if directory.is_dir() and not any(directory.iterdir()):
            return
        raise DataError(
            f"{directory}: found something that is no store of interactions, expected one, an "
            "empty directory or none; name another directory"
        )


def _store(
    config: DatasetConfig,
    users: Sequence[str],
    items: Sequence[str],
    digest: bytes,
    directory: Path,
) -> StoredInteractions:
    """Open the store that was made of the same, or make it."""
    options = msgspec.to_builtins(config.interactions, enc_hook=str)
    del options["path"]
    origin = {
        "the file": digest.hex(),
        "[interactions]": msgspec.json.encode(options).decode(),
        "[cleaning]": msgspec.json.encode(config.cleaning).decode(),
        "the users": _digest_of(users),
        "the items": _digest_of(items),
    }
    if is_store(directory):
        found = open_store(directory)
        _check_origin(found.origin, origin, directory)
        return found
    return store_interactions(
        config.interactions, users, items, directory, cleaning=config.cleaning, origin=origin
    )


def _check_origin(found: Mapping[str, str], expected: Mapping[str, str], directory: Path) -> None:
    for name, value in expected.items():
        if found.get(name) != value:
            raise DataError(
                f"{directory}: found a store that was made with {name} {found.get(name)}, expected "
                f"{value}; name another directory, or delete this one to make it anew"
            )


def _digest_of(ids: Sequence[str]) -> str:
    return hashlib.sha256(msgspec.json.encode(ids)).hexdigest()
