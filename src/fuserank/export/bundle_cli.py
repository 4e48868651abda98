"""Commands that hold encoders against the gate: a bundle, and the encoder to put into it."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from fuserank import console
from fuserank.errors import ConfigError
from fuserank.export.encoder import EncoderExportConfig
from fuserank.export.gate import GateBudget

__all__ = ["bundle", "tune"]

Json = Annotated[bool, Parameter(name="--json", negative="")]
Budget = Annotated[GateBudget, Parameter(name="*")]
_BUDGET = GateBudget()
_EXPORT = EncoderExportConfig()


def bundle(
    run: Path,
    dataset: Path,
    encoder: Path,
    out: Path,
    *,
    gate: bool = True,
    reference: Path | None = None,
    budget: Budget = _BUDGET,
    allow_degraded: Annotated[bool, Parameter(negative="")] = False,
    store: Path | None = None,
    json: Json = False,
) -> None:
    """Make a bundle of a trained ranker, its text encoder and its catalogue.

    Example: fuserank export bundle run movielens-100k/dataset.toml minilm movielens.bundle

    Args:
        run: Directory that 'fuserank train' wrote.
        dataset: The dataset.toml it was trained on.
        encoder: Directory that 'fuserank export encoder' wrote.
        out: Directory of the bundle.
        gate: Compare the rankings with those of the fp32 encoder that this one was made of. Where
            it costs more than the budget, its most sensitive layers go back to fp32; where that is
            not enough, nothing is written.
        reference: Directory of the fp32 export to compare with; without it, the one that the
            encoder keeps.
        budget: What it may cost.
        allow_degraded: Write a bundle over budget all the same, which says so.
        store: Directory of its interactions, where 'fuserank train' was given one.
        json: Print JSON.
    """
    with console.quiet():
        import tensorflow  # noqa: F401  (prints to stderr while it is imported)
    from fuserank.bundle import Bundle
    from fuserank.export.pipeline import export_bundle, gate_of
    from fuserank.training.artifact import TrainedRun
    from fuserank.training.batches.stored_dataset import load_stored
    from fuserank.training.data.dataset import load_dataset

    if not gate and (reference is not None or allow_degraded or budget != _BUDGET):
        raise ConfigError(
            "export bundle: found --no-gate and what the encoder may cost or is compared with; "
            "leave one of them out"
        )
    data = load_dataset(dataset) if store is None else load_stored(dataset, store)
    with TemporaryDirectory() as work:
        passing = None
        if gate:
            passing = gate_of(
                encoder,
                data,
                Path(work),
                reference=reference,
                budget=budget,
                allow_degraded=allow_degraded,
            )
        with console.progress("precomputing items", len(data.items)) as advance:
            done = export_bundle(
                TrainedRun.load(run), data, encoder, out, gate=passing, on_progress=advance
            )
    manifest = Bundle.open(out).manifest
    if json:
        console.print_json(manifest)
        return
    scorer = done.made.parts.scorer
    console.out.print(
        f"{out}: {manifest.n_items:,} items, scorer {scorer.kind}, "
        f"{scorer.full_multiply_adds:,} multiply-adds a pair reduced to "
        f"{scorer.joint_multiply_adds:,}, parts equal the full graph within "
        f"{done.made.parity:.1e}"
    )
    if done.gate is not None:
        if done.encoder != encoder:
            console.out.print(f"{encoder} is over the budget; taken instead: {done.encoder.name}")
        console.out.print(f"gate: {done.gate.summary}")


def tune(
    model: str,
    run: Path,
    dataset: Path,
    out: Path,
    *,
    config: Annotated[EncoderExportConfig, Parameter(name="*")] = _EXPORT,
    budget: Budget = _BUDGET,
    json: Json = False,
) -> None:
    """Try encoders of a model on this machine and keep the fastest that passes the gate.

    Example: fuserank export tune sentence-transformers/all-MiniLM-L6-v2 run shop/dataset.toml tuned

    Args:
        model: A local folder, or a name on the hub.
        run: Directory that 'fuserank train' wrote, with an encoder of this model.
        dataset: The dataset.toml it was trained on.
        out: Directory to write: the encoder chosen, the fp32 reference and a page of all tried.
        config: How they are exported, as the run's was; every precision is tried.
        budget: What the encoder may cost.
        json: Print JSON.
    """
    with console.quiet():
        import tensorflow  # noqa: F401  (prints to stderr while it is imported)
    from fuserank.engine.providers import resolve_device
    from fuserank.export.tune import export_candidates, tune_encoder
    from fuserank.training.artifact import TrainedRun
    from fuserank.training.data.dataset import load_dataset

    device = resolve_device(config.device)
    export = export_candidates(model, config)
    data = load_dataset(dataset)
    tuned = tune_encoder(export, TrainedRun.load(run), data, out, budget, device=device)
    if json:
        console.print_json(tuned)
        return
    table = Table("", "ms a text", "texts/s", "MB", "gate", box=None)
    for c in tuned.candidates:
        name = f"{c.name} (chosen)" if c.name == tuned.chosen else c.name
        speed = f"{c.texts_per_second:,.0f}"
        table.add_row(name, f"{c.ms_per_text:.2f}", speed, f"{c.size_mb:.1f}", c.report.summary)
    console.out.print(table)
