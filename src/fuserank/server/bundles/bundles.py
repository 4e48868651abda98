"""The bundles that a server has loaded: one answers, others stand beside it.

A bundle comes in as a candidate, beside the one that serves, and is warm before anybody can reach
it. `promote` has it serve from the next request on; the one that served becomes the previous, to
which `rollback` returns. Whoever answers a request holds a lease, so that the request ends with the
bundle it began with, and a bundle that is no longer kept is closed when its last lease is left.

All state changes happen on the event loop; what takes time, loading and closing, runs on threads.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from fuserank.errors import (
    BundleStateError,
    ConfigError,
    FuserankError,
    UnavailableError,
)
from fuserank.server.bundles.config import BundlesConfig
from fuserank.server.bundles.folder import check_name, directory_of
from fuserank.server.bundles.lineup import Lineup
from fuserank.server.bundles.loaded import Held, Loaded, Role, Servable
from fuserank.server.bundles.loading import load_on_thread

__all__ = ["VERSION_HEADER", "Bundles"]

logger = logging.getLogger(__name__)

VERSION_HEADER = "x-fuserank-bundle-version"
"""Request metadata that names the version to answer with; the active one without it."""


S = TypeVar("S", bound=Servable)


class Bundles(Generic[S]):
    """Loaded bundles by role. Made and used on one running event loop.

    At most one load runs at a time. A version is loaded once: to load it again is refused as long
    as it is there in whatever role, since a version names one content.
    """

    def __init__(
        self, open_bundle: Callable[[Path], S], config: BundlesConfig | None = None
    ) -> None:
        """Hold nothing yet; `start` brings the first bundle.

        Args:
            open_bundle: checks, loads and warms the bundle of a directory; called on a thread.
            config: what may be loaded.

        Raises:
            ConfigError: the folder of bundles is not there.
        """
        self._open_bundle = open_bundle
        self._config = config or BundlesConfig()
        folder = self._config.folder
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"bundles.folder: {folder} is no directory, expected one of bundles")
        self._lineup: Lineup[Held[S]] | None = None
        self._draining: set[Held[S]] = set()
        self._none_draining = asyncio.Event()
        self._closings: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[Held[S]] | None = None
        self._loads = 0
        self._closed = False

    @contextmanager
    def lease(self, version: str | None = None) -> Iterator[S]:
        """Yield what a request is answered with, and keep it open for as long.

        Args:
            version: as `BundleInfo` has it; None for the active bundle.

        Raises:
            UnavailableError: nothing is loaded yet, or no more.
            UnknownVersionError: no bundle of that version is loaded.
        """
        lineup = self._serving()
        held = lineup.active if version is None else lineup.find(version, VERSION_HEADER)
        held.leases += 1
        try:
            yield held.served
        finally:
            held.leases -= 1
            self._close_if_done(held)

    @property
    def active(self) -> S | None:
        """What serves now, to look at; it stays open for those alone who hold a lease."""
        return None if self._lineup is None else self._lineup.active.served

    def loaded(self) -> list[Loaded]:
        """Return what is loaded: the active bundle, the previous one, the candidates by age."""
        return [self._describe(held) for held in self._kept()]

    def find(self, version: str) -> Loaded:
        """Return what is known of the bundle of a version.

        Raises:
            UnknownVersionError: no bundle of that version is loaded.
            UnavailableError: nothing is loaded yet, or no more.
        """
        return self._describe(self._serving().find(version, "version"))

    async def start(self, open_first: Callable[[], S]) -> Loaded:
        """Load the first bundle, on a thread, and have it serve.

        Raises:
            FuserankError: it cannot be loaded.
        """
        return await self._load(open_first, self._config.max_loaded)

    async def load(self, name: str) -> Loaded:
        """Load a bundle of the folder, on a thread, as a candidate.

        A load goes on where its caller is cancelled. One that fails changes nothing; one that
        succeeds takes the place of the oldest candidate where as many are loaded as may be.

        Args:
            name: of a directory in the folder.

        Raises:
            RequestError: no name of a directory in the folder.
            BundleError: the bundle is missing, damaged, of another format or does not run.
            BundleStateError: there is no folder, another load is under way, the version is loaded
                already, or bundles that went still end their calls.
            ProviderError: the device is not there.
            UnavailableError: nothing serves yet, or no more.
        """
        path = await asyncio.to_thread(self.directory, name)
        self._serving()  # a candidate stands beside one that serves
        return await self._load(lambda: self._open_bundle(path), self._config.max_loaded)

    def directory(self, name: str) -> Path:
        """Return the directory of that name in the folder of bundles.

        Raises:
            RequestError: no name of a directory in the folder.
            BundleError: the folder cannot be read.
            BundleStateError: there is no folder.
        """
        folder = self._config.folder
        if folder is None:
            raise BundleStateError(
                "the server has no folder to load bundles from; start it with --bundles.folder"
            )
        check_name(name)
        return directory_of(folder, name)

    async def add(self, path: Path) -> Loaded:
        """Load a bundle as a candidate, for which none goes; `arrange` is to follow.

        Raises:
            FuserankError: as for `load`.
        """
        self._serving()
        return await self._load(lambda: self._open_bundle(path), self._config.max_loaded + 1)

    def arrange(self, wanted: Lineup[Any]) -> None:
        """Give bundles the roles that a lineup gives their versions, and let go of all others.

        What is not loaded is left out.

        Raises:
            UnknownVersionError: the active one is not loaded.
            UnavailableError: nothing is loaded yet, or no more.
        """
        lineup = self._serving()
        there = {held.version: held for held in lineup}
        active = lineup.find(wanted.active.version, "version")
        found = (there.get(candidate.version) for candidate in wanted.candidates)
        self._adopt(
            Lineup(
                active=active,
                previous=wanted.previous and there.get(wanted.previous.version),
                candidates=tuple(held for held in found if held is not None),
            )
        )
        if active is not lineup.active:
            self._tell(active, "serves")

    def promote(self, version: str) -> Loaded:
        """Have a loaded bundle serve from the next request on; the active one becomes the previous.

        To promote the active bundle changes nothing, so that a call may be repeated.

        Raises:
            UnknownVersionError: no bundle of that version is loaded.
            UnavailableError: nothing is loaded yet, or no more.
        """
        lineup = self._serving()
        held = lineup.find(version, "version")
        self._adopt(lineup.promoted(held))
        return self._tell(held, "serves already" if held is lineup.active else "serves")

    def rollback(self) -> Loaded:
        """Have the previous bundle serve again; the active one becomes a candidate.

        There is no previous bundle afterwards, so that a call that is repeated does not bring
        back what was rolled back.

        Raises:
            BundleStateError: there is no previous bundle.
            UnavailableError: nothing is loaded yet, or no more.
        """
        lineup = self._serving().rolled_back()
        self._adopt(lineup)
        return self._tell(lineup.active, "serves again")

    async def close(self) -> None:
        """Take no more requests, wait for a load and for every lease, and close all."""
        self._closed = True
        if self._loading is not None:
            await asyncio.wait({self._loading})
        kept = list(self._kept())
        self._lineup = None
        for held in kept:
            self._retire(held)
        if self._draining:
            await self._none_draining.wait()

    def _kept(self) -> Iterator[Held[S]]:
        if self._lineup is not None:
            yield from self._lineup

    def _serving(self) -> Lineup[Held[S]]:
        if self._closed:
            raise UnavailableError("the server is shutting down")
        if self._lineup is None:
            raise UnavailableError("the bundle is still loading; wait until health says SERVING")
        return self._lineup

    def _adopt(self, lineup: Lineup[Held[S]]) -> None:
        """Have bundles do what a lineup says, and let go of those that are not in it."""
        before = list(self._kept())
        self._lineup = lineup
        for held in before:
            if held not in list(lineup):
                self._retire(held)

    async def _load(self, open_one: Callable[[], S], most: int) -> Loaded:
        """Run a load to its end, whatever becomes of the caller."""
        if self._closed:
            raise UnavailableError("the server is shutting down")
        if self._loading is not None:
            raise BundleStateError("another bundle is being loaded; try again when it is")
        if len(list(self._kept())) + len(self._draining) > self._config.max_loaded:
            raise BundleStateError(
                f"{self._config.max_loaded} bundles are loaded, and one that went still ends its "
                "calls; try again when it has"
            )
        self._loading = asyncio.create_task(self._open_and_keep(open_one, most))
        # Where the caller is cancelled nobody else looks at how it ended.
        self._loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        held = await asyncio.shield(self._loading)
        return self._tell(held, "is loaded")

    async def _open_and_keep(self, open_one: Callable[[], S], most: int) -> Held[S]:
        try:
            served = await load_on_thread(open_one)
        finally:
            self._loading = None
        self._loads += 1
        held = Held(served, self._loads)
        if (refusal := self._refusal(held)) is not None:
            self._retire(held)
            raise refusal
        lineup = self._lineup
        self._adopt(Lineup(active=held) if lineup is None else lineup.joined(held, most))
        return held

    def _refusal(self, fresh: Held[S]) -> FuserankError | None:
        """Return why a bundle that was loaded cannot be kept, if it cannot."""
        if self._closed:
            return UnavailableError("the server is shutting down")
        for held in self._kept():
            if held.info.version == fresh.info.version:
                return BundleStateError(
                    f"version {held.info.version} is loaded already, as "
                    f"{self._describe(held).role}; "
                    "promote it or roll back, or load a bundle of another version"
                )
        return None

    def _retire(self, held: Held[S]) -> None:
        """Let go of a bundle that is no longer kept, once its last lease is left."""
        self._draining.add(held)
        self._none_draining.clear()
        self._close_if_done(held)

    def _close_if_done(self, held: Held[S]) -> None:
        if held.leases == 0 and held in self._draining:
            # The loop holds tasks weakly.
            task = asyncio.create_task(self._close(held))
            self._closings.add(task)
            task.add_done_callback(self._closings.discard)

    async def _close(self, held: Held[S]) -> None:
        try:
            await asyncio.to_thread(held.served.close)
        except Exception:
            logger.exception("bundle %s %s did not close", held.info.name, held.info.version)
        finally:
            self._draining.discard(held)
            if not self._draining:
                self._none_draining.set()

    def _tell(self, held: Held[S], what: str) -> Loaded:
        logger.info("bundle %s %s %s", held.info.name, held.info.version, what)
        return self._describe(held)

    def _describe(self, held: Held[S]) -> Loaded:
        # Where all were closed meanwhile, it was loaded and no more.
        role = Role.CANDIDATE if self._lineup is None else self._lineup.role(held)
        return Loaded(info=held.info, role=role, serial=held.serial)
