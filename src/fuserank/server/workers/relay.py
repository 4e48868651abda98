"""What an operator asks of one worker, done in all of them before it is answered.

What all serve is written down before they are told, and a worker that starts reads it: so one that
dies meanwhile comes back as the others are. A worker that lives and does not answer is named, and
nothing was changed, or the others have changed: the message says which.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from fuserank.errors import BundleStateError, FuserankError, UnavailableError
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.lineup import Lineup
from fuserank.server.bundles.loaded import Loaded
from fuserank.server.workers.orders import (
    Add,
    Arrange,
    EndedError,
    Forget,
    Order,
    Reply,
    Versions,
    ask,
)
from fuserank.server.workers.runtime_folder import Entry, RuntimeFolder

__all__ = ["Relay"]

logger = logging.getLogger(__name__)

_ANSWER_S = 10.0
_TRIES = 3

T = TypeVar("T")


class Relay:
    """Changes what all workers serve. Made and used on one event loop."""

    def __init__(
        self,
        folder: RuntimeFolder,
        bundles: Bundles[Any],
        *,
        most: int,
        answer_s: float = _ANSWER_S,
    ) -> None:
        """Take where the workers are.

        Args:
            folder: what they have in common.
            bundles: what this worker has loaded.
            most: bundles that are kept at a time.
            answer_s: seconds that a worker has for whatever is not a load.
        """
        self._folder, self._bundles = folder, bundles
        self._most, self._answer_s = most, answer_s
        self._changes: set[asyncio.Task[Any]] = set()

    async def load(self, name: str) -> Loaded:
        """Load a bundle of the folder in every worker, one after another, or in none.

        Raises:
            FuserankError: as for `Bundles.load`; the message names the worker where it failed.
        """
        path = await asyncio.to_thread(self._bundles.directory, name)
        return self._bundles.find(await self._run(self._load(str(path))))

    async def promote(self, version: str) -> Loaded:
        """Have a loaded bundle serve in every worker; see `Bundles.promote`.

        Raises:
            UnknownVersionError: no bundle of that version is loaded.
            BundleStateError: a worker has not loaded it.
            UnavailableError: a worker does not answer.
        """
        return self._bundles.find(await self._run(self._promote(version)))

    async def rollback(self) -> Loaded:
        """Have the previous bundle serve again in every worker; see `Bundles.rollback`.

        Raises:
            BundleStateError: there is none, or a worker has not loaded it.
            UnavailableError: a worker does not answer.
        """
        return self._bundles.find(await self._run(self._roll_back()))

    async def forget(self, user_id: str) -> int:
        """Drop what every worker keeps of a user, and return how many answers that was.

        Raises:
            UnavailableError: a worker does not answer; the others have dropped it.
        """
        replies = await self._ask_all(Forget(user_id=user_id))
        return sum(reply.dropped for reply in replies.values())

    async def close(self) -> None:
        """Wait for changes that go on without their callers."""
        if self._changes:
            await asyncio.wait(self._changes)

    async def _run(self, change: Coroutine[Any, Any, T]) -> T:
        """Run a change to its end, whatever becomes of the caller."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        # Where the caller is cancelled nobody else looks at how it ended.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(task)

    async def _promote(self, version: str) -> str:
        async with self._folder.changing():
            lineup = self._lineup()
            entry = lineup.find(version, "version")
            await self._check_all_have(entry)
            await self._change_to(lineup.promoted(entry))
        return version

    async def _roll_back(self) -> str:
        async with self._folder.changing():
            lineup = self._lineup().rolled_back()
            await self._check_all_have(lineup.active)
            await self._change_to(lineup)
        return lineup.active.version

    async def _load(self, path: str) -> str:
        with self._folder.loading():
            await self._drop_strays()  # of a load during which a worker died
            try:
                return await self._add(path)
            except FuserankError:
                try:
                    await self._drop_strays()
                except FuserankError as error:
                    logger.warning("a bundle that is not kept is still loaded: %s", error)
                raise

    async def _add(self, path: str) -> str:
        """Load a bundle wherever it is not, until all that listen have it; return its version."""
        version: str | None = None
        for _ in range(_TRIES):
            for worker in self._folder.workers():
                version = await self._add_to(worker, path, version)
            if version is None:
                raise UnavailableError("the server is shutting down")
            async with self._folder.changing():
                # A worker may have been started again, or told of another change, meanwhile.
                replies = await self._ask_all(Versions())
                if all(version in reply.versions for reply in replies.values()):
                    fresh = Entry(version=version, path=path)
                    await self._change_to(self._lineup().joined(fresh, self._most))
                    return version
        raise BundleStateError(f"version {version}: workers came and went; try again")

    async def _add_to(self, worker: int, path: str, version: str | None) -> str | None:
        try:
            there = await self._ask(worker, Versions())
        except EndedError:
            return version
        if version in there.versions:
            return version
        # Where it ends now, the bundle may be why.
        added = await ask(self._folder.socket(worker), worker, Add(path=path), None)
        [found] = added.versions
        if version not in (None, found):
            raise BundleStateError(
                f"worker {worker}: {path}: found version {found}, expected {version}, which "
                "another worker found there; do not write into the directory of a bundle"
            )
        return found

    async def _drop_strays(self) -> None:
        """Have every worker keep what all have, and nothing else."""
        async with self._folder.changing():
            await self._ask_all(Arrange(lineup=self._lineup()))

    async def _check_all_have(self, entry: Entry) -> None:
        """Raise unless every worker answers and has a bundle; nothing has changed then."""
        for worker, reply in (await self._ask_all(Versions())).items():
            if entry.version not in reply.versions:
                raise BundleStateError(
                    f"worker {worker} has not loaded version {entry.version}, which was not in "
                    f"{entry.path} when it was started again; put it back and kill that worker's "
                    "process, or promote another version; nothing was changed"
                )

    async def _change_to(self, lineup: Lineup[Entry]) -> None:
        """Write down what all serve from now on, then tell them."""
        try:
            self._folder.write(lineup)
        except OSError as error:
            raise BundleStateError(f"nothing was changed: {error}") from error
        try:
            await self._ask_all(Arrange(lineup=lineup))
        except FuserankError as error:
            raise UnavailableError(f"done, but not by all: {error}") from error

    async def _ask_all(self, order: Order) -> dict[int, Reply]:
        """Return what workers answer, by number; all are asked at once.

        One that has ended is left out: it comes back with what is written down.

        Raises:
            FuserankError: as of the first that failed, about all that did.
        """
        workers = self._folder.workers()
        found = await asyncio.gather(
            *(self._ask(worker, order) for worker in workers), return_exceptions=True
        )
        replies, failures = dict[int, Reply](), list[FuserankError]()
        for worker, one in zip(workers, found, strict=True):
            if isinstance(one, Reply):
                replies[worker] = one
            elif not isinstance(one, FuserankError):
                raise one
            elif not isinstance(one, EndedError):
                failures.append(one)
        if failures:
            raise type(failures[0])("; ".join(map(str, failures)))
        return replies

    async def _ask(self, worker: int, order: Order) -> Reply:
        return await ask(self._folder.socket(worker), worker, order, self._answer_s)

    def _lineup(self) -> Lineup[Entry]:
        lineup = self._folder.lineup()
        assert lineup is not None, "no worker is asked before it has read or written it"
        return lineup
