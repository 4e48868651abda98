"""Tables of users and of items, as the files of a ``dataset.toml`` hold them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fuserank.errors import DataError
from fuserank.schema.fields import Field, Kind, Side
from fuserank.training.data.dataset_config import DatasetConfig, TableConfig
from fuserank.training.data.table_file import TableFile, read_table_file

__all__ = ["Table", "read_table", "users_of"]


@dataclass(frozen=True)
class Table:
    """What is known of users or of items.

    Attributes:
        ids: one id a row, each once.
        columns: the columns that fields read, the column of ids, and the title; one entry a row,
            None where a value is missing. Text is str, a number int or float, several values
            list[str], a vector list[float].
    """

    ids: tuple[str, ...]
    columns: dict[str, list[object]]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.ids)


def read_table(config: TableConfig, fields: Sequence[Field], side: Side) -> Table:
    """Read the columns that a side's fields need, its ids and its title.

    Raises:
        DataError: the file is missing, foreign or damaged, a column is missing or of a wrong type,
            or an id is missing or stands there twice.
    """
    wanted = {config.id: "id"} | _columns_of(fields, side)
    if config.title is not None:
        wanted.setdefault(config.title, "title")
    optional = [f.name for f in fields if f.side is side and _is_for_requests(f)]
    file = read_table_file(config.path, wanted, optional=optional, delimiter=config.delimiter)
    ids = file.ids(config.id).to_pylist()
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        if first.setdefault(name, row) != row:
            raise file.error(
                row, config.id, f"{name!r}, which {file.place(first[name])} has", "each id once"
            )
    columns = {
        name: _values(file, name, fields, side) for name in (*wanted, *optional) if name in file
    }
    return Table(ids=tuple(ids), columns=columns)


def users_of(ids: Sequence[str], config: DatasetConfig) -> Table:
    """Return the table of users of whom nothing is known but their interactions.

    Args:
        ids: of the users, each once.
        config: of the data set.

    Raises:
        DataError: a field reads another column than that of the ids.
    """
    column = config.interactions.user
    for wanted, reader in _columns_of(config.fields, Side.USER).items():
        if wanted != column:
            raise DataError(
                f"{config.source}, [users]: {reader} reads column {wanted!r}, but there is no file "
                "of users; name it by path and id"
            )
    return Table(ids=tuple(ids), columns={column: list(ids)})


def _columns_of(fields: Iterable[Field], side: Side) -> dict[str, str]:
    """The columns that a side's table must have → the first field that reads each."""
    columns: dict[str, str] = {}
    for field in fields:
        if field.side is side and field.kind is not Kind.HISTORY and not _is_for_requests(field):
            for column in field.source_columns:
                columns.setdefault(column, f"field {field.name!r}")
    return columns


def _is_for_requests(field: Field) -> bool:
    """Whether a text is known from requests only, so that its column may be absent."""
    return field.joins is not None and field.column is None and field.template is None


def _values(file: TableFile, column: str, fields: Iterable[Field], side: Side) -> list[object]:
    """A column converted for the field that asks most of it; a template can read them all."""
    readers = [f for f in fields if f.side is side and column in f.source_columns]
    kinds = {f.kind for f in readers if f.template is None}
    if Kind.ID in kinds:
        return list(file.ids(column).to_pylist())
    if Kind.CATEGORIES in kinds:
        return list(file.lists(column))
    if Kind.VECTOR in kinds:
        return list(file.vectors(column))
    if Kind.NUMBER in kinds:
        return list(file.numbers(column).to_pylist())
    if kinds & {Kind.CATEGORY, Kind.TEXT, Kind.WORDS}:
        return list(file.texts(column).to_pylist())
    return file.words(column)
