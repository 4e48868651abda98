"""Commands that export: a text encoder, and a trained ranker with its catalogue."""

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from fuserank import console
from fuserank.export.encoder import EncoderExportConfig

__all__ = ["export"]

export = cyclopts.App(name="export")

Json = Annotated[bool, Parameter(name="--json", negative="")]
_DEFAULTS = EncoderExportConfig()


@export.command
def encoder(
    model: str,
    out: Path,
    *,
    config: Annotated[EncoderExportConfig, Parameter(name="*")] = _DEFAULTS,
    json: Json = False,
) -> None:
    """Export a text encoder: pooling and normalisation in the graph, fused, quantized.

    Example: fuserank export encoder sentence-transformers/all-MiniLM-L6-v2 minilm

    Args:
        model: A local folder, or a name on the hub.
        out: Directory to write.
        config: How it is exported.
        json: Print JSON.
    """
    from fuserank.export.encoder import export_encoder

    report = export_encoder(model, out, config)
    if json:
        console.print_json(report)
        return
    fused = ", ".join(f"{count} {name}" for name, count in report.fused.items() if count)
    console.out.print(
        f"{out}: {report.config.dim}-d, {report.config.precision}, "
        f"{report.size_bytes / 1e6:.1f} MB; {report.n_nodes_traced} nodes fused to "
        f"{report.n_nodes} ({fused}); fp32 error {report.max_abs_error:.1e}, "
        f"cosine to fp32 {report.mean_cosine:.4f} mean, {report.min_cosine:.4f} least"
    )


@export.command
def bundle(run: Path, dataset: Path, encoder: Path, out: Path, *, json: Json = False) -> None:
    """Make a bundle of a trained ranker, its text encoder and its catalogue.

    Example: fuserank export bundle run movielens-100k/dataset.toml minilm movielens.bundle

    Args:
        run: Directory that 'fuserank train' wrote.
        dataset: The dataset.toml it was trained on.
        encoder: Directory that 'fuserank export encoder' wrote.
        out: Directory of the bundle.
        json: Print JSON.
    """
    with console.quiet():
        import tensorflow  # noqa: F401  (prints to stderr while it is imported)
    from fuserank.bundle import Bundle
    from fuserank.export.pipeline import export_bundle
    from fuserank.training.artifact import TrainedRun
    from fuserank.training.data.dataset import load_dataset

    data = load_dataset(dataset)
    with console.progress("precomputing items", len(data.items)) as advance:
        made = export_bundle(TrainedRun.load(run), data, encoder, out, on_progress=advance)
    manifest = Bundle.open(out).manifest
    if json:
        console.print_json(manifest)
        return
    scorer = made.parts.scorer
    console.out.print(
        f"{out}: {manifest.n_items:,} items, scorer {scorer.kind}, "
        f"{scorer.full_multiply_adds:,} multiply-adds a pair reduced to "
        f"{scorer.joint_multiply_adds:,}, parts equal the full graph within {made.parity:.1e}"
    )


@export.command
def factorise(
    model: Path,
    out: Path | None = None,
    *,
    sides: Path | None = None,
    dot: Path | None = None,
    json: Json = False,
) -> None:
    """Split any two-sided ONNX ranker into a user part, an item part and a joint part.

    Example: fuserank export factorise ranker.onnx parts --sides sides.toml --dot ranker.svg

    Args:
        model: The ranker: one logit a pair.
        out: Directory for user.onnx, item.onnx and joint.onnx.
        sides: TOML with lists of input names under user, item and context; without it, names
            begin with "user.", "item." or "context.".
        dot: File for a picture of the parts, such as ranker.svg; needs Graphviz.
        json: Print JSON.
    """
    from fuserank.bundle.atomic import write_directory
    from fuserank.export.drawing import draw
    from fuserank.export.factorise import factorise as split
    from fuserank.export.factorise import read_ranker
    from fuserank.export.sides import read_sides, sides_by_name

    full = read_ranker(model)
    declared = read_sides(sides) if sides else sides_by_name(v.name for v in full.graph.input)
    parts = split(full, declared)
    if out is not None:
        with write_directory(out) as partial:
            for name in ("user", "item", "joint"):
                (partial / f"{name}.onnx").write_bytes(getattr(parts, name).SerializeToString())
    if dot is not None:
        draw(parts, dot)
    if json:
        console.print_json(parts.scorer)
        return
    scorer = parts.scorer
    console.out.print(
        f"scorer {scorer.summary}, {scorer.full_multiply_adds:,} multiply-adds a pair reduced to "
        f"{scorer.joint_multiply_adds:,}\n"
        f"rewrites: {', '.join(scorer.rewrites) or 'none'}\n"
        f"precomputed: {', '.join(scorer.precomputed)}\n"
        f"stays joint: {scorer.note or 'nothing else'}"
    )


@export.command
def ranker(
    model: Path,
    items: Path,
    out: Path,
    *,
    sides: Path | None = None,
    encoder: Path | None = None,
    text: tuple[str, ...] = (),
    json: Json = False,
) -> None:
    """Make a bundle of a ranker that was trained elsewhere; requests carry its inputs by name.

    Example: fuserank export ranker ranker.pt2 items.npz ranker.bundle --sides sides.toml

    Args:
        model: .onnx, .keras or a PyTorch exported program .pt2; one logit a pair.
        items: .npz or .parquet: ids under "id", a column for each item input; others become
            attributes.
        out: Directory of the bundle.
        sides: TOML with lists of input names under user, item and context; without it, names
            begin with "user.", "item." or "context.".
        encoder: Directory of an exported text encoder, if the ranker reads embeddings of words.
        text: An input that is such an embedding; requests and the table carry the words.
        json: Print JSON.
    """
    from fuserank.bundle import Bundle
    from fuserank.export.foreign import export_foreign
    from fuserank.export.sides import read_sides, sides_by_name

    declared = (lambda _: read_sides(sides)) if sides else sides_by_name
    with console.progress("precomputing items") as advance:
        made = export_foreign(
            model,
            items,
            out,
            sides=declared,
            encoder=encoder,
            texts=text,
            on_progress=advance,
        )
    manifest = Bundle.open(out).manifest
    if json:
        console.print_json(manifest)
        return
    console.out.print(
        f"{out}: {manifest.n_items:,} items, scorer {made.parts.scorer.kind}, parts equal the "
        f"full graph within {made.parity:.1e}"
    )
