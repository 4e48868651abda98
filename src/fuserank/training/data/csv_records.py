"""The records of a CSV file with the lines on which they stand, for error messages."""

import csv
from collections.abc import Iterator
from pathlib import Path

from fuserank.errors import DataError

__all__ = ["records"]


def records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV file that are not blank, each with the line on which it starts.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or a value is too long.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, delimiter=delimiter)
            line = 1
            for record in reader:
                if record:
                    yield line, record
                line = reader.line_num + 1
    except UnicodeDecodeError:
        line = _first_foreign_line(path)
        raise DataError(
            f"{path}, line {line}: found bytes that are not UTF-8; save the file as UTF-8"
        ) from None
    except (csv.Error, OSError) as error:
        raise DataError(f"{path}: expected a CSV file, found {error}") from error


def _first_foreign_line(path: Path) -> int:
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        return error.object.count(b"\n", 0, error.start) + 1
    raise AssertionError("decoding failed before and succeeds now")
