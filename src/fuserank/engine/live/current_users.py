"""Stored users over a catalogue that has changed since their rows were written."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.live.snapshot import Snapshot
from fuserank.engine.stored_users import StoredUsers

__all__ = ["CurrentUsers"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.integer[Any]]


class CurrentUsers:
    """`StoredUsers` whose items are where a snapshot has them.

    What replaces an item takes its place in what users have met and chosen. An item that was
    deleted still says what its users like.
    """

    def __init__(self, users: StoredUsers, snapshot: Snapshot) -> None:
        """Take users of a bundle, and a snapshot over the same bundle."""
        self._users, self._snapshot = users, snapshot

    @property
    def tensors(self) -> dict[str, Array]:
        """By graph input, (n_users, …)."""
        return self._users.tensors

    def row(self, user_id: str) -> int | None:
        """Return the row of a user, or None for one that is not stored."""
        return self._users.row(user_id)

    def seen(self, row: int | None) -> Rows:
        """Return the catalogue rows that a user has met; none for an unknown user."""
        return self._snapshot.current(self._users.seen(row))

    def history(self, row: int | None) -> Rows:
        """Return the catalogue rows that a user chose, the most recent last."""
        return self._snapshot.current(self._users.history(row))
