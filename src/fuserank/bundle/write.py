"""Writing a bundle: beside its place, flushed, and renamed when it is whole."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from fuserank.bundle import layout
from fuserank.bundle.atomic import write_directory
from fuserank.bundle.id_index import IdIndex
from fuserank.bundle.manifest import FileInfo, Manifest
from fuserank.bundle.ragged import Ragged, Strings
from fuserank.bundle.read import digest

__all__ = ["BundleWriter", "write_bundle"]


class BundleWriter:
    """Collects the files of a bundle; `write_bundle` makes one.

    Attributes:
        path: where the files stand until the bundle is whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest: Manifest | None = None

    def add_bytes(self, name: str, content: bytes) -> None:
        """Add a file."""
        self._place(name).write_bytes(content)

    def add_files(self, name: str, sources: Iterable[Path]) -> None:
        """Add a directory with copies of some files."""
        directory = self._place(name)
        directory.mkdir()
        for source in sources:
            shutil.copyfile(source, directory / source.name)

    def add_array(self, name: str, array: npt.NDArray[Any]) -> None:
        """Add an array."""
        np.save(self._place(name), np.ascontiguousarray(array), allow_pickle=False)

    def map_array(self, name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """Add an array that is filled piece by piece, without holding it in memory."""
        mapped: npt.NDArray[Any] = open_memmap(self._place(name), "w+", dtype, shape)
        return mapped

    def add_ragged(self, name: str, ragged: Ragged) -> None:
        """Add rows of different length."""
        self.add_array(f"{name}.values.npy", ragged.values)
        self.add_array(f"{name}.offsets.npy", ragged.offsets)

    def add_strings(self, name: str, strings: Strings) -> None:
        """Add a column of strings."""
        self.add_ragged(name, strings.ragged)

    def add_ids(self, name: str, ids: Iterable[str]) -> None:
        """Add a column of ids, and what finds their rows by id.

        Raises:
            DataError: an id stands there twice.
        """
        index = IdIndex.build(ids, name)
        self.add_strings(name, index.ids)
        self.add_array(f"{name}.slots.npy", index.slots)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, with size and digest of every file added so far.

        An empty version becomes the digest over all files.
        """
        files = {
            path.relative_to(self.path).as_posix(): FileInfo(
                size_bytes=path.stat().st_size, sha256=digest(path)
            )
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        every = "".join(f"{name}:{info.sha256}\n" for name, info in files.items())
        version = manifest.version or sha256(every.encode()).hexdigest()[:12]
        self._manifest = replace(manifest, files=files, version=version)
        self.add_bytes(layout.MANIFEST, self._manifest.to_json())

    @property
    def finished(self) -> bool:
        """Whether `finish` was called."""
        return self._manifest is not None

    def _place(self, name: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def write_bundle(target: Path) -> Iterator[BundleWriter]:
    """Yield a writer whose files become the bundle `target` when the block ends.

    After an error, or without a call of `finish`, nothing remains and an older bundle at the
    target is untouched.
    """
    with write_directory(target) as partial:
        writer = BundleWriter(partial)
        yield writer
        if not writer.finished:
            raise AssertionError("write_bundle: finish() was not called")
