"""From item ids to rows, as they were at any moment that somebody still reads."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["RowIndex"]


class _Entry(NamedTuple):
    version: int
    row: int | None
    before: "_Entry | None"


class RowIndex:
    """Rows by item id; one thread writes, and any number read as of a version.

    The items of the bundle lie at the bottom, those that were folded over them, and what was
    changed since on top, where every entry keeps the ones before it.
    """

    def __init__(
        self, base: Mapping[str, int], folded: Mapping[str, int | None] | None = None
    ) -> None:
        """Take what does not change.

        Args:
            base: rows of the bundle's items.
            folded: rows of the items that were folded; None of those that are deleted.
        """
        self._base = base
        self._folded = folded or {}
        self._changed: dict[str, _Entry] = {}

    @property
    def n_changed(self) -> int:
        """Items that changed since the last fold."""
        return len(self._changed)

    def find(self, item_id: str, version: int) -> int | None:
        """Return the row of an item as of a version; None where there is no such item."""
        entry = self._changed.get(item_id)
        while entry is not None:
            if entry.version <= version:
                return entry.row
            entry = entry.before
        if item_id in self._folded:
            return self._folded[item_id]
        return self._base.get(item_id)

    def is_live(self, item_id: str, version: int) -> bool:
        """Say whether an item came or changed since the bundle was made."""
        row = self.find(item_id, version)
        return row is not None and row != self._base.get(item_id)

    def put(self, item_id: str, version: int, row: int | None) -> None:
        """Say where an item is from a version on; None where it is deleted."""
        self._changed[item_id] = _Entry(version, row, self._changed.get(item_id))
