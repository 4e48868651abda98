"""The texts of a data set, such as an encoder will be given them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuserank.errors import DataError
from fuserank.schema import Side
from fuserank.training.data.features import fit_schema

if TYPE_CHECKING:
    from fuserank.training.data.dataset import Dataset

__all__ = ["texts_of"]


def texts_of(dataset: Dataset) -> list[str]:
    """Return the distinct texts of items, then those of users, as a ranker reads them.

    Nothing else of the data is looked at, such as who chose what: the split need not be known.

    Raises:
        DataError: there are none.
    """
    schema = fit_schema(dataset, text_dim=1)
    found: dict[str, None] = {}
    for side, table in ((Side.ITEM, dataset.items), (Side.USER, dataset.users)):
        columns = schema.texts(side, table.columns, len(table))
        for field in schema.text_fields(side):
            found |= dict.fromkeys(text for text in columns[field.field.name] if text)
    if not found:
        raise DataError(
            f"data set {dataset.name!r}: found no texts of items or users, expected some to learn "
            "from; declare a field of kind text"
        )
    return list(found)
