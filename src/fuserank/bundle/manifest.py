"""The manifest: what a bundle holds, and the digest of every file."""

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from fuserank.errors import BundleFormatError
from fuserank.schema import TensorSpec

__all__ = [
    "FORMAT_VERSION",
    "CodesInfo",
    "EncoderInfo",
    "FileInfo",
    "GraphInfo",
    "Manifest",
    "ScorerInfo",
    "ScorerKind",
]

FORMAT_VERSION = 2


class ScorerKind(StrEnum):
    """How the joint part is run over many items."""

    DOT = "dot"
    ADDITIVE = "additive"
    GENERIC = "generic"


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """Size and digest of one file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class GraphInfo:
    """Inputs and outputs of one graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class CodesInfo:
    """The int8 codes of the item states; what the numbers mean says `engine.scoring.Codes`."""

    unit: float
    code_norm: float
    error_norm: float


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """The text encoder of the bundle.

    Attributes:
        model: its name, for people.
        dim: width of an embedding.
        precision: such as ``"int8"``.
        space: fingerprint of its embedding space.
        degraded: why it costs more ranking quality against its fp32 reference than was asked for;
            empty where it does not, or was not compared.
    """

    model: str
    dim: int
    precision: str
    space: str
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScorerInfo:
    """How items are scored, and how much work that saves.

    Attributes:
        kind: the scorer.
        activation: of an additive scorer's first layer.
        layers: activations of the layers behind it, if there are any.
        products: numbers of a state, behind those of the perceptron, whose inner product an
            additive scorer adds.
        full_multiply_adds: of the full graph, a pair.
        joint_multiply_adds: of the joint part, a pair.
        rewrites: the graph rewrites that fired, in order.
        precomputed: item-side values that are read instead of computed.
        note: why the rest stayed joint, where anything did.
    """

    kind: ScorerKind
    activation: str | None = None
    layers: tuple[str, ...] = ()
    products: int = 0
    full_multiply_adds: int
    joint_multiply_adds: int
    rewrites: tuple[str, ...] = ()
    precomputed: tuple[str, ...] = ()
    note: str = ""

    @property
    def summary(self) -> str:
        """What is computed of a pair, such as ``additive (relu, relu) + dot``."""
        if self.activation is None:
            return self.kind.value
        activations = ", ".join((self.activation, *self.layers))
        return f"{self.kind.value} ({activations})" + (" + dot" if self.products else "")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a reader must know before it opens another file of the bundle.

    Attributes:
        format_version: of this layout; a reader refuses any other.
        name: of the bundle.
        version: of the bundle; its digest over all files unless given.
        space: fingerprint of encoder, tokenizer, pooling, precision and schema.
        model: name of the interaction model.
        n_items: items of the catalogue.
        n_users: stored users.
        title: item attribute that is shown to people, or None.
        threshold: probability from which a pair counts as a like, chosen on validation data.
        scorer: how items are scored.
        codes: of the item states, or None: without them scans read float32.
        encoder: the text encoder, or None.
        graphs: ``full``, ``user``, ``item``, ``joint`` and ``select``.
        producer: versions of what made the bundle.
        files: size and digest of every other file, by path.
    """

    format_version: int = FORMAT_VERSION
    name: str
    version: str
    space: str
    model: str
    n_items: int
    n_users: int
    title: str | None
    threshold: float
    scorer: ScorerInfo
    codes: CodesInfo | None = None
    encoder: EncoderInfo | None
    graphs: dict[str, GraphInfo]
    producer: dict[str, str]
    files: dict[str, FileInfo] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the manifest as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def from_json(cls, text: bytes, source: str) -> "Manifest":
        """Read a manifest.

        Args:
            text: JSON.
            source: where it was read, for messages.

        Raises:
            BundleFormatError: not a manifest, or one of another format version.
        """
        try:
            version = msgspec.json.decode(text, type=_Version).format_version
            if version == FORMAT_VERSION:
                return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise BundleFormatError(
                f"{source}: expected the manifest of a fuserank bundle, found: {error}"
            ) from error
        remedy = "upgrade fuserank" if version > FORMAT_VERSION else "export the bundle again"
        raise BundleFormatError(
            f"{source}: found bundle format {version}, expected {FORMAT_VERSION}; {remedy}"
        )


@dataclass(frozen=True, kw_only=True)
class _Version:
    format_version: int
