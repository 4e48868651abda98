"""Shadow comparison: candidates answer again, in the background, what the active bundle answered.

A sample of requests is enough to see how far the rankings of two bundles agree. The caller never
waits for it: it takes a place in a short queue, or is dropped. What is kept is counts and sums.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from fuserank.engine.agreement import rank_biased_overlap
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.config import ShadowConfig
from fuserank.server.bundles.loaded import Loaded, Role, Servable

__all__ = ["Shadow", "ShadowComparison"]

logger = logging.getLogger(__name__)

_P = 0.9
_DEPTH = 100
"""Places that are compared; all behind them weigh 0.00003."""


@dataclass(frozen=True, kw_only=True)
class ShadowComparison:
    """How a candidate answered requests that the active bundle answered.

    Attributes:
        request_count: requests that it was given, those that it failed included.
        rank_biased_overlap: mean over the answers, p = .9; None where there is none.
        error_count: requests that it failed.
    """

    request_count: int = 0
    rank_biased_overlap: float | None = None
    error_count: int = 0


@dataclass
class _Tally:
    answered: int = 0
    overlaps: float = 0.0
    failed: int = 0


S = TypeVar("S", bound=Servable)
R = TypeVar("R")


class Shadow(Generic[S, R]):
    """Compares candidates with the active bundle. Made and used on the event loop of `bundles`."""

    def __init__(
        self,
        bundles: Bundles[S],
        answer: Callable[[S, R], Awaitable[Sequence[str]]],
        config: ShadowConfig | None = None,
    ) -> None:
        """Compare nothing yet.

        Args:
            bundles: what is loaded.
            answer: has a bundle answer a request, and returns the item ids, best first.
            config: how much is compared.
        """
        self._bundles, self._answer = bundles, answer
        self._config = config or ShadowConfig()
        self._random = np.random.default_rng()
        # Request, item ids, serial of the bundle that chose them.
        self._waiting: deque[tuple[R, Sequence[str], int]] = deque()
        self._worker: asyncio.Task[None] | None = None
        # By the serials of the active bundle and the candidate.
        self._tallies: dict[tuple[int, int], _Tally] = {}

    def offer(self, request: R, item_ids: Sequence[str], *, version: str | None = None) -> None:
        """Take a request that was answered, if it is drawn; returns at once.

        Args:
            request: what `answer` takes; it is kept until it was answered again.
            item_ids: what the caller was given, best first.
            version: of the bundle that answered, where it may not be the active one: only what the
                active bundle answered is compared.
        """
        share = self._config.share
        if share == 0.0 or self._random.random() >= share:
            return
        if len(self._waiting) >= self._config.queue:
            return
        loaded = self._bundles.loaded()
        if not any(one.role is Role.CANDIDATE for one in loaded):
            return
        active = loaded[0]
        if version is not None and version != active.info.version:
            return
        self._waiting.append((request, item_ids, active.serial))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    def comparison(self, candidate: Loaded) -> ShadowComparison | None:
        """Return how a candidate does against the active bundle; None where nothing is compared."""
        if self._config.share == 0.0 or candidate.role is not Role.CANDIDATE:
            return None
        active = self._bundles.loaded()[0]
        tally = self._tallies.get((active.serial, candidate.serial), _Tally())
        return ShadowComparison(
            request_count=tally.answered + tally.failed,
            rank_biased_overlap=tally.overlaps / tally.answered if tally.answered else None,
            error_count=tally.failed,
        )

    async def close(self) -> None:
        """Drop what waits; before the bundles are closed."""
        self._waiting.clear()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        while self._waiting:
            request, item_ids, chosen_by = self._waiting.popleft()
            for candidate in self._bundles.loaded():
                if candidate.role is not Role.CANDIDATE:
                    continue
                loaded = self._bundles.loaded()
                # Roles may have changed while another candidate answered.
                if candidate in loaded and loaded[0].serial == chosen_by:
                    await self._compare(loaded[0], candidate, request, item_ids)

    async def _compare(
        self, active: Loaded, candidate: Loaded, request: R, item_ids: Sequence[str]
    ) -> None:
        tally = self._tally(active, candidate)
        try:
            with self._bundles.lease(candidate.info.version) as served:
                found = await self._answer(served, request)
        except Exception as error:
            # The message may quote the request.
            logger.debug("candidate %s failed: %s", candidate.info.version, type(error).__name__)
            tally.failed += 1
        else:
            tally.answered += 1
            tally.overlaps += _overlap(item_ids, found)

    def _tally(self, active: Loaded, candidate: Loaded) -> _Tally:
        key = (active.serial, candidate.serial)
        if key not in self._tallies:
            serials = {one.serial for one in self._bundles.loaded()}
            self._tallies = {
                pair: tally for pair, tally in self._tallies.items() if serials.issuperset(pair)
            }
            self._tallies[key] = _Tally()
        return self._tallies[key]


def _overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the rank-biased overlap of two lists of ids.

    >>> _overlap(["a", "b"], ["a", "b"])
    1.0
    """
    rows: dict[str, int] = {}
    table = np.full((2, _DEPTH), -1, dtype=np.int64)
    for row, ids in zip(table, (one[:_DEPTH], other[:_DEPTH]), strict=True):
        row[: len(ids)] = [rows.setdefault(item_id, len(rows)) for item_id in ids]
    return min(1.0, float(rank_biased_overlap(table[:1], table[1:], _P)[0]))
