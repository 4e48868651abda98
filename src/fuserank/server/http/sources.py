"""What the HTTP port reads of the rest of the server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuserank.server.api.servicer import RecommenderServicer
    from fuserank.server.monitoring.metrics import Metrics

__all__ = ["HttpSources"]


@dataclass(frozen=True, kw_only=True)
class HttpSources:
    """What the HTTP port shows.

    Attributes:
        metrics: for ``/metrics``.
        recommender: answers the playground.
        ready: whether requests are answered, for ``/healthz``.
        user_ids: returns at most so many users that the bundle knows, for the playground.
        authorised: whether an ``Authorization`` header, or its absence (None), may use the
            playground; None where everybody may.
    """

    metrics: "Metrics"
    recommender: "RecommenderServicer"
    ready: Callable[[], bool]
    user_ids: Callable[[int], Sequence[str]] = lambda limit: ()
    authorised: Callable[[str | None], bool] | None = None
