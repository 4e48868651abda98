"""The fastest encoder that a trained ranker can do with, found on this machine."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec

from fuserank.bundle.atomic import write_directory
from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import REFERENCE, Precision, TextRole
from fuserank.engine.providers import Device
from fuserank.errors import ConfigError, DataError, ExportError
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.front import Candidate, render_front
from fuserank.export.gate import GateBudget, GateReport
from fuserank.export.texts import texts_of
from fuserank.export.trials import RankerData, Trials
from fuserank.schema import Side
from fuserank.training.artifact import TrainedRun
from fuserank.training.data.dataset import Dataset

__all__ = ["ENCODER", "Export", "Tuned", "choose", "export_candidates", "tune_encoder"]

ENCODER = "encoder"
_FIGURES, _PAGE = "candidates.json", "front.html"

_TEXTS = 256
_REPEATS = 3
_SINGLES = 32

Export = Callable[[Path, Sequence[str]], Mapping[str, Path]]
"""Writes encoders below a directory, for texts such as are given, and returns them by name, the
fp32 reference among them as ``fp32``."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What was tried, and what was taken.

    Attributes:
        chosen: name of the fastest candidate within the budget.
        candidates: all, the reference first.
    """

    chosen: str
    candidates: tuple[Candidate, ...]


def export_candidates(model: str | Path, config: EncoderExportConfig) -> Export:
    """Return what exports a model in the precisions that its device gains by.

    Args:
        model: a folder with a text encoder, or its name on the Hugging Face hub.
        config: how, its precision left at its default.

    Raises:
        ConfigError: it names a precision.
    """
    if config.precision is not None:
        raise ConfigError(
            f"export tune: found precision {config.precision}, but every precision is tried; "
            "leave it out"
        )

    def export(directory: Path, texts: Sequence[str]) -> Mapping[str, Path]:
        from fuserank.export.precision import CANDIDATES, CANDIDATES_OF_CUDA

        tried = CANDIDATES if config.device == "cpu" else CANDIDATES_OF_CUDA
        made = {precision.value: directory / precision for precision in tried}
        for precision in tried:
            own = replace(config, precision=precision, keep_reference=False)
            export_encoder(model, made[precision], own, texts)
        return made

    return export


def tune_encoder(
    export: Export,
    run: TrainedRun,
    dataset: Dataset,
    out: Path,
    budget: GateBudget | None = None,
    *,
    device: Device = Device.CPU,
) -> Tuned:
    """Try encoders and write the fastest that passes the gate, the reference and a page.

    Speed is that of one text at a time, which is what a request waits for. The reference is a
    candidate too, so that one always passes.

    Args:
        export: makes the encoders.
        run: the ranker, trained with any of them.
        dataset: the data it was trained on.
        out: the directory to write; an older result there is replaced.
        budget: what an encoder may cost.
        device: as `resolve_device` returned it: that the speed is measured on.

    Raises:
        ExportError: an encoder cannot be exported, or `out` is something else.
        SpaceMismatchError: the ranker was trained with none of the encoders.
        DataError: the items have no texts to measure with.
    """
    _check_out(out)
    data = RankerData(run, dataset)
    texts = _item_texts(data)
    with write_directory(out) as stage:
        made = export(stage / "candidates", texts_of(dataset))
        trials = _trials(data, made)
        candidates = tuple(
            _try(
                name,
                trials.of(made[name], budget or GateBudget()).report,
                TextEncoder.load(made[name], device, cache_size=0),
                texts,
            )
            for name in sorted(made, key=lambda name: name != Precision.FP32)
        )
        tuned = Tuned(chosen=choose(candidates), candidates=candidates)
        shutil.copytree(made[tuned.chosen], stage / ENCODER)
        if tuned.chosen != Precision.FP32:
            shutil.copytree(made[Precision.FP32], stage / ENCODER / REFERENCE)
        shutil.rmtree(stage / "candidates")
        (stage / _FIGURES).write_bytes(msgspec.json.format(msgspec.json.encode(tuned), indent=1))
        page = render_front(f"Encoders of {dataset.name}", candidates, tuned.chosen)
        (stage / _PAGE).write_text(page, encoding="utf-8")
    return tuned


def choose(candidates: Sequence[Candidate]) -> str:
    """Return the name of the fastest candidate within the budget; one of them has to be."""
    passed = [candidate for candidate in candidates if candidate.report.passed]
    return min(passed, key=lambda candidate: candidate.ms_per_text).name


def _trials(data: RankerData, made: Mapping[str, Path]) -> Trials:
    encoders = [TextEncoder.load(path) for path in made.values()]
    own = [encoder for encoder in encoders if encoder.space == data.run.encoder_space]
    return Trials(data, made[Precision.FP32], (own or encoders)[0])


def _try(name: str, report: GateReport, encoder: TextEncoder, texts: Sequence[str]) -> Candidate:
    encoder.warm()
    single = median(_seconds(encoder, [text]) for text in texts[:_SINGLES])
    bulk = min(_seconds(encoder, texts) for _ in range(_REPEATS))
    return Candidate(
        name=name,
        report=report,
        ms_per_text=1e3 * single,
        texts_per_second=len(texts) / bulk,
    )


def _seconds(encoder: TextEncoder, texts: Sequence[str]) -> float:
    started = perf_counter()
    encoder.encode(texts, TextRole.PASSAGE)
    return perf_counter() - started


def _item_texts(data: RankerData) -> list[str]:
    """Return a few hundred texts of items, as long as they are."""
    items = data.dataset.items
    columns = data.run.schema.texts(Side.ITEM, items.columns, len(items.ids))
    found = list(dict.fromkeys(_filled(columns)))
    if not found:
        raise DataError(
            f"data set {data.dataset.name!r}: found no text of an item, expected some to measure "
            "encoders with; without texts no encoder is faster than another"
        )
    return found[:: max(len(found) // _TEXTS, 1)][:_TEXTS]


def _filled(columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for texts in columns.values():
        yield from (text for text in texts if text)


def _check_out(out: Path) -> None:
    """Refuse to replace anything but an earlier result: what is there will be deleted."""
    if not out.exists() or (out / _FIGURES).is_file():
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    raise ExportError(
        f"{out}: found something else, expected no directory or an earlier result of this command, "
        "which will be replaced; choose another output directory"
    )
