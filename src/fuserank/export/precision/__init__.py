"""Precisions of an encoder graph: each a function from the file of a fused fp32 graph to a file."""

from fuserank.engine.encoder_config import Precision
from fuserank.export.precision.bfloat import write_simulated
from fuserank.export.precision.products import products
from fuserank.export.precision.sensitivity import sensitivity
from fuserank.export.precision.writing import write_precision

__all__ = [
    "CANDIDATES",
    "CANDIDATES_OF_CUDA",
    "products",
    "sensitivity",
    "write_precision",
    "write_simulated",
]

CANDIDATES = (Precision.INT8, Precision.INT8_DYNAMIC, Precision.W8, Precision.FP32)
"""Of the CPU, from the fastest to the most exact."""
CANDIDATES_OF_CUDA = (Precision.FP16, Precision.BF16, Precision.FP32)
