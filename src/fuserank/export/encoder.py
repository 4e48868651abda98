"""Export of a pretrained text encoder: traced, fused, quantized, verified, written whole."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from fuserank.bundle.atomic import write_directory
from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import (
    CONFIG_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    EncoderConfig,
    Pooling,
    Precision,
)
from fuserank.errors import ConfigError, ExportError, ParityError

if TYPE_CHECKING:
    from fuserank.export.pretrained import PretrainedEncoder

__all__ = ["EncoderExportConfig", "EncoderReport", "export_encoder"]

FloatArray = npt.NDArray[np.float32]

_MAX_ABS_ERROR = 1e-5
_MIN_MEAN_COSINE = 0.97


@dataclass(frozen=True, kw_only=True)
class EncoderExportConfig:
    """How a text encoder is exported.

    Attributes:
        precision: of the weights; int8 is for the CPU.
        pooling: ``"auto"`` takes the model's own.
        max_tokens: where a text is cut, special tokens included; None takes the model's limit.
        name: of the model, for people; empty takes that of its folder or on the hub.
    """

    precision: Precision = Precision.INT8
    pooling: Literal["auto", "mean", "cls"] = "auto"
    max_tokens: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        for name, choices in (
            ("precision", tuple(Precision)),
            ("pooling", ("auto", *Pooling)),
        ):
            if (found := getattr(self, name)) not in choices:
                raise ConfigError(
                    f"encoder {name}: found {found!r}, expected one of {', '.join(choices)}"
                )
        if self.max_tokens is not None and self.max_tokens < 3:
            raise ConfigError(
                f"encoder max_tokens: found {self.max_tokens}, expected at least 3: "
                "two special tokens and one of the text"
            )


@dataclass(frozen=True, kw_only=True)
class EncoderReport:
    """What an export did, and how far its embeddings are from the model's.

    Attributes:
        config: as the engine reads it.
        space: fingerprint of the embedding space.
        n_nodes_traced: nodes of the graph before fusion.
        n_nodes: nodes after fusion, before quantization.
        fused: how often each fused operator occurs.
        size_bytes: of the graph that was written.
        max_abs_error: of the fp32 graph against the torch model.
        mean_cosine: of the written graph against the fp32 graph.
        min_cosine: of the written graph against the fp32 graph.
    """

    config: EncoderConfig
    space: str
    n_nodes_traced: int
    n_nodes: int
    fused: dict[str, int]
    size_bytes: int
    max_abs_error: float
    mean_cosine: float
    min_cosine: float


def export_encoder(
    model: str | Path, out: Path, config: EncoderExportConfig | None = None
) -> EncoderReport:
    """Write a directory that `TextEncoder.load` reads: graph, tokenizer and configuration.

    The directory appears when it is complete and verified; an older one stays until then.

    Args:
        model: a folder with a model of the BERT family, or its name on the Hugging Face hub.
        out: the directory to write.
        config: how.

    Raises:
        ExportError: the model cannot be had or cannot be exported, or `out` is something else.
        ParityError: the exported graph does not embed as the model does.
        ConfigError: more tokens than the model has positions for.
    """
    from fuserank.export.pretrained import load_pretrained
    from fuserank.export.trace import trace_encoder

    config = config or EncoderExportConfig()
    _check_out(out)
    pretrained = load_pretrained(
        model,
        pooling=None if config.pooling == "auto" else Pooling(config.pooling),
        max_tokens=config.max_tokens,
    )
    traced = trace_encoder(pretrained)
    engine_config = _engine_config(pretrained, config.name)
    with write_directory(out) as stage:
        (stage / MODEL_FILE).write_bytes(traced.graph.SerializeToString(deterministic=True))
        (stage / TOKENIZER_FILE).write_text(_tokenizer_json(pretrained), encoding="utf-8")
        (stage / CONFIG_FILE).write_text(engine_config.to_json(), encoding="utf-8")
        encoder = TextEncoder.load(stage)
        reference = encoder.encode(_SENTENCES).vectors
        max_abs_error = _check_fp32(pretrained, reference)
        if config.precision == Precision.INT8:
            from fuserank.export.quantize import quantize_int8

            quantize_int8(traced.graph, stage / MODEL_FILE)
            engine_config = replace(engine_config, precision=Precision.INT8)
            (stage / CONFIG_FILE).write_text(engine_config.to_json(), encoding="utf-8")
            encoder = TextEncoder.load(stage)
        cosines = _check_cosines(pretrained.name, encoder.encode(_SENTENCES).vectors, reference)
        size_bytes = (stage / MODEL_FILE).stat().st_size
    return EncoderReport(
        config=engine_config,
        space=encoder.space,
        n_nodes_traced=traced.n_nodes_traced,
        n_nodes=traced.n_nodes,
        fused=traced.fused,
        size_bytes=size_bytes,
        max_abs_error=max_abs_error,
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
    )


def _check_out(out: Path) -> None:
    """Refuse to replace anything but an encoder: what is there will be deleted."""
    if out.is_dir():
        foreign = {path.name for path in out.iterdir()} - {MODEL_FILE, TOKENIZER_FILE, CONFIG_FILE}
        if not foreign:
            return
        found = f"a directory with other files, such as {min(foreign)!r}"
    elif out.exists():
        found = "a file"
    else:
        return
    raise ExportError(
        f"{out}: found {found}, expected no directory or an exported encoder, which will be "
        "replaced; choose another output directory"
    )


def _engine_config(pretrained: "PretrainedEncoder", name: str) -> EncoderConfig:
    return EncoderConfig(
        model=name or pretrained.name,
        dim=pretrained.model.config.hidden_size,
        max_tokens=pretrained.max_tokens,
        pad_token_id=pretrained.tokenizer.pad_token_id,
        pooling=pretrained.pooling,
        normalized=pretrained.normalized,
        precision=Precision.FP32,
        prompt=pretrained.prompt,
    )


def _tokenizer_json(pretrained: "PretrainedEncoder") -> str:
    """The tokenizer without truncation and padding: the engine sets them."""
    backend = pretrained.tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    text: str = backend.to_str()
    return text


def _check_fp32(pretrained: "PretrainedEncoder", exported: FloatArray) -> float:
    """Return the largest error against the torch model, or raise where it is too large."""
    import torch

    from fuserank.export.trace import PooledModel

    inputs = pretrained.tokenizer(
        [pretrained.prompt + sentence for sentence in _SENTENCES],
        padding=True,
        truncation=True,
        max_length=pretrained.max_tokens,
        return_tensors="pt",
    )
    with torch.inference_mode():
        expected = PooledModel(pretrained)(**inputs).numpy()
    error = float(np.abs(exported - expected).max())
    # Embeddings that are not normalised have values above 1, and errors in proportion.
    tolerance = _MAX_ABS_ERROR * max(1.0, float(np.abs(expected).max()))
    if not error <= tolerance:
        raise ParityError(
            f"model {pretrained.name!r}: the exported graph differs from the model by "
            f"{error:.1e}, expected at most {tolerance:.1e}; nothing was written"
        )
    return error


def _check_cosines(name: str, exported: FloatArray, reference: FloatArray) -> FloatArray:
    """Return the cosine of each embedding to its reference, or raise where the mean is low."""
    norms = np.linalg.norm(exported, axis=1) * np.linalg.norm(reference, axis=1)
    cosines: FloatArray = (exported * reference).sum(axis=1) / norms
    if not (mean := float(cosines.mean())) >= _MIN_MEAN_COSINE:
        raise ParityError(
            f"model {name!r}: quantized embeddings have a mean cosine of {mean:.3f} to the fp32 "
            f"ones, expected at least {_MIN_MEAN_COSINE}; export with precision fp32"
        )
    return cosines


# Of different lengths; the last is cut by every model.
_SENTENCES = (
    "Alien",
    "Fargo (1996). Crime Drama Thriller",
    "A retired thief is talked into one last job.",
    "Two strangers meet on a train to Vienna and spend the night walking through the city.",
    "Ein Engel über Berlin möchte ein Mensch werden; 1987, Schwarzweiß & Farbe!",
    "七人の侍: a village hires seven masterless samurai to defend its harvest from bandits.",
    "In a city of endless rain a worn-out policeman hunts artificial humans who have come back to "
    "Earth to ask their maker for a longer life, and begins to doubt what sets him apart.",
    "The family saga of a reluctant heir who takes over his father's dark business. " * 60,
)
