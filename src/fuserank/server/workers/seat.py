"""A worker among several: it does what it is told on its own socket, and comes back as the others.

Whoever can open the socket may tell it anything; the folder that it is in is for one user alone.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from fuserank.errors import BundleStateError, FuserankError, UnavailableError
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.lineup import Lineup
from fuserank.server.security.guard import without_values
from fuserank.server.workers.orders import Add, Arrange, Failure, Forget, Order, Reply, Versions
from fuserank.server.workers.runtime_folder import Entry, RuntimeFolder, Seating

__all__ = ["Seat"]

logger = logging.getLogger(__name__)


class Seat:
    """Carries out orders on the bundles of this worker. Made and used on one event loop."""

    def __init__(
        self, seating: Seating, bundles: Bundles[Any], forget: Callable[[str], int]
    ) -> None:
        """Take what orders are about; nothing listens yet.

        Args:
            seating: which worker this is.
            bundles: what it has loaded.
            forget: drops what is kept of a user, and returns how many answers that was.
        """
        self._seating, self._folder = seating, RuntimeFolder(seating.folder)
        self._socket = self._folder.socket(seating.number)
        self._bundles, self._forget = bundles, forget
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def take(self, version: str) -> None:
        """Load what the others have, do as they do, and take orders from then on.

        Args:
            version: of the bundle that was loaded first.

        Raises:
            BundleStateError: what the others serve cannot be had any more.
        """
        begun = Lineup(active=Entry(version=version, path=str(self._seating.bundle)))
        lineup = self._folder.begin(begun)
        while True:
            await self._restore(lineup)
            async with self._folder.changing():
                found = self._folder.lineup()
                if found == lineup:
                    self._socket.unlink(missing_ok=True)  # left by one that was killed
                    self._server = await asyncio.start_unix_server(
                        self._answer, path=str(self._socket)
                    )
                    return
            assert found is not None
            lineup = found  # it was changed while this worker loaded

    async def close(self) -> None:
        """Take no more orders, and leave those under way without an answer."""
        if self._server is None:
            return
        self._server.close()
        self._socket.unlink(missing_ok=True)
        for task in self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering)

    async def _restore(self, lineup: Lineup[Entry]) -> None:
        for entry in lineup:
            if not self._has(entry):
                try:
                    await self._bring(entry)
                except FuserankError as error:
                    if entry is lineup.active:
                        raise
                    # Better to serve without it than not at all.
                    logger.warning("goes on without a bundle that the others have: %s", error)
            self._bundles.arrange(lineup)  # each time, to make room for the next

    def _has(self, entry: Entry) -> bool:
        return any(entry.version == one.info.version for one in self._bundles.loaded())

    async def _bring(self, entry: Entry) -> None:
        try:
            loaded = await self._bundles.add(Path(entry.path))
            why = f"found version {loaded.info.version}"
        except FuserankError as error:
            why = str(error)
        if not self._has(entry):
            raise BundleStateError(
                f"{entry.path}: expected version {entry.version}, which the other workers have; "
                f"{why}; put it back, or restart the server"
            )

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            order = msgspec.json.decode(await reader.read(), type=Order)
            writer.write(msgspec.json.encode(await self._obey(order)))
            await writer.drain()
        except ConnectionError:  # whoever asked has ended
            pass
        except asyncio.CancelledError:  # by `close`, and nobody else awaits it
            pass
        finally:
            self._answering.discard(task)
            writer.close()

    async def _obey(self, order: Order) -> Reply:
        try:
            return await self._do(order)
        except FuserankError as error:
            return Reply(failure=Failure.of(error))
        except Exception as error:
            logger.error("an order failed: %s", without_values(error))
            failure = UnavailableError("failed inside; its log has the details")
            return Reply(failure=Failure.of(failure))

    async def _do(self, order: Order) -> Reply:
        match order:
            case Add(path=path):
                loaded = await self._bundles.add(Path(path))
                return Reply(versions=(loaded.info.version,))
            case Arrange(lineup=lineup):
                self._bundles.arrange(lineup)
                return Reply()
            case Versions():
                return Reply(versions=tuple(one.info.version for one in self._bundles.loaded()))
            case Forget(user_id=user_id):
                return Reply(dropped=self._forget(user_id))
