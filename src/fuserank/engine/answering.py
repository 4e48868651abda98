"""Answers to calls of the engine, each out of one view of the catalogue."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from fuserank.engine.filters import EVERYTHING, ItemFilter, rows_of
from fuserank.engine.predicates import Predicate
from fuserank.engine.ranking import Ranking
from fuserank.engine.results import Plan, Recommendation, Scores, Timings, probabilities
from fuserank.engine.scoring import TopK
from fuserank.engine.selection import Selection
from fuserank.engine.session import GraphSession
from fuserank.engine.user_inputs import PreparedUsers
from fuserank.engine.view import View

__all__ = ["Answerer"]

Array = npt.NDArray[Any]
User = Mapping[str, object]


class Answerer:
    """Encodes users, and ranks items for them."""

    def __init__(self, user_graph: GraphSession) -> None:
        """Take the graph that computes what the joint part reads of a user."""
        self._user_graph = user_graph

    def recommend(
        self,
        view: View,
        users: Sequence[User],
        selection: Selection,
        *,
        filters: Sequence[ItemFilter],
        where: Sequence[Predicate],
        plan: Plan,
    ) -> list[Recommendation]:
        """Return the best items of each user; see `Engine.recommend_many`.

        Args:
            view: of the catalogue.
            users: fields by name, 1 or more of them.
            selection: how items are chosen of the ranking.
            filters: one for each user.
            where: what must be true of an item's attributes.
            plan: how the catalogue is to be ranked.
        """
        started = time.perf_counter()
        prepared, states, timings = self.states(view, users)
        rows = rows_of(filters, prepared.seen, view.items)
        scan_started = time.perf_counter()
        words = view.eligibility.words(rows)
        if where:
            words &= view.index.words(where)
        ranking = Ranking(view.scorer, states, plan)
        best = view.selector.best(ranking.best, words, selection)
        timings = _timed(timings, started, scan_started)
        return [
            _recommendation(view, best, index, served_as, plan=ranking.plan, timings=timings)
            for index, served_as in enumerate(prepared.served_as)
        ]

    def score(self, view: View, user: User, item_ids: Sequence[str]) -> Scores:
        """Return the scores of named items for a user; see `Engine.score`."""
        started = time.perf_counter()
        rows = view.items.rows(item_ids, "item_ids")
        prepared, states, timings = self.states(view, [user])
        scan_started = time.perf_counter()
        scores = view.scorer.score(states, rows)[0]
        return Scores(
            item_ids=tuple(item_ids),
            scores=scores,
            probabilities=probabilities(scores),
            served_as=prepared.served_as[0],
            timings=_timed(timings, started, scan_started),
        )

    def warm(self, view: View) -> None:
        """Scan a view once, so that nothing is compiled on a request."""
        prepared, states, _ = self.states(view, [{}])
        words = view.eligibility.words(rows_of([EVERYTHING], prepared.seen, view.items))
        view.scorer.top_k(states, words, 1)

    def states(
        self, view: View, users: Sequence[User]
    ) -> tuple[PreparedUsers, dict[str, Array], Timings]:
        """Return q users as they were read, and what the joint part reads of them, (q, …)."""
        prepared = view.inputs.prepare(users)
        started = time.perf_counter()
        states = self._user_graph.run(prepared.tensors)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return prepared, states, replace(prepared.timings, user_graph_ms=elapsed_ms)


def _timed(timings: Timings, started: float, scan_started: float) -> Timings:
    """Return the timings of a call whose scan ends now."""
    ended = time.perf_counter()
    return replace(timings, scan_ms=(ended - scan_started) * 1e3, total_ms=(ended - started) * 1e3)


def _recommendation(
    view: View, best: TopK, index: int, served_as: str, *, plan: Plan, timings: Timings
) -> Recommendation:
    size = int(best.sizes[index])
    scores = best.scores[index, :size]
    return Recommendation(
        item_ids=view.items.ids(best.rows[index, :size]),
        scores=scores,
        probabilities=probabilities(scores),
        plan=plan.value,
        served_as=served_as,
        timings=timings,
        degraded=plan is not Plan.EXACT,
        degraded_reason="" if plan is Plan.EXACT else "requested",
    )
