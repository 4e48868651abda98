"""What tells the files of a data set from others."""

import hashlib
from pathlib import Path

from fuserank.training.data.dataset_config import DatasetConfig

__all__ = ["dataset_fingerprint", "file_digest"]


def dataset_fingerprint(config: DatasetConfig, interactions: bytes) -> str:
    """Return sha256, in hexadecimal, over a ``dataset.toml`` and the files that it names.

    Args:
        config: the file's contents.
        interactions: what `file_digest` says of the file of interactions.
    """
    tables = [table.path for table in (config.users, config.items) if table is not None]
    digests = [file_digest(config.source), interactions, *map(file_digest, tables)]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def file_digest(path: Path) -> bytes:
    """Return the sha256 of a file, of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
