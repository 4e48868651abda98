"""What the engine must know of a text encoder besides its graph and tokenizer."""

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from fuserank.errors import BundleFormatError, BundleIntegrityError, ConfigError

__all__ = [
    "CONFIG_FILE",
    "DATA_FILE",
    "MODEL_FILE",
    "REFERENCE",
    "TOKENIZER_FILE",
    "EncoderConfig",
    "Pooling",
    "Precision",
    "TextRole",
    "encoder_files",
    "graph_bytes",
]

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"  # weights that are too large for the graph's own file
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "config.json"
REFERENCE = "reference"  # directory of the fp32 encoder that an optimized one was made of


class Precision(StrEnum):
    """What a graph computes in and its weights are stored as.

    ``int8`` has scales that were chosen on texts, ``int8-dynamic`` finds one for each token as it
    runs; ``w8`` and ``w4`` have weights of 8 and 4 bits in blocks; ``fp16`` and ``bf16`` are for
    CUDA, and ``bf16`` runs nowhere else.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    W8 = "w8"
    INT8 = "int8"
    INT8_DYNAMIC = "int8-dynamic"
    W4 = "w4"


class Pooling(StrEnum):
    """How token vectors become one vector."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    MAX = "max"


class TextRole(StrEnum):
    """On which side of a match a text stands: models that were taught both embed them apart."""

    QUERY = "query"
    PASSAGE = "passage"


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
        query_prompt: stands before each text about a user.
        passage_prompt: stands before each text about an item.
        source: space of the fp32 encoder that it was made of; empty for that one itself.
        kept: names of the weights that stayed fp32 where `precision` is another.
    """

    model: str
    dim: int
    max_tokens: int
    pad_token_id: int
    pooling: Pooling
    normalized: bool
    precision: Precision
    query_prompt: str = ""
    passage_prompt: str = ""
    source: str = ""
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("max_tokens", 3), ("pad_token_id", 0)):
            if (found := getattr(self, name)) < least:
                raise ConfigError(f"encoder {name}: found {found}, expected at least {least}")

    def prompt(self, role: TextRole) -> str:
        """Return what stands before each text of a role."""
        return self.query_prompt if role is TextRole.QUERY else self.passage_prompt

    def to_json(self) -> str:
        """Return the configuration as JSON, always the same for the same values."""
        values = dataclasses.asdict(self)
        if self.query_prompt == self.passage_prompt:
            # As releases wrote it that had one prompt: a fingerprint of theirs stays what it is.
            del values["query_prompt"]
            values["prompt"] = values.pop("passage_prompt")
        # Neither did they have these.
        for name in ("source", "kept"):
            if not values[name]:
                del values[name]
        return json.dumps(values, ensure_ascii=False, indent=1, sort_keys=True)

    @classmethod
    def load(cls, directory: Path) -> "EncoderConfig":
        """Read the configuration of an encoder that has all that it needs.

        Raises:
            BundleIntegrityError: the directory lacks it, the tokenizer or the graph.
            BundleFormatError: it is not a configuration.
        """
        for name in (CONFIG_FILE, TOKENIZER_FILE, MODEL_FILE):
            if not (directory / name).is_file():
                raise BundleIntegrityError(
                    f"{directory / name}: missing; export the encoder again or copy it whole"
                )
        path = directory / CONFIG_FILE
        return cls.from_json(path.read_bytes(), str(path))

    @classmethod
    def from_json(cls, text: str | bytes, source: str = CONFIG_FILE) -> "EncoderConfig":
        """Read a configuration; one ``prompt`` stands for that of both roles.

        Args:
            text: JSON.
            source: where it was read, for messages.

        Raises:
            BundleFormatError: a key is missing, unknown or has a value of the wrong type.
        """
        try:
            values = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            if "prompt" in values:
                shared = values.pop("prompt")
                values = {"query_prompt": shared, "passage_prompt": shared} | values
            if unknown := values.keys() - {field.name for field in dataclasses.fields(cls)}:
                raise BundleFormatError(
                    f"{source}: found unknown keys {sorted(unknown)}; it was written by another "
                    "release: export the encoder again"
                )
            return msgspec.json.decode(msgspec.json.encode(values), type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, ConfigError) as error:
            raise BundleFormatError(
                f"{source}: expected the configuration of a text encoder, found: {error}; "
                "export the encoder again"
            ) from error


def encoder_files(directory: Path) -> list[Path]:
    """Return the files of an encoder that are there, without those of its reference."""
    names = (MODEL_FILE, DATA_FILE, TOKENIZER_FILE, CONFIG_FILE)
    return [directory / name for name in names if (directory / name).exists()]


def graph_bytes(directory: Path) -> int:
    """Return the size of an encoder's graph, weights beside it included."""
    return sum(path.stat().st_size for path in directory.glob(f"{MODEL_FILE}*"))
