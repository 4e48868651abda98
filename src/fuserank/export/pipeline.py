"""From a trained run to a bundle."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Ragged
from fuserank.engine.encoder import TextEncoder, check_space
from fuserank.engine.encoder_config import REFERENCE, EncoderConfig, Precision
from fuserank.errors import ConfigError, GateError
from fuserank.export.assemble import Assembled, ItemTable, Ranker, UserTable, assemble
from fuserank.export.gate import GateBudget, GateReport
from fuserank.export.more_precise import more_precise
from fuserank.export.texts import texts_of
from fuserank.export.trials import RankerData, Trial, Trials
from fuserank.schema import Kind, Side
from fuserank.training.artifact import TrainedRun
from fuserank.training.data.dataset import Dataset
from fuserank.training.data.features import Features

__all__ = ["Exported", "Gate", "export_bundle", "gate_of"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What an encoder has to pass.

    Attributes:
        reference: directory of the fp32 export of the same model.
        budget: what the encoder may cost.
        more_precise: directories of encoders to try where the one asked for is over budget, in
            order; one is made when it is asked for.
        allow_degraded: whether the encoder asked for is taken where none is within the budget.
    """

    reference: Path
    budget: GateBudget = field(default_factory=GateBudget)
    more_precise: Iterable[Path] = ()
    allow_degraded: bool = False


def gate_of(
    encoder: Path,
    dataset: Dataset,
    work: Path,
    *,
    reference: Path | None = None,
    budget: GateBudget | None = None,
    allow_degraded: bool = False,
) -> Gate | None:
    """Return what an encoder has to pass; None of one in fp32, which nothing was done to.

    Where it is over the budget, encoders with their most sensitive products in fp32 are made.

    Args:
        encoder: its directory.
        dataset: whose texts it will embed; they are read where it is over the budget.
        work: a directory to make more precise encoders in.
        reference: directory of the fp32 export; None takes the one that the encoder keeps.
        budget: what it may cost.
        allow_degraded: as in `Gate`.

    Raises:
        BundleIntegrityError: there is no encoder.
        ConfigError: there is no reference.
    """
    if reference is None:
        if EncoderConfig.load(encoder).precision is Precision.FP32:
            return None
        reference = encoder / REFERENCE
        if not reference.is_dir():
            raise ConfigError(
                f"{encoder}: found no {REFERENCE}/, expected the fp32 encoder that it was made of, "
                "to compare rankings with; export it again with its reference, name one by "
                "--reference, or make a bundle that is not compared by --no-gate"
            )

    def nearer(reference: Path) -> Iterator[Path]:
        yield from more_precise(encoder, reference, texts_of(dataset), work)

    return Gate(
        reference=reference,
        budget=budget or GateBudget(),
        more_precise=nearer(reference),
        allow_degraded=allow_degraded,
    )


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What `export_bundle` did.

    Attributes:
        made: the bundle.
        encoder: directory of the encoder that was taken.
        gate: it beside its fp32 reference; None where it was not compared.
    """

    made: Assembled
    encoder: Path
    gate: GateReport | None


def export_bundle(
    run: TrainedRun,
    dataset: Dataset,
    encoder: Path,
    out: Path,
    *,
    gate: Gate | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Exported:
    """Make a bundle of a trained ranker, its encoder and the catalogue of its data set.

    Stored users keep everything that they are known to have met as *seen*, and the items that
    they liked, in order of time, as their history.

    Embeddings of texts stand beside `out` until it is written, so that an export that was killed
    goes on from them.

    Args:
        run: the trained ranker.
        dataset: the data it was trained on.
        encoder: directory of the exported text encoder it was trained with; with a gate, of that
            or of one made of the same fp32 encoder.
        out: the bundle's directory.
        gate: what the encoder has to pass; without one it is not compared.
        on_progress: called with the number of items precomputed since the last call.

    Raises:
        ExportError: the data is not what the ranker was trained on, or its graph cannot be
            converted or factorised.
        GateError: the encoder costs more ranking quality than the gate's budget.
        SpaceMismatchError: the encoder is not the one that it was trained with.
    """
    keep = out.with_name(f"{out.name}.texts")
    data = RankerData(run, dataset, keep)
    texts = TextEncoder.load(encoder)
    trial = None
    if gate is None:
        check_space(texts.space, run.encoder_space, str(encoder))
        features = data.encode(texts)
    else:
        try:
            trial = _choose(Trials(data, gate.reference, texts), encoder, gate)
        except GateError:
            shutil.rmtree(keep, ignore_errors=True)  # a verdict: nothing will go on from there
            raise
        encoder, features = trial.encoder, trial.features
    report = trial.report if trial else None
    ranker = Ranker(
        name=run.config.model,
        full=data.full,
        schema=run.schema,
        threshold=run.report.threshold,
        quality=asdict(run.report) | {"gate": _as_json(report) if report else None},
    )
    made = assemble(
        out,
        dataset.name,
        ranker,
        _items(dataset, run, features),
        users=_users(dataset, features),
        encoder=encoder,
        degraded=report.reasons if report else (),
        on_progress=on_progress,
    )
    shutil.rmtree(keep, ignore_errors=True)
    return Exported(made=made, encoder=encoder, gate=report)


def _choose(trials: Trials, encoder: Path, gate: Gate) -> Trial:
    """Return the first encoder within the budget, or where that is allowed the one asked for."""
    asked, found = None, []
    for directory in chain([encoder], gate.more_precise):
        trial = trials.of(directory, gate.budget)
        if trial.report.passed:
            return trial
        asked = asked or trial  # of the others no tensors are kept
        found.append(f"{directory}: {', '.join(trial.report.reasons)}")
    assert asked is not None
    if gate.allow_degraded:
        return asked
    raise GateError(
        f"{'; '.join(found)}; against {gate.reference} that is over the budget of ranking quality, "
        "and no bundle was written; take a more precise encoder, or allow a degraded bundle"
    )


def _as_json(report: GateReport) -> dict[str, Any]:
    return {"summary": report.summary, **asdict(report)}


def _items(dataset: Dataset, run: TrainedRun, features: Features) -> ItemTable:
    def inputs(rows: slice) -> Mapping[str, Array]:
        return {name: array[rows] for name, array in features.items.tensors.items()}

    columns = dataset.items.columns
    return ItemTable(
        ids=features.items.ids,
        attributes=[
            {name: values[row] for name, values in columns.items() if values[row] is not None}
            for row in range(len(features.items))
        ],
        inputs=inputs,
        vectors={
            fitted.field.of: features.history_vectors(fitted.field)
            for fitted in run.schema.side(Side.USER)
            if fitted.field.kind is Kind.HISTORY and fitted.field.of is not None
        },
        title=dataset.title,
    )


def _users(dataset: Dataset, features: Features) -> UserTable:
    n_users = len(features.users)
    met = dataset.interactions.by_user()
    liked = met.histories(n_users)
    return UserTable(
        ids=features.users.ids,
        inputs=features.users.tensors,
        seen=Ragged(met.item, np.append(0, np.cumsum(met.user_counts(n_users)))),
        history=Ragged(liked.items.astype(np.int32), liked.start),
    )
