"""Running the joint part of a ranker over many items, with selection inside the pass."""

from fuserank.engine.scoring.codes import Codes, in_memory, quantize
from fuserank.engine.scoring.deep import DenseLayer
from fuserank.engine.scoring.eligibility import Eligibility
from fuserank.engine.scoring.fused import FusedScorer
from fuserank.engine.scoring.generic import GenericScorer
from fuserank.engine.scoring.quantized import QuantizedScorer
from fuserank.engine.scoring.resident import HalfResidentScorer, ResidentScorer
from fuserank.engine.scoring.scorer import Scorer, TopK

__all__ = [
    "Codes",
    "DenseLayer",
    "Eligibility",
    "FusedScorer",
    "GenericScorer",
    "HalfResidentScorer",
    "QuantizedScorer",
    "ResidentScorer",
    "Scorer",
    "TopK",
    "in_memory",
    "quantize",
]
