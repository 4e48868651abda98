"""Which interactions train, which choose among models, and which judge the chosen one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from fuserank.errors import ConfigError, DataError
from fuserank.training.data.dataset import Dataset
from fuserank.training.data.interactions import Interactions

__all__ = [
    "PARTS",
    "Parts",
    "Split",
    "SplitConfig",
    "Strategy",
    "check_parts",
    "divide",
    "need_times",
    "part_sizes",
    "parts_of",
    "split",
]

Strategy = Literal["per_user", "per_item", "time", "random", "users", "items"]

PARTS = ("train", "validation", "test")
"""The names of the parts; the place of a name is the part's number."""

_MAX_HELD_OUT = 0.99
_MIN_ROWS = 3
"""Fewer rows cannot fill three parts: they all train."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How interactions are divided.

    Attributes:
        strategy: ``per_user`` divides every user's interactions at random, so that each user with
            three or more is trained on and judged, ``per_item`` every item's; ``time`` judges on
            the latest interactions of all; ``random`` divides all interactions at random;
            ``users`` and ``items`` hold whole users or items out, of whom training knows nothing.
        validation: the share that chooses among models.
        test: the share that judges the chosen model.
        folds: with two or more, the test part is one of so many equal ones in place of a share.
        fold: which of them, from 0.
    """

    strategy: Strategy = "per_user"
    validation: float = 0.1
    test: float = 0.1
    folds: int = 1
    fold: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError where the strategy is unknown or the shares leave nothing to train."""
        if self.strategy not in get_args(Strategy):
            raise ConfigError(
                f"split: strategy is {self.strategy!r}, expected one of "
                f"{', '.join(get_args(Strategy))}"
            )
        for name, share in (("validation", self.validation), ("test", self.test)):
            if not 0 <= share < 1:
                raise ConfigError(f"split: {name} is {share}, expected a share from 0 to below 1")
        if self.validation + self.test_share > _MAX_HELD_OUT:
            raise ConfigError(
                f"split: validation + test is {self.validation + self.test_share:g}, expected at "
                f"most {_MAX_HELD_OUT} so that something is left to train on"
            )
        if self.folds < 1 or not 0 <= self.fold < self.folds:
            raise ConfigError(
                f"split: fold is {self.fold} of {self.folds} folds, expected one or more folds and "
                "a fold from 0 to below their number"
            )
        if self.folds > 1 and self.strategy == "time":
            raise ConfigError(
                "split: found folds with strategy 'time', whose test part is always the latest; "
                "expected another strategy or no folds"
            )

    @property
    def test_share(self) -> float:
        """The share that judges."""
        return self.test if self.folds == 1 else 1 / self.folds


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of rows that cover all interactions, each int64 and ascending."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split(interactions: Interactions, config: SplitConfig, seed: int) -> Split:
    """Divide interactions; the same seed divides the same interactions alike.

    Shares are rounded down, but raised to one row where a part would stay empty and training
    keeps a row: with ``per_user`` even a user of three rows has one in each part. With folds, every
    row is in the test part of one of them, where its user (``per_user``) has three rows or more.

    Raises:
        DataError: the strategy is ``time`` and the interactions have no times.
    """
    unit, group = _units(interactions, config.strategy)
    if config.strategy == "time":
        times = need_times(interactions)
        rank_key = np.argsort(np.argsort(times, kind="stable"))
    else:
        rank_key = np.random.default_rng(seed).permutation(len(group))
    part = parts_of(group, rank_key, config)[unit]
    return Split(**{name: np.flatnonzero(part == number) for number, name in enumerate(PARTS)})


def parts_of(
    group: npt.NDArray[np.integer], rank_key: npt.NDArray[np.int64], config: SplitConfig
) -> npt.NDArray[np.int8]:
    """Return (n,) the number in `PARTS` of the part that each unit is in.

    Args:
        group: (n,) which units are divided together.
        rank_key: (n,) by which the units of a group are ordered; the last ones are held out.
        config: the shares.
    """
    sizes = np.bincount(group)
    order = np.lexsort((rank_key, group))
    start = np.cumsum(sizes) - sizes
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - start[group[order]]
    n_validation, n_test = part_sizes(sizes, config)
    # The test part comes last, or, of folds, wherever its fold does.
    after = (
        np.zeros_like(sizes)
        if config.folds == 1
        else sizes - sizes * (config.fold + 1) // config.folds
    )
    from_end = (sizes[group] - 1 - rank - after[group]) % np.maximum(sizes[group], 1)
    part = np.zeros(len(group), np.int8)
    part[from_end < (n_test + n_validation)[group]] = PARTS.index("validation")
    part[from_end < n_test[group]] = PARTS.index("test")
    return part


def need_times(interactions: Interactions) -> npt.NDArray[np.int64]:
    """Return the times of interactions.

    Raises:
        DataError: they have none.
    """
    if interactions.timestamp is None:
        raise DataError(
            "split: the interactions have no times, which strategy 'time' needs; name the "
            "timestamp column in dataset.toml, or choose another strategy"
        )
    return interactions.timestamp


def _units(
    interactions: Interactions, strategy: Strategy
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which unit each interaction is of, and in which group each unit is divided."""
    if strategy in ("users", "items"):
        whose = interactions.user if strategy == "users" else interactions.item
        distinct, unit = np.unique(whose, return_inverse=True)
        return unit, np.zeros(len(distinct), np.int64)
    every = np.arange(len(interactions))
    if strategy == "per_user":
        return every, interactions.user.astype(np.int64)
    if strategy == "per_item":
        return every, interactions.item.astype(np.int64)
    return every, np.zeros(len(every), np.int64)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Interactions by what they are for."""

    train: Interactions
    validation: Interactions
    test: Interactions


def divide(dataset: Dataset, config: SplitConfig, seed: int) -> Parts:
    """Split the interactions as configured.

    Raises:
        DataError: a part has no positive interaction.
    """
    rows = split(dataset.interactions, config, seed)
    parts = Parts(**{name: dataset.interactions.select(getattr(rows, name)) for name in PARTS})
    check_parts(parts, dataset.name, config)
    return parts


def check_parts(parts: Parts, name: str, config: SplitConfig) -> None:
    """Raise DataError, with the data set's name, where a part has no positive interaction."""
    for which in PARTS:
        part: Interactions = getattr(parts, which)
        if not part.positive.any():
            raise DataError(
                f"data set {name!r}: found no positive interaction in the {which} part of "
                f"{len(part)}, expected one or more; change the shares of the split, which are "
                f"{config.validation:g} for validation and {config.test:g} for test"
            )


def part_sizes(
    sizes: npt.NDArray[np.int64], config: SplitConfig
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how many units of groups of these sizes validate and test; the others train.

    Args:
        sizes: (n,) of the groups.
        config: the shares.
    """
    shares = (config.test_share, config.validation)
    # The small addend: 0.29 * 100 is a little less than 29.
    floors = [np.floor(sizes * share + 1e-9).astype(np.int64) for share in shares]
    if config.folds > 1:  # every unit is in the test part of one fold
        ends = [sizes * end // config.folds for end in (config.fold, config.fold + 1)]
        floors[0] = ends[1] - ends[0]
    parts = [np.where(sizes < _MIN_ROWS, 0, floor) for floor in floors]
    train = sizes - parts[0] - parts[1]
    for i, share in enumerate(shares if config.folds == 1 else (0.0, config.validation)):
        lift = (parts[i] == 0) & (share > 0) & (train > 1) & (sizes >= _MIN_ROWS)
        parts[i] += lift
        train -= lift
    return parts[1], parts[0]
