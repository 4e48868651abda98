"""The mixed calls of a soak: one of each kind, and what each must come to."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import numpy as np

from fuserank.errors import FuserankError, RequestError, UnknownItemError
from fuserank.server.client.client import AsyncClient

__all__ = ["WIDTH", "mixed_calls"]

WIDTH = 64
"""Of the vectors of users and items."""
_BATCH, _IDS = 16, 100
_PATIENCE_S = 0.002
_LIVE = 100
"""Items of a caller that come and go."""


def mixed_calls(
    client: AsyncClient, rng: np.random.Generator, *, items: int, caller: int
) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return a call of each kind. Users are new in each, so that no cache hides a leak.

    Args:
        client: of one connection, which reaches one of the server's processes.
        rng: draws what is sent.
        items: of the bundle.
        caller: number of the caller, who has live items that no other one changes.
    """

    def user() -> dict[str, object]:
        return {"vector": rng.standard_normal(WIDTH, dtype=np.float32).tolist()}

    def ids() -> list[str]:
        return [f"item-{row}" for row in rng.integers(items, size=_IDS)]

    async def refused() -> None:
        try:
            await client.recommend({"no_such_field": 1.0})
        except RequestError:
            return
        raise FuserankError("a field that the bundle does not have was taken")

    async def given_up() -> None:
        with contextlib.suppress(TimeoutError):
            users = [user() for _ in range(_BATCH)]
            await asyncio.wait_for(client.recommend_many(users, 100), _PATIENCE_S)

    live = _LiveItems(client, rng, user, caller)
    return {
        "recommend": lambda: client.recommend(user(), 10),
        "recommend, excluding": lambda: client.recommend(user(), 10, exclude=ids()),
        "recommend, attributes": lambda: client.recommend(user(), 100, attributes=True),
        "batch": lambda: client.recommend_many([user() for _ in range(_BATCH)], 10),
        "score": lambda: client.score(user(), ids()),
        "info": client.bundle_info,
        "refused": refused,
        "given up": given_up,
        "upsert": live.upsert,
        "delete": live.delete,
    }


class _LiveItems:
    """Changes of one caller's live items, each looked at once it is acknowledged."""

    def __init__(
        self,
        client: AsyncClient,
        rng: np.random.Generator,
        user: Callable[[], dict[str, object]],
        caller: int,
    ) -> None:
        """Take what calls; the arguments are those of `mixed_calls`."""
        self._client, self._rng, self._user = client, rng, user
        self._ids = [f"live-{caller}-{number}" for number in range(_LIVE)]

    async def upsert(self) -> None:
        """Add or replace one; it must be there, as it was sent, and be recommended.

        It has no vector, and is one: rows of items that are replaced stay until the catalogue
        folds, and are few and small, so that the memory of a server without a leak is flat.
        """
        item_id, attributes = self._any(), {"stamp": self._rng.random()}
        await self._client.upsert({item_id: attributes})
        found = await self._client.item(item_id)
        if not found.live or found.attributes != attributes:
            raise FuserankError("an item that was acknowledged is another one")
        await self._expect(item_id, (item_id,))

    async def delete(self) -> None:
        """Take one out; it must not be found any more."""
        item_id = self._any()
        await self._client.delete([item_id])
        with contextlib.suppress(UnknownItemError):
            await self._client.item(item_id)
            raise FuserankError("an item whose end was acknowledged is found")
        await self._expect(item_id, ())

    def _any(self) -> str:
        return str(self._rng.choice(self._ids))

    async def _expect(self, allowed: str, expected: tuple[str, ...]) -> None:
        found = await self._client.recommend(self._user(), 10, allow=[allowed])
        if found.item_ids != expected:
            raise FuserankError("other items are recommended than were acknowledged")
