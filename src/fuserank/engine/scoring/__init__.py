"""Running the joint part of a ranker over many items, with selection inside the pass."""

from fuserank.engine.scoring.eligibility import Eligibility
from fuserank.engine.scoring.fused import FusedScorer
from fuserank.engine.scoring.generic import GenericScorer
from fuserank.engine.scoring.scorer import Scorer, TopK

__all__ = [
    "Eligibility",
    "FusedScorer",
    "GenericScorer",
    "Scorer",
    "TopK",
]
