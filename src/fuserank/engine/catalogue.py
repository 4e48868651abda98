"""The items of a bundle: ids, attributes, states, and the vectors that histories read."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.bundle import Bundle, layout
from fuserank.errors import RequestError, UnknownItemError

__all__ = ["Catalogue", "check_list", "unknown_items"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


class Catalogue:
    """Items by row; row order breaks ties between equal scores.

    Attributes:
        states: by name, (n_items, …): what the joint part reads of an item. Memory-mapped.
        vectors: by item field, (n_items, dim) float32: how a history represents an item.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Map the catalogue of a bundle."""
        self._index = bundle.ids(layout.ITEM_IDS)
        self._attributes = bundle.strings(layout.ATTRIBUTES)
        self._decoder = msgspec.json.Decoder(dict[str, Any])
        self.states: dict[str, Array] = {
            spec.name: bundle.array(layout.item_state(spec.name))
            for spec in bundle.manifest.graphs["item"].outputs
        }
        self.vectors: dict[str, Array] = {
            fitted.field.of: bundle.array(layout.item_vectors(fitted.field.of))
            for fitted in bundle.schema.fields
            if fitted.field.of is not None
        }

    def __len__(self) -> int:
        return len(self._index)

    @property
    def every_id(self) -> Sequence[str]:
        """Ids by row, which are decoded as they are read."""
        return self._index.ids

    @property
    def row_of(self) -> Mapping[str, int]:
        """Rows by item id."""
        return self._index

    def ids(self, rows: Rows) -> tuple[str, ...]:
        """Return the ids of rows."""
        return self._index.ids.take(rows)

    def rows(self, item_ids: Sequence[str], field: str) -> Rows:
        """Return the rows of items that must exist.

        Raises:
            RequestError: not a list of ids.
            UnknownItemError: an id that the catalogue does not hold.
        """
        check_list(item_ids, field)
        found = [self._index.find(item_id) for item_id in item_ids]
        if None in found:
            unknown = [i for i, row in zip(item_ids, found, strict=True) if row is None]
            raise unknown_items(unknown, field, len(self))
        return np.array(found, dtype=np.int64)

    def known_rows(self, item_ids: Collection[str], field: str) -> Rows:
        """Return the rows of those items that exist.

        Raises:
            RequestError: not a list of ids.
        """
        check_list(item_ids, field)
        found = map(self._index.find, item_ids)
        return np.array([row for row in found if row is not None], dtype=np.int64)

    def attributes(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the attributes of rows, such as titles."""
        return [self.attributes_of(row) for row in rows.tolist()]

    def attributes_of(self, row: int) -> dict[str, Any]:
        """Return the attributes of one row."""
        encoded = self._attributes.ragged[row]
        try:
            return self._decoder.decode(encoded.data)
        except msgspec.DecodeError:  # NaN, which Python writes and no other reader takes
            found: dict[str, Any] = json.loads(encoded.tobytes())
            return found


def unknown_items(unknown: Sequence[object], field: str, n_items: int) -> UnknownItemError:
    """Return the error that names the first of some ids that a catalogue does not hold."""
    return UnknownItemError(
        f"{field}: found {len(unknown)} item id(s) that the catalogue of {n_items:,} "
        f"items does not hold, the first being {unknown[0]!r}; ids are strings, as in the "
        "item table",
        field=field,
    )


def check_list(item_ids: object, field: str) -> None:
    """Refuse what is no collection, and a single string, whose characters would pass for ids."""
    if isinstance(item_ids, str) or not isinstance(item_ids, Collection):
        found = "one string" if isinstance(item_ids, str) else type(item_ids).__name__
        raise RequestError(f"{field}: found {found}, expected a list of item ids", field=field)
