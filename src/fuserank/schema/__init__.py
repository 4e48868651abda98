"""Fields and their fitted preprocessing: the same code in training and in the engine."""

from fuserank.schema.fields import Columns, Field, Kind, Side
from fuserank.schema.schema import FittedField, Schema, TensorSpec, pack_history

__all__ = [
    "Columns",
    "Field",
    "FittedField",
    "Kind",
    "Schema",
    "Side",
    "TensorSpec",
    "pack_history",
]
