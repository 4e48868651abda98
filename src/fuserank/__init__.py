"""fuserank: an inference engine for semantic recommenders.

>>> import fuserank
>>> engine = fuserank.load("bundle/", device="auto")             # doctest: +SKIP
>>> engine.recommend({"user_id": "42"}, k=10)                    # doctest: +SKIP
>>> engine.recommend({"profile": "heist films", "history": ["50"]})  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuserank.engine.caps import Cap
    from fuserank.engine.diversity import Diversity
    from fuserank.engine.engine import Engine, load
    from fuserank.engine.filters import ItemFilter
    from fuserank.engine.predicates import Predicate
    from fuserank.engine.results import BundleInfo, Embeddings, Recommendation, Scores, Timings
    from fuserank.errors import FuserankError
    from fuserank.server.client.client import AsyncClient, Client

__all__ = [
    "AsyncClient",
    "BundleInfo",
    "Cap",
    "Client",
    "Diversity",
    "Embeddings",
    "Engine",
    "FuserankError",
    "ItemFilter",
    "Predicate",
    "Recommendation",
    "Scores",
    "Timings",
    "__version__",
    "load",
]

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "fuserank.server.client.client",
    "BundleInfo": "fuserank.engine.results",
    "Cap": "fuserank.engine.caps",
    "Client": "fuserank.server.client.client",
    "Diversity": "fuserank.engine.diversity",
    "Embeddings": "fuserank.engine.results",
    "Engine": "fuserank.engine.engine",
    "FuserankError": "fuserank.errors",
    "ItemFilter": "fuserank.engine.filters",
    "Predicate": "fuserank.engine.predicates",
    "Recommendation": "fuserank.engine.results",
    "Scores": "fuserank.engine.results",
    "Timings": "fuserank.engine.results",
    "load": "fuserank.engine.engine",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that a client needs no engine."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fuserank' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
