"""Cleaning: interactions that cannot be true, contradict each other or say too little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fuserank.schema import Columns, Kind, Schema, Side

if TYPE_CHECKING:
    from fuserank.training.data.dataset_config import CleaningConfig
    from fuserank.training.data.interactions import Interactions

__all__ = ["REPEATED", "CleaningReport", "Step", "clean", "latest", "repaired_values"]

REPEATED = "repeated pairs"
"""The step that keeps the latest interaction of each pair."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of cleaning and what it came to.

    Attributes:
        name: what was wrong.
        affected: interactions that were left out, or values of a field that were repaired.
        total: interactions or values before the step.
    """

    name: str
    affected: int
    total: int


@dataclass(frozen=True)
class CleaningReport:
    """The steps of cleaning, in their order; as text, a table of one line a step.

    >>> print(CleaningReport((Step(name="repeated pairs", affected=2, total=100),)))
    repeated pairs  2 of 100
    """

    steps: tuple[Step, ...] = ()

    def affected(self, name: str) -> int:
        """The interactions or values that a step affected; 0 where it was not taken."""
        return sum(step.affected for step in self.steps if step.name == name)

    def __add__(self, other: CleaningReport) -> CleaningReport:
        """The steps of two lots that were cleaned alike, counted together.

        >>> one = CleaningReport((Step(name="repeated pairs", affected=2, total=100),))
        >>> print(one + one)
        repeated pairs  4 of 200
        """
        if not (self.steps and other.steps):
            return CleaningReport(self.steps + other.steps)
        return CleaningReport(
            tuple(
                Step(
                    name=one.name,
                    affected=one.affected + two.affected,
                    total=one.total + two.total,
                )
                for one, two in zip(self.steps, other.steps, strict=True)
            )
        )

    def __str__(self) -> str:
        """The table."""
        wide = max((len(step.name) for step in self.steps), default=0)
        long = max((len(str(step.affected)) for step in self.steps), default=0)
        return "\n".join(
            f"{step.name:{wide}}  {step.affected:{long}} of {step.total}" for step in self.steps
        )


def clean(
    interactions: Interactions, config: CleaningConfig, *, n_users: int, n_items: int
) -> tuple[Interactions, CleaningReport]:
    """Leave out interactions as configured, and of each pair all but the latest.

    In this order: impossible ratings, negative times, contradictions, repeated pairs, users of
    too many interactions, users and items of too few. What is impossible goes first, so that it
    neither contradicts nor replaces what is possible.

    Args:
        interactions: n of them.
        config: the steps to take.
        n_users: rows of the table of users.
        n_items: rows of the table of items.
    """
    steps: list[Step] = []

    def drop(name: str, kept: Mask) -> None:
        nonlocal interactions
        affected = len(kept) - int(np.count_nonzero(kept))
        steps.append(Step(name=name, affected=affected, total=len(kept)))
        interactions = interactions.select(kept)

    if config.rating_range is not None:
        low, high = np.array(config.rating_range, dtype=np.float32)
        drop("impossible ratings", (interactions.rating >= low) & (interactions.rating <= high))
    if config.drop_negative_times and interactions.timestamp is not None:
        drop("negative times", interactions.timestamp >= 0)
    if config.drop_contradictions:
        drop("contradictions", _agree(interactions, n_items))
    drop(REPEATED, latest(interactions, n_items))
    if config.max_interactions_per_user is not None:
        counts = np.bincount(interactions.user, minlength=n_users)
        plausible = counts <= config.max_interactions_per_user
        drop("users of too many interactions", plausible[interactions.user])
    if max(config.min_user_interactions, config.min_item_interactions) > 1:
        drop("users or items of too few interactions", _core(interactions, config))
    return interactions, CleaningReport(tuple(steps))


def repaired_values(schema: Schema, tables: Mapping[Side, Columns]) -> CleaningReport:
    """Count by field the values that a schema limits, fills or takes for unknown.

    Args:
        schema: the fitted fields.
        tables: columns by side, as the schema was fitted on.

    Returns:
        One step for each field and repair that occurs.

    Raises:
        SchemaError: a value of the wrong type; names field and row.
    """
    return CleaningReport(
        tuple(
            step
            for side, table in tables.items()
            for step in _repairs(schema, side, table)
            if step.affected
        )
    )


def _repairs(schema: Schema, side: Side, table: Columns) -> Iterator[Step]:
    n_rows = len(next(iter(table.values()), ()))
    tensors = schema.encode(side, table, n_rows)
    for fitted in schema.side(side):
        field = fitted.field
        if fitted.scaling is not None:
            column = table.get(field.column or field.name, [None] * n_rows)
            found = fitted.scaling.repairs(column, field.name)
            yield Step(name=f"{field.tensor}: outliers", affected=found.limited, total=n_rows)
            yield Step(name=f"{field.tensor}: missing", affected=found.filled, total=n_rows)
        elif field.kind in (Kind.CATEGORY, Kind.CATEGORIES, Kind.WORDS, Kind.VECTOR):
            # Row 0 of a table stands for what is missing, and so does a vector of zeros.
            says_nothing = ~tensors[field.tensor].reshape(n_rows, -1).any(axis=1)
            affected = int(np.count_nonzero(says_nothing))
            yield Step(name=f"{field.tensor}: missing", affected=affected, total=n_rows)


def _pairs(interactions: Interactions, n_items: int) -> npt.NDArray[np.int64]:
    """Return a number for each interaction, the same for the same user and item."""
    return interactions.user.astype(np.int64) * n_items + interactions.item


def _agree(interactions: Interactions, n_items: int) -> Mask:
    """Whether all interactions of the same pair are positives, or none is."""
    _, pair, times = np.unique(
        _pairs(interactions, n_items), return_inverse=True, return_counts=True
    )
    liked = np.bincount(pair, weights=interactions.positive, minlength=len(times))
    agree: Mask = ((liked == 0) | (liked == times))[pair]
    return agree


def latest(interactions: Interactions, n_items: int) -> Mask:
    """Whether an interaction is the latest of its pair; the last one among equals."""
    pair = _pairs(interactions, n_items)
    time = interactions.timestamp if interactions.timestamp is not None else np.zeros_like(pair)
    order = np.lexsort((time, pair))
    kept = np.ones(len(order), np.bool_)
    kept[order[:-1]] = pair[order][1:] != pair[order][:-1]
    return kept


def _core(interactions: Interactions, config: CleaningConfig) -> Mask:
    """Whether an interaction is of the core, in which all users and items have enough.

    Leaving one out may leave too few for another, so that it takes passes until none is left
    out. Source: Batagelj and Zaveršnik, "An O(m) Algorithm for Cores Decomposition of Networks",
    2003, for two kinds of nodes.
    """
    kept = np.ones(len(interactions), np.bool_)
    while True:
        enough = np.ones(len(kept), np.bool_)
        for owner, least in (
            (interactions.user, config.min_user_interactions),
            (interactions.item, config.min_item_interactions),
        ):
            enough &= np.bincount(owner, weights=kept)[owner] >= least
        if not np.any(kept & ~enough):
            return kept
        kept &= enough
