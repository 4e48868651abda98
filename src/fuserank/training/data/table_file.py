"""Parquet and CSV files by column, with errors that name the file, the line and the column."""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from fuserank.errors import DataError
from fuserank.training.data.csv_records import records

__all__ = ["SUFFIXES", "VALUE_SEPARATOR", "TableFile", "read_table_file", "suggestion"]

SUFFIXES = (".parquet", ".csv")
VALUE_SEPARATOR = "|"
"""What stands between several values in one text cell."""


@dataclass(frozen=True, eq=False)
class TableFile:
    """Columns of one file, read as they stand there and converted by what they are wanted for.

    Missing values are nulls everywhere: empty text and NaN as well.

    Attributes:
        path: the file.
        delimiter: what stands between the values of a CSV file.
        table: the columns that were read.
    """

    path: Path
    delimiter: str
    table: pa.Table

    def __len__(self) -> int:
        """The number of rows."""
        return int(self.table.num_rows)

    def __contains__(self, name: str) -> bool:
        """Whether a column was read."""
        return name in self.table.column_names

    def texts(self, name: str) -> pa.Array:
        """A column as text; whole numbers are written without a point."""
        values = self._column(name)
        if pa.types.is_floating(values.type):
            values = self.numbers(name)
        try:
            return values.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise self._wrong_type(name, "text or whole numbers") from None

    def ids(self, name: str) -> pa.Array:
        """A column as text without a missing value."""
        values = self.texts(name)
        self._reject(name, pc.is_null(values), "an id")
        return values

    def numbers(self, name: str) -> pa.Array:
        """A column as int64 where all its values are whole, else as float64.

        Whole years stay ``1995`` rather than ``1995.0``, so that templates can read them.
        """
        values = self._column(name)
        kind = values.type
        if pa.types.is_string(kind):
            values = self._parsed(name, values)
        elif pa.types.is_boolean(kind) or (pa.types.is_integer(kind) and kind != pa.uint64()):
            return values.cast(pa.int64())
        elif pa.types.is_floating(kind) or pa.types.is_decimal(kind) or kind == pa.uint64():
            values = values.cast(pa.float64(), safe=False)
        else:
            raise self._wrong_type(name, "numbers")
        if pa.types.is_integer(values.type):
            return values
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        self._reject(name, pc.is_inf(values), "a finite number")
        whole = _cast_or_none(values, pa.int64())
        return values if whole is None else whole

    def ratings(self, name: str) -> pa.Array:
        """A column as float32 without a missing or infinite value."""
        values = self.numbers(name)
        self._reject(name, pc.is_null(values), "a rating")
        ratings = values.cast(pa.float32(), safe=False)
        self._reject(name, pc.is_inf(ratings), "a rating that is finite as float32")
        return ratings

    def timestamps(self, name: str, *, allow_negative: bool = False) -> pa.Array:
        """A column as int64 without a missing value; dates become microseconds since 1970."""
        values = self._column(name)
        if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
            zone = getattr(values.type, "tz", None)
            values = values.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())
        else:
            values = self.numbers(name)
        real = values.cast(pa.float64(), safe=False)
        bad = pc.or_kleene(pc.is_null(values), pc.not_equal(pc.floor(real), real))
        lowest, bounds = (-(2.0**63), "") if allow_negative else (0, ", 0 or more")
        bad = pc.or_kleene(bad, pc.or_(pc.less(real, lowest), pc.greater_equal(real, 2.0**63)))
        self._reject(name, bad, f"a time as a whole number{bounds}")
        return values

    def lists(self, name: str) -> list[list[str] | None]:
        """A column of several values a row: a list column, or text split at the separator."""
        values = self._column(name)
        if not _is_list(values.type):
            values = pc.split_pattern(self.texts(name), VALUE_SEPARATOR)
        if pa.types.is_nested(values.type.value_type):
            raise self._wrong_type(name, "lists of text or whole numbers")
        return [row if row is None else _entries(row) for row in values.to_pylist()]

    def vectors(self, name: str) -> list[list[float] | None]:
        """A list column of finite numbers, as many in each row that has any."""
        values = self._column(name)
        if not _is_list(values.type):
            raise self._wrong_type(name, "lists of numbers (a Parquet list column)")
        lengths = pc.list_value_length(values)
        size = pc.max(lengths).as_py()
        self._reject(name, pc.equal(lengths, 0), "one number or more")
        self._reject(name, pc.not_equal(lengths, size), f"{size} numbers, as in other rows")
        numbers = pc.list_flatten(values)
        if (numbers := _cast_or_none(numbers, pa.float64())) is None:
            raise self._wrong_type(name, "lists of numbers")
        bad = pc.list_parent_indices(values).filter(
            pc.invert(pc.is_finite(numbers).fill_null(False))
        )
        if len(bad):
            raise self.error(bad[0].as_py(), name, "a missing or infinite number", "a vector")
        return list(values.to_pylist())

    def words(self, name: str) -> list[object]:
        """A column as a template reads it: text, numbers or lists of text."""
        kind = self._column(name).type
        if _is_list(kind):
            return list(self.lists(name))
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        return list((self.numbers(name) if is_number else self.texts(name)).to_pylist())

    def place(self, row: int) -> str:
        """Where a row stands, such as ``line 3`` of a CSV file or ``row 2`` of a Parquet file."""
        if self.path.suffix.lower() != ".csv":
            return f"row {row + 1}"
        line, _ = next(islice(records(self.path, self.delimiter), row + 1, None))
        return f"line {line}"

    def error(self, row: int, name: str, found: str, expected: str) -> DataError:
        """The error that one cell is, to be raised."""
        return DataError(
            f"{self.path}, {self.place(row)}, column {name!r}: found {found}, "
            f"expected {expected}; correct the row or remove it"
        )

    def _column(self, name: str) -> pa.Array:
        values = self.table.column(name)
        kind = values.type
        if pa.types.is_dictionary(kind):
            values = values.cast(kind := kind.value_type)
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or kind == pa.null():
            values = values.cast(kind := pa.string())
        values = values.combine_chunks()
        if pa.types.is_string(kind):
            values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
        return values

    def _parsed(self, name: str, values: pa.Array) -> pa.Array:
        values = pc.utf8_trim_whitespace(values)
        for kind in (pa.int64(), pa.float64()):
            if (numbers := _cast_or_none(values, kind)) is not None:
                return numbers
        row = next(i for i, v in enumerate(values) if _cast_or_none(v, pa.float64()) is None)
        raise self.error(row, name, repr(values[row].as_py()), "a number")

    def _reject(self, name: str, mask: pa.Array, expected: str) -> None:
        row = pc.index(mask.fill_null(False), True).as_py()
        if row >= 0:
            found = self._column(name)[row].as_py()
            missing = found is None or found != found  # noqa: PLR0124  (NaN)
            raise self.error(row, name, "no value" if missing else repr(found), expected)

    def _wrong_type(self, name: str, expected: str) -> DataError:
        return DataError(
            f"{self.path}, column {name!r}: found type {self.table.column(name).type}, "
            f"expected {expected}; convert the column or declare its field of another kind"
        )


def read_table_file(
    path: Path,
    wanted: Mapping[str, str],
    *,
    optional: Collection[str] = (),
    delimiter: str = ",",
) -> TableFile:
    """Read columns of a Parquet or CSV file; CSV values are read as text.

    Args:
        path: the file; its suffix says what it is.
        wanted: column → what it is wanted for, which the error names if it is not there.
        optional: columns to read if they are there.
        delimiter: what stands between the values of a CSV file.

    Raises:
        DataError: the file is missing, foreign, damaged or empty, or lacks a wanted column.
    """
    if not path.is_file():
        raise DataError(f"{path}: found no such file; create it or correct the path")
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    table = read(path, delimiter, lambda found: _chosen(path, delimiter, found, wanted, optional))
    if table.num_rows == 0:
        raise DataError(f"{path}: found no rows, expected at least one")
    return TableFile(path=path, delimiter=delimiter, table=table)


def suggestion(name: str, choices: Collection[str]) -> str:
    """A clause that offers the nearest of the choices; empty where none is near.

    >>> suggestion("titel", ["title", "year"])
    "; did you mean 'title'?"
    """
    near = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _chosen(
    path: Path,
    delimiter: str,
    found: list[str],
    wanted: Mapping[str, str],
    optional: Collection[str],
) -> list[str]:
    for name, purpose in wanted.items():
        if name not in found:
            remedy = suggestion(name, found)
            if path.suffix.lower() == ".csv" and len(found) == 1:
                remedy = f"; if these are several, correct the delimiter, which is {delimiter!r}"
            raise DataError(
                f"{path}: found no column {name!r} ({purpose}); its columns are "
                f"{', '.join(found)}{remedy}"
            )
    chosen = list(dict.fromkeys([*wanted, *(name for name in optional if name in found)]))
    twice = [name for name in chosen if found.count(name) > 1]
    if twice:
        raise DataError(f"{path}: found column {twice[0]!r} twice, expected it once; rename one")
    return chosen


def _read_parquet(path: Path, _: str, choose: Callable[[list[str]], list[str]]) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=choose(file.schema_arrow.names))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: expected a Parquet file, found one that cannot be read ({reason}); "
            "write it anew, or name it .csv if it is text"
        ) from error


def _read_csv(path: Path, delimiter: str, choose: Callable[[list[str]], list[str]]) -> pa.Table:
    _, header = next(records(path, delimiter), (1, []))
    if not header:
        raise DataError(f"{path}: found an empty file, expected a header line and rows")
    columns = choose(header)
    try:
        return pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                # Nothing but an empty cell is missing: "NA" is a country, "null" a surname.
                null_values=[""],
            ),
        )
    except (pa.ArrowException, OSError) as error:
        for line, record in records(path, delimiter):
            if len(record) != len(header):
                raise DataError(
                    f"{path}, line {line}: found {len(record)} values, expected {len(header)} as "
                    f"in the header; correct the line, its quotes or the delimiter {delimiter!r}"
                ) from None
        raise DataError(f"{path}: expected a CSV file, found {error}") from error


def _cast_or_none(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _entries(row: list[object]) -> list[str]:
    texts = (str(entry).strip() for entry in row if entry is not None)
    return [text for text in texts if text]
