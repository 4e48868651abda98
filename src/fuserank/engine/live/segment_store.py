"""Folded segments on disk: what the journal holds, ready to be mapped.

A segment is made of the journal alone and can be made of it again: one that is damaged, or of
another journal, is not used. It is written beside its place and renamed when it is whole.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap, write_array_header_2_0

from fuserank.bundle import Ragged, Strings
from fuserank.bundle.atomic import write_directory
from fuserank.bundle.read import digest
from fuserank.engine.live.item_states import ItemStates
from fuserank.engine.scoring import Codes, in_memory, quantize

__all__ = ["Content", "Folded", "SegmentStore", "number_of"]

Array = npt.NDArray[Any]

logger = logging.getLogger(__name__)

_MANIFEST = "segment.json"
_FORMAT = 1
_ROWS = 16_384
"""Rows that are copied at once."""
_CODES = ("blocks", "scales", "errors", "irregular")


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    format: int = _FORMAT
    journal: str
    fingerprint: str
    up_to: int
    n_items: int
    states: tuple[str, ...]
    vectors: tuple[str, ...]
    codes: tuple[float, float, float] | None
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Folded:
    """What a segment on disk holds; its arrays are mapped.

    Attributes:
        up_to: number of the last change that is in it.
        ids: of n items, in the order in which they were changed.
        attributes: of each item, as JSON.
        made: their states.
        codes: of the states, where they were made.
    """

    up_to: int
    ids: list[str]
    attributes: Strings
    made: ItemStates
    codes: Codes | None


class SegmentStore:
    """The segments of one directory that are for one bundle and one journal."""

    def __init__(self, directory: Path, journal: str, fingerprint: str) -> None:
        """Take a directory, which may not exist yet.

        Args:
            directory: of segments of any bundle.
            journal: identity of the journal that they are made of.
            fingerprint: of what makes the states.
        """
        self._directory = directory
        self._journal, self._fingerprint = journal, fingerprint
        self._prefix = fingerprint.rpartition(":")[2][:16]
        self._refused: set[str] = set()

    def newest(self, up_to: int) -> Path | None:
        """Return the newest segment that holds no change above a number; None of none."""
        for path in reversed(self._mine()):
            if number_of(path) <= up_to and path.name not in self._refused:
                return path
        return None

    def read(self, path: Path) -> Folded | None:
        """Map a segment; None where it is damaged or gone, which is the last that is seen of it."""
        try:
            return self._read(path)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            logger.warning("%s: not used: %s", path, error)
            self._refused.add(path.name)
            return None

    def write(self, up_to: int, content: "Content") -> Path:
        """Write a segment.

        Args:
            up_to: number of the last change that is in it.
            content: the items.

        Raises:
            OSError: there is no room, or the directory cannot be written to.
        """
        path = self._directory / f"{self._prefix}-{up_to:020d}"
        with write_directory(path) as partial:
            codes = content.write(partial)
            files = {
                file.relative_to(partial).as_posix(): digest(file)
                for file in sorted(partial.rglob("*.npy"))
            }
            manifest = _Manifest(
                journal=self._journal,
                fingerprint=self._fingerprint,
                up_to=up_to,
                n_items=len(content.ids),
                states=tuple(content.states) if content.ids else (),
                vectors=tuple(content.vectors) if content.ids else (),
                codes=codes,
                files=files,
            )
            (partial / _MANIFEST).write_bytes(msgspec.json.encode(manifest))
        self._refused.discard(path.name)
        return path

    def clean(self, kept: Path) -> None:
        """Remove the older segments of this bundle, and all but the newest one of the others.

        Whoever has mapped a segment keeps it: on Linux its files go with the last mapping.
        """
        others = [path for path in self._all() if not path.name.startswith(self._prefix)]
        others.sort(key=number_of)
        older = [path for path in self._mine() if number_of(path) < number_of(kept)]
        for path in [*older, *others[:-1]]:
            shutil.rmtree(path, ignore_errors=True)

    def remove_above(self, up_to: int) -> None:
        """Remove segments above what the journal holds, which is then an older one."""
        for path in self._all():
            if number_of(path) > up_to:
                shutil.rmtree(path, ignore_errors=True)

    def _mine(self) -> list[Path]:
        return sorted(path for path in self._all() if path.name.startswith(f"{self._prefix}-"))

    def _all(self) -> list[Path]:
        try:
            found = list(self._directory.iterdir())
        except OSError:
            return []
        return [path for path in found if path.name.rpartition("-")[2].isdigit()]

    def _read(self, path: Path) -> Folded:
        manifest = msgspec.json.decode((path / _MANIFEST).read_bytes(), type=_Manifest)
        if (manifest.format, manifest.journal, manifest.fingerprint, manifest.up_to) != (
            _FORMAT,
            self._journal,
            self._fingerprint,
            number_of(path),
        ):
            raise ValueError("it is of another journal, bundle or release")
        for name, expected in manifest.files.items():
            if digest(path / name) != expected:
                raise ValueError(f"{name} is not what was written")
        codes = None
        if manifest.codes is not None and manifest.n_items:
            unit, code_norm, error_norm = manifest.codes
            arrays = {name: _mapped(path / f"codes/{name}.npy") for name in _CODES}
            arrays["blocks"] = in_memory(arrays["blocks"])
            codes = Codes(unit=unit, code_norm=code_norm, error_norm=error_norm, **arrays)
        return Folded(
            up_to=manifest.up_to,
            ids=list(_strings(path / "ids")),
            attributes=_strings(path / "attributes"),
            made=ItemStates(
                states={name: _mapped(path / f"states/{name}.npy") for name in manifest.states},
                vectors={name: _mapped(path / f"vectors/{name}.npy") for name in manifest.vectors},
            ),
            codes=codes,
        )


@dataclass(frozen=True, kw_only=True)
class Content:
    """Items that are to be written as a segment.

    Attributes:
        ids: n ids.
        attributes: of each item, as JSON.
        rows: (n,) rows of the arrays.
        states: by name, what can be read by rows.
        vectors: by item field, the same.
        coded: whether int8 codes are made of the states.
        weights: of an additive scorer, for the codes.
    """

    ids: Sequence[str]
    attributes: Sequence[str]
    rows: npt.NDArray[np.int64]
    states: Mapping[str, Any]
    vectors: Mapping[str, Any]
    coded: bool
    weights: Array | None

    def write(self, directory: Path) -> tuple[float, float, float] | None:
        """Write the files of a segment but its manifest; returns the numbers of the codes."""
        _write_strings(directory / "ids", self.ids)
        _write_strings(directory / "attributes", self.attributes)
        if not self.ids:
            return None
        for folder, arrays in (("states", self.states), ("vectors", self.vectors)):
            (directory / folder).mkdir()
            for name, array in arrays.items():
                with (directory / folder / f"{name}.npy").open("wb") as file:
                    self._write_rows(file, array)
        if not self.coded:
            return None
        codes = quantize(
            _mapped(directory / "states/item_state.npy"),
            _mapped(directory / "states/item_constant.npy"),
            self.weights,
        )
        (directory / "codes").mkdir()
        for name in _CODES:
            np.save(directory / f"codes/{name}.npy", getattr(codes, name), allow_pickle=False)
        return codes.unit, codes.code_norm, codes.error_norm

    def _write_rows(self, file: BinaryIO, array: Any) -> None:
        # Written and not mapped: a write that finds no room is an error, a mapping is a signal.
        for first, part in self._parts(array):
            if first == 0:
                header = {
                    "descr": part.dtype.str,
                    "fortran_order": False,
                    "shape": (len(self.rows), *part.shape[1:]),
                }
                write_array_header_2_0(file, header)
            file.write(np.ascontiguousarray(part).tobytes())

    def _parts(self, array: Any) -> Iterator[tuple[int, Array]]:
        for first in range(0, len(self.rows), _ROWS):
            yield first, array[self.rows[first : first + _ROWS]]


def number_of(path: Path) -> int:
    """Return the number of the last change that is in a segment."""
    return int(path.name.rpartition("-")[2])


def _mapped(path: Path) -> Array:
    mapped: Array = open_memmap(path, "r")  # refuses pickled objects
    return mapped.view(np.ndarray)


def _strings(path: Path) -> Strings:
    return Strings(
        Ragged(_mapped(path.with_suffix(".values.npy")), _mapped(path.with_suffix(".offsets.npy")))
    )


def _write_strings(path: Path, strings: Sequence[str]) -> None:
    ragged = Strings.build(strings).ragged
    np.save(path.with_suffix(".values.npy"), ragged.values, allow_pickle=False)
    np.save(path.with_suffix(".offsets.npy"), ragged.offsets, allow_pickle=False)
