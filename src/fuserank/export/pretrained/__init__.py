"""Reading pretrained text models: Hugging Face folders, with or without sentence-transformers."""

from fuserank.export.pretrained.architectures import SUPPORTED_MODEL_TYPES
from fuserank.export.pretrained.load import PretrainedEncoder, load_pretrained

__all__ = ["SUPPORTED_MODEL_TYPES", "PretrainedEncoder", "load_pretrained"]
