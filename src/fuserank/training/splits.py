"""Which interactions train, which choose among models, and which judge the chosen one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from fuserank.errors import ConfigError, DataError
from fuserank.training.dataset import Dataset, Interactions

if TYPE_CHECKING:
    from fuserank.training.train_config import TrainConfig

__all__ = ["Parts", "Split", "SplitConfig", "Strategy", "divide", "split"]

Strategy = Literal["per_user", "time", "random"]

_MAX_HELD_OUT = 0.99
_MIN_ROWS = 3
"""Fewer rows cannot fill three parts: they all train."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How interactions are divided.

    Attributes:
        strategy: ``per_user`` divides every user's interactions at random, so that each user with
            three or more is trained on and judged; ``time`` judges on the latest interactions of
            all; ``random`` divides all interactions at random.
        validation: the share that chooses among models.
        test: the share that judges the chosen model.
    """

    strategy: Strategy = "per_user"
    validation: float = 0.1
    test: float = 0.1

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
        if self.validation + self.test > _MAX_HELD_OUT:
            raise ConfigError(
                f"split: validation + test is {self.validation + self.test:g}, expected at most "
                f"{_MAX_HELD_OUT} so that something is left to train on"
            )


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of rows that cover all interactions, each int64 and ascending."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split(interactions: Interactions, config: SplitConfig, seed: int) -> Split:
    """Divide interactions; the same seed divides the same interactions alike.

    Shares are rounded down, but raised to one row where a part would stay empty and training
    keeps a row: with ``per_user`` even a user of three rows has one in each part.

    Raises:
        DataError: the strategy is ``time`` and the interactions have no times.
    """
    n = len(interactions)
    if config.strategy == "time":
        if interactions.timestamp is None:
            raise DataError(
                "split: the interactions have no times, which strategy 'time' needs; name the "
                "timestamp column in dataset.toml, or choose strategy 'per_user' or 'random'"
            )
        rank_key = np.argsort(np.argsort(interactions.timestamp, kind="stable"))
    else:
        rank_key = np.random.default_rng(seed).permutation(n)
    group = interactions.user if config.strategy == "per_user" else np.zeros(n, np.int32)

    sizes = np.bincount(group)
    n_train, n_validation = _part_sizes(sizes, config)
    order = np.lexsort((rank_key, group))
    start = np.cumsum(sizes) - sizes
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n) - start[group[order]]
    is_train = rank < n_train[group]
    is_test = rank >= (n_train + n_validation)[group]
    return Split(
        train=np.flatnonzero(is_train),
        validation=np.flatnonzero(~is_train & ~is_test),
        test=np.flatnonzero(is_test),
    )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Interactions by what they are for."""

    train: Interactions
    validation: Interactions
    test: Interactions


def divide(dataset: Dataset, config: TrainConfig) -> Parts:
    """Split the interactions as configured.

    Raises:
        DataError: a part has no positive interaction.
    """
    rows = split(dataset.interactions, config.split, config.seed)
    parts = {
        "train": dataset.interactions.select(rows.train),
        "validation": dataset.interactions.select(rows.validation),
        "test": dataset.interactions.select(rows.test),
    }
    for name, part in parts.items():
        if not part.positive.any():
            raise DataError(
                f"data set {dataset.name!r}: found no positive interaction in the {name} part of "
                f"{len(part)}, expected one or more; change the shares of the split, which are "
                f"{config.split.validation:g} for validation and {config.split.test:g} for test"
            )
    return Parts(**parts)


def _part_sizes(
    sizes: npt.NDArray[np.int64], config: SplitConfig
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many rows of groups of these sizes train and validate; the others test."""
    shares = (config.test, config.validation)
    # The small addend: 0.29 * 100 is a little less than 29.
    floors = [np.floor(sizes * share + 1e-9).astype(np.int64) for share in shares]
    parts = [np.where(sizes < _MIN_ROWS, 0, floor) for floor in floors]
    train = sizes - parts[0] - parts[1]
    for i, share in enumerate(shares):
        lift = (parts[i] == 0) & (share > 0) & (train > 1) & (sizes >= _MIN_ROWS)
        parts[i] += lift
        train -= lift
    return train, parts[1]
