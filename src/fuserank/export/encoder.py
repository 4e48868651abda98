"""Export of a pretrained text encoder: traced, fused, quantized, verified, written whole."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from fuserank.bundle.atomic import write_directory
from fuserank.engine.encoder import TextEncoder, space_of
from fuserank.engine.encoder_config import (
    CONFIG_FILE,
    DATA_FILE,
    MODEL_FILE,
    REFERENCE,
    TOKENIZER_FILE,
    EncoderConfig,
    Pooling,
    Precision,
    encoder_files,
    graph_bytes,
)
from fuserank.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from fuserank.export.pretrained import PretrainedEncoder
    from fuserank.export.trace import TracedEncoder

__all__ = ["EncoderExportConfig", "EncoderReport", "export_encoder"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncoderExportConfig:
    """How a text encoder is exported.

    Attributes:
        device: where the graph will run.
        precision: what it computes in; None takes int8 for a CPU and fp16 for CUDA, which alone
            runs bf16.
        pooling: ``"auto"`` takes the model's own.
        max_tokens: where a text is cut, special tokens included; None takes the model's limit.
        dim: how many numbers of an embedding are kept, for models trained to be cut; None takes
            the model's own width.
        query_prompt: stands before texts about users; None takes the model's own.
        passage_prompt: stands before texts about items; None takes the model's own.
        allow_pickle: whether pickled weights are read; torch then reads tensors alone.
        keep_reference: whether an optimized encoder keeps the fp32 one that it was made of, in the
            folder ``reference``, with which the gate compares it.
        name: of the model, for people; empty takes that of its folder or on the hub.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Precision | None = None
    pooling: Literal["auto", "mean", "cls", "last", "max"] = "auto"
    max_tokens: int | None = None
    dim: int | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None
    allow_pickle: bool = False
    keep_reference: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        for name, choices in (
            ("device", ("cpu", "cuda")),
            ("precision", (None, *Precision)),
            ("pooling", ("auto", *Pooling)),
        ):
            if (found := getattr(self, name)) not in choices:
                expected = ", ".join(choice for choice in choices if choice is not None)
                raise ConfigError(f"encoder {name}: found {found!r}, expected one of {expected}")
        if self.precision == Precision.BF16 and self.device != "cuda":
            raise ConfigError(
                f"encoder precision: found bf16 for device {self.device!r}, expected 'cuda': ONNX "
                "Runtime has no bfloat16 products on a CPU; use int8 there, or fp16, which both run"
            )
        if self.max_tokens is not None and self.max_tokens < 3:
            raise ConfigError(
                f"encoder max_tokens: found {self.max_tokens}, expected at least 3: "
                "two special tokens and one of the text"
            )
        if self.dim is not None and self.dim < 1:
            raise ConfigError(f"encoder dim: found {self.dim}, expected at least 1")


@dataclass(frozen=True, kw_only=True)
class EncoderReport:
    """What an export did, and how far its embeddings are from the model's.

    Attributes:
        config: as the engine reads it.
        space: fingerprint of the embedding space.
        n_nodes_traced: nodes of the graph before fusion.
        n_nodes: nodes after fusion, before quantization.
        fused: how often each fused operator occurs.
        missed: how many of each are missing from what the architecture should give.
        size_bytes: of the graph that was written, with its weights.
        max_abs_error: of the fp32 graph against the torch model.
        mean_cosine: of the written graph against the fp32 graph; of bf16, which a CPU does not run,
            of the fp32 graph that rounds as it does.
        min_cosine: of the written graph against the fp32 graph.
        n_texts: by which int8 chose its scales; 0 where it drew tokens from the vocabulary.
    """

    config: EncoderConfig
    space: str
    n_nodes_traced: int
    n_nodes: int
    fused: dict[str, int]
    missed: dict[str, int]
    size_bytes: int
    max_abs_error: float
    mean_cosine: float
    min_cosine: float
    n_texts: int


def export_encoder(
    model: str | Path,
    out: Path,
    config: EncoderExportConfig | None = None,
    texts: Sequence[str] = (),
) -> EncoderReport:
    """Write a directory that `TextEncoder.load` reads: graph, tokenizer and configuration.

    The directory appears when it is complete and verified; an older one stays until then.

    Args:
        model: a folder with a text encoder, or its name on the Hugging Face hub.
        out: the directory to write.
        config: how.
        texts: such as it will embed, by which int8 chooses its scales; without any it draws tokens
            from the vocabulary, which serves less well.

    Raises:
        ExportError: the model cannot be had or cannot be exported, or `out` is something else.
        ParityError: the exported graph does not embed as the model does.
        ConfigError: more tokens than the model has positions for, a larger `dim` than it has, or
            a few texts only.
    """
    from fuserank.export.trace import trace_encoder

    config = config or EncoderExportConfig()
    _check_out(out)
    pretrained = _load(model, config)
    traced = trace_encoder(pretrained)
    _warn_of_missed(pretrained, traced)
    with write_directory(out) as stage:
        return _write(stage, pretrained, traced, config, texts)


def _load(model: str | Path, config: EncoderExportConfig) -> "PretrainedEncoder":
    from fuserank.export.pretrained import load_pretrained

    return load_pretrained(
        model,
        pooling=None if config.pooling == "auto" else Pooling(config.pooling),
        max_tokens=config.max_tokens,
        dim=config.dim,
        query_prompt=config.query_prompt,
        passage_prompt=config.passage_prompt,
        allow_pickle=config.allow_pickle,
    )


def _write(
    stage: Path,
    pretrained: "PretrainedEncoder",
    traced: "TracedEncoder",
    config: EncoderExportConfig,
    texts: Sequence[str],
) -> EncoderReport:
    """Write an encoder into an empty directory and verify it."""
    from fuserank.export.encoder_parity import check_cosines, check_fp32, encode_samples
    from fuserank.export.trace import write_graph

    engine_config = _engine_config(pretrained, config.name)
    write_graph(traced.graph, stage)
    (stage / TOKENIZER_FILE).write_text(_tokenizer_json(pretrained), encoding="utf-8")
    (stage / CONFIG_FILE).write_text(engine_config.to_json(), encoding="utf-8")
    exact = TextEncoder.load(stage)
    reference = encode_samples(exact)
    max_abs_error = check_fp32(pretrained, reference)
    by_device = Precision.INT8 if config.device == "cpu" else Precision.FP16
    if (precision := Precision(config.precision or by_device)) is not Precision.FP32:
        from fuserank.export import precision as precisions
        from fuserank.export.calibration import calibration_batches

        if config.keep_reference:
            (stage / REFERENCE).mkdir()
            for file in encoder_files(stage):
                shutil.copyfile(file, stage / REFERENCE / file.name)
        batches = calibration_batches(stage, engine_config, texts)
        path = stage / MODEL_FILE
        precisions.write_precision(path, path, precision, batches=batches)
        (stage / DATA_FILE).unlink(missing_ok=True)
        engine_config = replace(engine_config, precision=precision, source=exact.space)
        (stage / CONFIG_FILE).write_text(engine_config.to_json(), encoding="utf-8")
    with _for_cpu(stage, engine_config) as written:
        found = encode_samples(TextEncoder.load(written))
    cosines = check_cosines(pretrained.name, found, reference)
    return EncoderReport(
        config=engine_config,
        space=space_of(stage, engine_config),
        n_nodes_traced=traced.n_nodes_traced,
        n_nodes=traced.n_nodes,
        fused=traced.fused,
        missed=traced.missed,
        size_bytes=graph_bytes(stage),
        max_abs_error=max_abs_error,
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        n_texts=len(texts),
    )


@contextmanager
def _for_cpu(stage: Path, config: EncoderConfig) -> Iterator[Path]:
    """Yield an encoder that embeds as the one in a directory does and that a CPU can run."""
    if config.precision is not Precision.BF16:
        yield stage
        return
    from fuserank.export.precision import write_simulated

    with TemporaryDirectory() as folder:
        simulated = Path(folder)
        write_simulated(stage / MODEL_FILE, simulated / MODEL_FILE)
        shutil.copy(stage / TOKENIZER_FILE, simulated)
        as_fp32 = replace(config, precision=Precision.FP32)
        (simulated / CONFIG_FILE).write_text(as_fp32.to_json(), encoding="utf-8")
        yield simulated


def _check_out(out: Path) -> None:
    """Refuse to replace anything but an encoder: what is there will be deleted."""
    if out.is_dir():
        own = {MODEL_FILE, DATA_FILE, TOKENIZER_FILE, CONFIG_FILE, REFERENCE}
        foreign = {path.name for path in out.iterdir()} - own
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


def _warn_of_missed(pretrained: "PretrainedEncoder", traced: "TracedEncoder") -> None:
    """Say what did not fuse: the graph is right all the same, only slower."""
    if traced.missed:
        logger.warning(
            "model %r: the graph lacks %s of what %s fuses to; it embeds as it should, but slower",
            pretrained.name,
            ", ".join(f"{count} {name}" for name, count in traced.missed.items()),
            pretrained.model.config.model_type,
        )


def _engine_config(pretrained: "PretrainedEncoder", name: str) -> EncoderConfig:
    return EncoderConfig(
        model=name or pretrained.name,
        dim=pretrained.dim,
        max_tokens=pretrained.max_tokens,
        pad_token_id=pretrained.tokenizer.pad_token_id,
        pooling=pretrained.pooling,
        normalized=pretrained.normalized,
        precision=Precision.FP32,
        query_prompt=pretrained.query_prompt,
        passage_prompt=pretrained.passage_prompt,
    )


def _tokenizer_json(pretrained: "PretrainedEncoder") -> str:
    """The tokenizer without truncation and padding: the engine sets them."""
    backend = pretrained.tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    text: str = backend.to_str()
    return text
