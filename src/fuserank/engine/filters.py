"""Which items may come back to each user of a call."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fuserank.errors import RequestError

__all__ = ["EVERYTHING", "ItemFilter", "check_filters", "rows_of"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFilter:
    """Which items may come back to one user.

    Attributes:
        exclude: item ids never to return; ids the catalogue does not hold change nothing.
        allow: where given, the only item ids to return.
        include_seen: also return items that the user has met (stored or in the history).
    """

    exclude: Collection[str] = ()
    allow: Collection[str] | None = None
    include_seen: bool = False


EVERYTHING = ItemFilter()
"""Whatever the user has not met."""


class Items(Protocol):
    """What is read of the items, such as a `Catalogue`."""

    def known_rows(self, item_ids: Collection[str], field: str) -> Rows:
        """Return the rows of those items that exist."""


def check_filters(filters: object, n_users: int, for_all: ItemFilter) -> None:
    """Raise RequestError of what is not one filter for each user, or beside one for all of them."""
    excluded = for_all.exclude
    excludes = not isinstance(excluded, Collection) or len(excluded) > 0
    if excludes or for_all.allow is not None or for_all.include_seen:
        raise RequestError(
            "filters: found exclude, allow or include_seen beside them, expected these in the "
            "filters themselves",
            field="filters",
        )
    if isinstance(filters, str) or not isinstance(filters, Sequence):
        found = type(filters).__name__
    elif wrong := [one for one in filters if not isinstance(one, ItemFilter)]:
        found = f"{type(wrong[0]).__name__} among them"
    elif len(filters) != n_users:
        found = f"{len(filters)} for {n_users} users"
    else:
        return
    raise RequestError(
        f"filters: found {found}, expected a list of ItemFilter, one for each user", field="filters"
    )


def rows_of(
    filters: Sequence[ItemFilter], seen: Sequence[npt.NDArray[np.integer]], items: Items
) -> list[tuple[Rows, Rows | None]]:
    """Return for each user the rows that are excluded and the only ones that are allowed.

    Ids are looked up once for all users who have the same filter, the object itself.

    Args:
        filters: of q users.
        seen: for each of them the rows that the user has met.
        items: of these rows.

    Raises:
        RequestError: not a list of ids.
    """
    known: dict[int, tuple[Rows, Rows | None]] = {}
    found: list[tuple[Rows, Rows | None]] = []
    for one, met in zip(filters, seen, strict=True):
        if id(one) not in known:
            allowed = None if one.allow is None else items.known_rows(one.allow, "allow")
            known[id(one)] = items.known_rows(one.exclude, "exclude"), allowed
        excluded, allowed = known[id(one)]
        found.append((excluded if one.include_seen else np.concatenate([excluded, met]), allowed))
    return found
