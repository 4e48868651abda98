"""Commands that export: a text encoder, and a trained ranker with its catalogue."""

from pathlib import Path
from statistics import fmean
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from fuserank import console
from fuserank.export.encoder import EncoderExportConfig
from fuserank.export.finetune import FinetuneConfig

__all__ = ["export"]

export = cyclopts.App(name="export")

Json = Annotated[bool, Parameter(name="--json", negative="")]
_DEFAULTS = EncoderExportConfig()
_FINETUNE = FinetuneConfig()

export.command("fuserank.export.bundle_cli:bundle")
export.command("fuserank.export.model_cli:distil")
export.command("fuserank.export.model_cli:prune")
export.command("fuserank.export.bundle_cli:tune")


@export.command
def encoder(
    model: str,
    out: Path,
    *,
    dataset: Path | None = None,
    config: Annotated[EncoderExportConfig, Parameter(name="*")] = _DEFAULTS,
    json: Json = False,
) -> None:
    """Export a text encoder: pooling and normalisation in the graph, fused, quantized.

    Example: fuserank export encoder sentence-transformers/all-MiniLM-L6-v2 minilm

    Args:
        model: A local folder, or a name on the hub.
        out: Directory to write.
        dataset: A dataset.toml by whose texts int8 chooses its scales; without it, it draws
            tokens from the vocabulary, which serves less well.
        config: How it is exported.
        json: Print JSON.
    """
    from fuserank.export.encoder import export_encoder
    from fuserank.export.texts import texts_of
    from fuserank.training.data.dataset import load_dataset

    texts = [] if dataset is None else texts_of(load_dataset(dataset))
    report = export_encoder(model, out, config, texts)
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
def finetune(
    model: str,
    dataset: Path,
    out: Path,
    *,
    config: Annotated[FinetuneConfig, Parameter(name="*")] = _FINETUNE,
    json: Json = False,
) -> None:
    """Fine-tune a text encoder on what users chose; then export it, and train on top.

    Example: fuserank export finetune sentence-transformers/all-MiniLM-L6-v2 shop/dataset.toml tuned

    Args:
        model: A local folder, or a name on the hub.
        dataset: The dataset.toml that the ranker will be trained on.
        out: Directory to write, a model as MODEL is one.
        config: How; seed and split have to be the ranker's, which is judged on what this leaves.
        json: Print JSON.
    """
    from fuserank.export.finetune import finetune as tune
    from fuserank.training.data.dataset import load_dataset

    with console.steps("fine-tuning") as advance:
        report = tune(model, load_dataset(dataset), config, out, on_progress=advance)
    if json:
        console.print_json(report)
        return
    few = max(len(report.losses) // 10, 1)
    first, last = fmean(report.losses[:few]), fmean(report.losses[-few:])
    console.out.print(
        f"{out}: {len(report.losses):,} steps on {report.n_pairs:,} pairs in "
        f"{report.seconds:.0f} s; loss {first:.3f} in the first tenth, {last:.3f} in the last"
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
