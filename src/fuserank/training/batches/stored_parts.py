"""Dividing a store of interactions into stores of its parts, and what is judged of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.bundle.atomic import write_directory
from fuserank.errors import DataError
from fuserank.training.batches.interaction_store import (
    StoredInteractions,
    StoreWriter,
    is_store,
    open_store,
)
from fuserank.training.data.cleaning import CleaningReport
from fuserank.training.data.interactions import Interactions
from fuserank.training.data.splits import (
    PARTS,
    Parts,
    SplitConfig,
    need_times,
    part_sizes,
    parts_of,
)

__all__ = ["divide_stored", "with_sample"]

_ROWS = 1 << 20
"""Interactions in memory at once."""
_BINS = 1 << 16
_SAMPLE = 2_000
"""Users who are judged, of each part."""

Numbers = npt.NDArray[np.int8]
"""(n,) the number in `PARTS` of the part that each interaction is in."""


def divide_stored(
    interactions: StoredInteractions, config: SplitConfig, seed: int, out: Path
) -> Parts:
    """Divide interactions into stores ``train``, ``validation`` and ``test`` below a directory.

    The rules are those of `split`. The same seed divides the same store alike, so that parts which
    are there already are opened where store, split and seed are known to be the same. Where all
    interactions are one group (``random``), some 2²⁰ of them are divided at a time, each lot by the
    shares; equal times (``time``) are in the order of the store.

    Raises:
        DataError: the strategy is ``per_item``, which takes all interactions at once; or it is
            ``time``, and there are no times.
    """
    numbers = _divider(interactions, config, seed)
    origin = dict(interactions.origin)
    if origin:
        origin |= {"split": msgspec.json.encode(config).decode(), "seed": str(seed)}
        if all(is_store(out / name) for name in PARTS):
            found = {name: open_store(out / name) for name in PARTS}
            if all(part.origin == origin for part in found.values()):
                return Parts(**found)
    with ExitStack() as stack:
        writers = [
            StoreWriter(
                stack.enter_context(write_directory(out / name)),
                n_users=interactions.n_users,
                n_items=interactions.n_items,
                timed=interactions.timestamp is not None,
            )
            for name in PARTS
        ]
        for lot in interactions.lots(_ROWS):
            part = numbers(lot)
            for number, writer in enumerate(writers):
                writer.append(lot.select(part == number))
        for writer in writers:
            writer.finish(origin, CleaningReport())
    return Parts(**{name: open_store(out / name) for name in PARTS})


def with_sample(parts: Parts, seed: int, n_users: int = _SAMPLE) -> Parts:
    """Return parts whose validation and test interactions are those of some users, in memory.

    They are the same users as far as they are in both parts: what a user met in validation is not
    recommended when the test part judges.

    Args:
        parts: stored ones.
        seed: of the sample.
        n_users: of each part, at most.
    """
    assert isinstance(parts.validation, StoredInteractions)
    assert isinstance(parts.test, StoredInteractions)
    order = np.random.default_rng(seed).permutation(parts.test.n_users)
    users = np.concatenate(
        [
            order[part.index.unseen.counts[order] < part.n_items][:n_users]
            for part in (parts.validation, parts.test)
        ]
    )
    return replace(
        parts, validation=parts.validation.of_users(users), test=parts.test.of_users(users)
    )


def _divider(
    interactions: StoredInteractions, config: SplitConfig, seed: int
) -> Callable[[Interactions], Numbers]:
    """Return what divides lot after lot, each asked for once and in order."""
    rng = np.random.default_rng(seed)
    match config.strategy:
        case "per_user":
            # Users are counted from the lot's first, so that no array is as long as all users.
            return lambda lot: parts_of(
                lot.user.astype(np.int64) - lot.user[0], rng.permutation(len(lot)), config
            )
        case "random":
            return lambda lot: parts_of(
                np.zeros(len(lot), np.int64), rng.permutation(len(lot)), config
            )
        case "users":
            by_user = _of_units(interactions.user_counts(interactions.n_users), config, rng)
            return lambda lot: by_user[lot.user]
        case "items":
            by_item = _of_units(interactions.item_counts(interactions.n_items), config, rng)
            return lambda lot: by_item[lot.item]
        case "time":
            return _ByTime(need_times(interactions), config)
        case "per_item":
            raise DataError(
                "split: found strategy 'per_item', expected 'per_user', 'random', 'time', 'users' "
                "or 'items' for interactions in a store, where those of an item are not together; "
                "choose another, or train without a store"
            )


def _of_units(
    counts: npt.NDArray[np.int64], config: SplitConfig, rng: np.random.Generator
) -> Numbers:
    """Return (n,) which part each user or item is in whole, those without interactions in any."""
    occur = np.flatnonzero(counts)
    part = np.zeros(len(counts), np.int8)
    part[occur] = parts_of(np.zeros(len(occur), np.int64), rng.permutation(len(occur)), config)
    return part


class _ByTime:
    """Divides lots by time: the latest interactions test, those before them validate."""

    def __init__(self, times: npt.NDArray[np.int64], config: SplitConfig) -> None:
        n_validation, n_test = (int(n[0]) for n in part_sizes(np.array([len(times)]), config))
        self._test = _From(times, len(times) - n_test)
        self._held_out = _From(times, len(times) - n_test - n_validation)

    def __call__(self, lot: Interactions) -> Numbers:
        times = need_times(lot)
        part = np.zeros(len(lot), np.int8)
        part[self._held_out(times)] = PARTS.index("validation")
        part[self._test(times)] = PARTS.index("test")
        return part


class _From:
    """Whether the times of lot after lot stand at a rank or behind it, equal ones in order."""

    def __init__(self, times: npt.NDArray[np.int64], rank: int) -> None:
        """Find the time that has the rank, 0 for the earliest, among all."""
        self._time: int | None = None
        before = 0
        if rank < len(times):
            self._time, before = _at_rank(times, rank)
        self._early = rank - before
        """Interactions at that very time that are yet to come and stand before the rank."""

    def __call__(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        if self._time is None:
            return np.zeros(len(times), np.bool_)
        equal = np.flatnonzero(times == self._time)
        found = times >= self._time
        found[equal[: self._early]] = False
        self._early -= min(self._early, len(equal))
        return found


def _at_rank(times: npt.NDArray[np.int64], rank: int) -> tuple[int, int]:
    """Return the time of a rank, and how many are earlier; in passes that each narrow it down."""
    low = min(int(lot.min()) for lot in _lots(times))
    high = max(int(lot.max()) for lot in _lots(times))
    before = 0
    while low < high:
        width = (high - low) // _BINS + 1
        counts = np.zeros(_BINS, np.int64)
        for lot in _lots(times):
            inside = lot[(lot >= low) & (lot <= high)]
            counts += np.bincount((inside - low) // width, minlength=_BINS)
        upto = before + np.cumsum(counts)
        place = int(np.searchsorted(upto, rank, side="right"))
        before = int(upto[place] - counts[place])
        low, high = low + place * width, min(low + (place + 1) * width - 1, high)
    return low, before


def _lots(times: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    return (times[first : first + _ROWS] for first in range(0, len(times), _ROWS))
