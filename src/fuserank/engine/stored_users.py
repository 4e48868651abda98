"""The users that a bundle knows: their encoded fields, what they chose and what they have seen."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Bundle, layout

__all__ = ["StoredUsers"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int32]

_NONE: Rows = np.empty(0, dtype=np.int32)


class StoredUsers:
    """Users by row; a bundle may have none.

    Attributes:
        tensors: by graph input, (n_users, …): all inputs but histories. Memory-mapped.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Map the stored users of a bundle."""
        self._row_of: Mapping[str, int] = {}
        self.tensors: dict[str, Array] = {}
        if not bundle.has(layout.USER_IDS):
            return
        self._row_of = bundle.ids(layout.USER_IDS)
        self._seen = bundle.ragged(layout.SEEN)
        self._history = bundle.ragged(layout.HISTORY)
        self.tensors = {
            spec.name: bundle.array(layout.user_tensor(spec.name))
            for spec in bundle.manifest.graphs["user"].inputs
            if f"{layout.user_tensor(spec.name)}" in bundle.manifest.files
        }

    def __len__(self) -> int:
        return len(self._row_of)

    def row(self, user_id: str) -> int | None:
        """Return the row of a user, or None for one that is not stored."""
        return self._row_of.get(user_id)

    def ids(self, limit: int) -> tuple[str, ...]:
        """Return the ids of the first users."""
        return tuple(islice(self._row_of, limit))

    def seen(self, row: int | None) -> Rows:
        """Return the catalogue rows that a user has met; none for an unknown user."""
        return _NONE if row is None else self._seen[row]

    def history(self, row: int | None) -> Rows:
        """Return the catalogue rows that a user chose, the most recent last."""
        return _NONE if row is None else self._history[row]
