"""Commands that make a smaller text encoder of a larger one, to be exported in its place."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fuserank import console
from fuserank.export.distil import DistilConfig
from fuserank.export.imitation import ImitationReport
from fuserank.export.prune import PruneConfig

__all__ = ["distil", "prune"]

Json = Annotated[bool, Parameter(name="--json", negative="")]
_DISTIL = DistilConfig()
_PRUNE = PruneConfig()


def distil(
    model: str,
    dataset: Path,
    out: Path,
    *,
    config: Annotated[DistilConfig, Parameter(name="*")] = _DISTIL,
    json: Json = False,
) -> None:
    """Make a text encoder of fewer layers, which learns to embed a data set's texts as MODEL does.

    Example: fuserank export distil sentence-transformers/all-MiniLM-L6-v2 shop/dataset.toml small

    Args:
        model: A local folder, or a name on the hub.
        dataset: The dataset.toml whose texts of items and users are learned from.
        out: Directory to write, a model as MODEL is one.
        config: How.
        json: Print JSON.
    """
    from fuserank.export.distil import distil as make
    from fuserank.export.texts import texts_of
    from fuserank.training.data.dataset import load_dataset

    texts = texts_of(load_dataset(dataset))
    with console.steps("distilling") as advance:
        report = make(model, texts, config, out, on_progress=advance)
    if json:
        console.print_json(report)
        return
    console.out.print(
        f"{out}: {len(report.taken)} of {report.n_layers} layers, {report.n_parameters:,} of "
        f"{report.n_parameters_before:,} weights, in {report.seconds:.0f} s\n"
        + _summary(report.imitation)
    )


def prune(
    model: str,
    dataset: Path,
    out: Path,
    *,
    config: Annotated[PruneConfig, Parameter(name="*")] = _PRUNE,
    json: Json = False,
) -> None:
    """Make a text encoder without the heads and neurons that a data set's texts need least.

    Example: fuserank export prune sentence-transformers/all-MiniLM-L6-v2 shop/dataset.toml small

    Args:
        model: A local folder, or a name on the hub.
        dataset: The dataset.toml whose texts of items and users importance is measured on.
        out: Directory to write, a model as MODEL is one.
        config: How.
        json: Print JSON.
    """
    from fuserank.export.prune import prune as make
    from fuserank.export.texts import texts_of
    from fuserank.training.data.dataset import load_dataset

    texts = texts_of(load_dataset(dataset))
    with console.steps("pruning") as advance:
        report = make(model, texts, config, out, on_progress=advance)
    if json:
        console.print_json(report)
        return
    console.out.print(
        f"{out}: {sum(report.heads)} of {sum(report.heads_before)} heads, feed-forward layers of "
        f"{report.width:,} for {report.width_before:,}, {report.n_parameters:,} of "
        f"{report.n_parameters_before:,} weights, in {report.seconds:.0f} s\n"
        + _summary(report.imitation)
    )


def _summary(report: ImitationReport) -> str:
    return (
        f"cosine to the model on {report.n_held_out:,} held-out texts: {report.mean_before:.4f} "
        f"mean and {report.min_before:.4f} least before training, {report.mean_after:.4f} and "
        f"{report.min_after:.4f} after {len(report.losses):,} steps on {report.n_texts:,} texts "
        "and excerpts"
    )
