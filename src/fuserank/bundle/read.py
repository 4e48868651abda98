"""Opening a bundle: everything is checked, arrays are mapped and not copied."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from fuserank.bundle import layout
from fuserank.bundle.id_index import IdIndex
from fuserank.bundle.manifest import FileInfo, Manifest
from fuserank.bundle.ragged import Ragged, Strings
from fuserank.errors import BundleFormatError, BundleIntegrityError, SchemaError
from fuserank.schema import Schema

__all__ = ["Bundle", "digest"]


class Bundle:
    """A bundle on disk.

    Attributes:
        path: its directory.
        manifest: what it holds.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path, *, on_progress: Callable[[int], None] | None = None) -> "Bundle":
        """Open a bundle after checking every file's size and digest.

        Args:
            path: the bundle's directory.
            on_progress: called with the bytes that were checked since the last call.

        Raises:
            BundleFormatError: not a bundle, or one of another format version.
            BundleIntegrityError: a file is missing, truncated or altered; names it.
        """
        manifest_path = path / layout.MANIFEST
        if not path.is_dir():
            raise BundleFormatError(f"{path}: no such bundle; expected a directory")
        if not manifest_path.is_file():
            raise BundleFormatError(
                f"{path}: expected a bundle, found a directory without {layout.MANIFEST}"
            )
        manifest = Manifest.from_json(manifest_path.read_bytes(), str(manifest_path))
        for name, info in manifest.files.items():
            _check_file(path, name, info, on_progress)
        return cls(path, manifest)

    @cached_property
    def schema(self) -> Schema:
        """The fitted fields.

        Raises:
            BundleFormatError: the schema is not one that this release reads.
        """
        try:
            return Schema.from_json((self.path / layout.SCHEMA).read_text(encoding="utf-8"))
        except SchemaError as error:
            raise BundleFormatError(f"{self.path / layout.SCHEMA}: {error}") from error

    @cached_property
    def quality(self) -> dict[str, Any]:
        """What is known of its ranking quality; empty where nothing is.

        Raises:
            BundleFormatError: it is not a JSON object.
        """
        if not self.has(layout.QUALITY):
            return {}
        path = self.file(layout.QUALITY)
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise BundleFormatError(f"{path}: expected a JSON object, found: {error}") from error

    def file(self, name: str) -> Path:
        """The path of a file or directory that the bundle must have.

        Raises:
            BundleIntegrityError: it is not there.
        """
        path = self.path / name
        if not path.exists():
            raise BundleIntegrityError(
                f"{path}: missing from the bundle; export it again or copy it whole"
            )
        return path

    def has(self, name: str) -> bool:
        """Whether the bundle has a file, or a ragged array, of that name."""
        return name in self.manifest.files or f"{name}.offsets.npy" in self.manifest.files

    def array(self, name: str) -> npt.NDArray[Any]:
        """Map an array.

        Raises:
            BundleIntegrityError: it is missing or not an array file.
        """
        path = self.file(name)
        try:
            mapped: npt.NDArray[Any] = open_memmap(path, "r")  # refuses pickled objects
        except (ValueError, OSError) as error:
            raise BundleIntegrityError(
                f"{path}: expected a NumPy array file, found: {error}"
            ) from error
        # A plain view: the memmap class costs microseconds at every slice.
        return mapped.view(np.ndarray)

    def ragged(self, name: str) -> Ragged:
        """Map rows of different length."""
        return Ragged(self.array(f"{name}.values.npy"), self.array(f"{name}.offsets.npy"))

    def strings(self, name: str) -> Strings:
        """Map a column of strings."""
        return Strings(self.ragged(name))

    def ids(self, name: str) -> IdIndex:
        """Map a column of ids, and their rows by id.

        Raises:
            BundleIntegrityError: it is missing, or not the index of these ids.
        """
        slots = f"{name}.slots.npy"
        try:
            return IdIndex(self.strings(name), self.array(slots))
        except ValueError as error:
            raise BundleIntegrityError(
                f"{self.path / slots}: not the index of {name}; found {error}; "
                "export the bundle again"
            ) from error


def digest(path: Path, on_progress: Callable[[int], None] | None = None) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            sha.update(chunk)
            if on_progress is not None:
                on_progress(len(chunk))
    return sha.hexdigest()


def _check_file(
    root: Path, name: str, info: FileInfo, on_progress: Callable[[int], None] | None
) -> None:
    path = root / name
    # A manifest may come from anywhere: it must not make us read outside its directory.
    if not path.resolve().is_relative_to(root.resolve()):
        raise BundleIntegrityError(f"{root}: the manifest names {name!r}, outside the bundle")
    if not path.is_file():
        raise BundleIntegrityError(f"{path}: missing; export the bundle again or copy it whole")
    size = path.stat().st_size
    if size != info.size_bytes:
        raise BundleIntegrityError(
            f"{path}: found {size:,} bytes, expected {info.size_bytes:,}; "
            "the file was truncated or replaced"
        )
    if (found := digest(path, on_progress)) != info.sha256:
        raise BundleIntegrityError(
            f"{path}: altered; found sha256 {found[:12]}…, expected {info.sha256[:12]}…; "
            "export the bundle again or copy it whole"
        )
