"""One call of the engine for several requests, and each one's share of what comes back."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fuserank.engine.filters import EVERYTHING
from fuserank.engine.results import Plan, Recommendation
from fuserank.server.batching.waiting import Job, Outcome

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine

__all__ = ["compute"]


def compute(
    engine: "Engine", plan: Plan, jobs: Sequence[Job], observe: Callable[[int, float], None]
) -> list[Outcome]:
    """Return what becomes of each job of one group.

    Where the call fails each half is tried again, so that a request fails by its own fault alone.

    Args:
        engine: computes.
        plan: how it is to.
        jobs: 1 or more of one group.
        observe: told the users and the seconds of each call that succeeds.
    """
    users = [user for job in jobs for user in job.users]
    keywords = dict(jobs[0].keywords)
    if plan is not Plan.EXACT:
        keywords["plan"] = plan.value
    if any(job.filter is not EVERYTHING for job in jobs):
        keywords["filters"] = [job.filter for job in jobs for _ in job.users]
    started = time.perf_counter()
    try:
        # The best k of more than k are the best k: who wants fewer shares the call too.
        found = engine.recommend_many(users, max(job.k for job in jobs), **keywords)
    except Exception as error:
        if len(jobs) == 1:
            return [error]
        half = len(jobs) // 2
        return [
            *compute(engine, plan, jobs[:half], observe),
            *compute(engine, plan, jobs[half:], observe),
        ]
    observe(len(users), time.perf_counter() - started)
    shares = iter(found)
    return [[_first(next(shares), job.k) for _ in job.users] for job in jobs]


def _first(found: Recommendation, k: int) -> Recommendation:
    """Return the k best of what was found."""
    if len(found) <= k:
        return found
    return replace(
        found,
        item_ids=found.item_ids[:k],
        scores=found.scores[:k],
        probabilities=found.probabilities[:k],
        attributes=found.attributes[:k],
    )
