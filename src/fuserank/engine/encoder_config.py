"""What the engine must know of a text encoder besides its graph and tokenizer."""

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from fuserank.errors import BundleFormatError, ConfigError

__all__ = [
    "CONFIG_FILE",
    "MODEL_FILE",
    "TOKENIZER_FILE",
    "EncoderConfig",
    "Pooling",
    "Precision",
]

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "config.json"


class Precision(StrEnum):
    """What the weights are stored as."""

    FP32 = "fp32"
    INT8 = "int8"


class Pooling(StrEnum):
    """How token vectors become one vector."""

    MEAN = "mean"
    CLS = "cls"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What the engine must know of an encoder besides its graph and tokenizer.

    Attributes:
        model: its name, for people.
        dim: width of an embedding.
        max_tokens: where a text is cut, special tokens included.
        pad_token_id: fills a batch; RoBERTa-like graphs count positions by it.
        pooling: in the graph.
        normalized: whether embeddings have unit length.
        precision: of the weights.
        prompt: stands before each text.
    """

    model: str
    dim: int
    max_tokens: int
    pad_token_id: int
    pooling: Pooling
    normalized: bool
    precision: Precision
    prompt: str = ""

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("max_tokens", 3), ("pad_token_id", 0)):
            if (found := getattr(self, name)) < least:
                raise ConfigError(f"encoder {name}: found {found}, expected at least {least}")

    def to_json(self) -> str:
        """Return the configuration as JSON, always the same for the same values."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, source: str = CONFIG_FILE) -> "EncoderConfig":
        """Read a configuration.

        Args:
            text: JSON.
            source: where it was read, for messages.

        Raises:
            BundleFormatError: a key is missing, unknown or has a value of the wrong type.
        """
        try:
            values = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            if unknown := values.keys() - {field.name for field in dataclasses.fields(cls)}:
                raise BundleFormatError(
                    f"{source}: found unknown keys {sorted(unknown)}; it was written by another "
                    "release: export the encoder again"
                )
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, ConfigError) as error:
            raise BundleFormatError(
                f"{source}: expected the configuration of a text encoder, found: {error}; "
                "export the encoder again"
            ) from error
