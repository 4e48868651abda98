"""Commands that read a bundle: inspect, verify, recommend, score, encode."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from fuserank import console
from fuserank.bundle import Bundle, Manifest
from fuserank.engine.encoder_config import Precision
from fuserank.engine.engine import Engine, load
from fuserank.engine.providers import Device
from fuserank.errors import RequestError

__all__ = ["encode", "inspect", "recommend", "score", "verify"]

Json = Annotated[bool, Parameter(name="--json", negative="")]
Ids = Annotated[list[str] | None, Parameter(negative="")]


def inspect(bundle: Path, *, json: Json = False) -> None:
    """Show what a bundle holds: model, scorer, work saved, fields, quality.

    Args:
        bundle: The bundle's directory.
        json: Print JSON.
    """
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    quality = opened.quality
    if json:
        console.print_json({"manifest": manifest, "quality": quality})
        return
    scorer = manifest.scorer
    size = sum(info.size_bytes for info in manifest.files.values())
    rows: dict[str, object] = {
        "bundle": f"{manifest.name} {manifest.version} (format {manifest.format_version})",
        "model": manifest.model,
        "catalogue": f"{manifest.n_items:,} items, {manifest.n_users:,} stored users",
        "encoder": (
            f"{manifest.encoder.model}, {manifest.encoder.dim}-d, {manifest.encoder.precision}"
            if manifest.encoder
            else "none"
        ),
        "gate": _gate(manifest, quality.get("gate")),
        "scorer": scorer.summary,
        "multiply-adds a pair": (
            f"{scorer.full_multiply_adds:,} in the full graph, {scorer.joint_multiply_adds:,} left"
        ),
        "bytes an item state": _bytes_a_state(manifest),
        "rewrites": ", ".join(scorer.rewrites),
        "precomputed": ", ".join(scorer.precomputed),
        "stays joint": scorer.note or "nothing else",
        "fields": ", ".join(f.field.tensor for f in opened.schema.fields),
        "space": manifest.space,
        "size": f"{size / 1e6:.1f} MB in {len(manifest.files)} files",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.out.print(table)
    console.out.print_json(data=quality)


def _gate(manifest: Manifest, report: dict[str, Any] | None) -> str:
    """Say what the encoder costs against its fp32 reference, as far as that is known."""
    if report is not None:
        return str(report["summary"])
    if manifest.encoder is None:
        return "no encoder"
    if manifest.encoder.precision == Precision.FP32:
        return "the encoder is fp32"
    return "not compared with an fp32 encoder"


def _bytes_a_state(manifest: Manifest) -> str:
    states, codes = (
        sum(info.size_bytes for name, info in manifest.files.items() if name.startswith(folder))
        // max(manifest.n_items, 1)
        for folder in ("catalogue/states/", "catalogue/codes/")
    )
    return f"{states}" + (f", and {codes} of int8 codes, which scans read" if codes else "")


def verify(bundle: Path, *, json: Json = False) -> None:
    """Check size and digest of every file, load the engine and answer one request.

    Args:
        bundle: The bundle's directory.
        json: Print JSON.
    """
    manifest = Bundle.open(bundle).manifest
    total = sum(info.size_bytes for info in manifest.files.values())
    with (
        console.progress("checking files", total) as advance,
        load(bundle, Device.CPU, on_progress=advance) as engine,
    ):
        info = engine.info
    if json:
        console.print_json(info)
    else:
        console.out.print(
            f"{bundle}: whole; {len(manifest.files)} files, {info.n_items:,} items, "
            f"version {info.version}"
        )


def recommend(
    bundle: Path,
    *fields: str,
    k: int = 10,
    exclude: Ids = None,
    allow: Ids = None,
    include_seen: bool = False,
    device: Device = Device.AUTO,
    json: Json = False,
) -> None:
    """Recommend items to a user, known or new.

    Args:
        bundle: The bundle's directory.
        fields: What is known of the user, as NAME=VALUE; lists are separated by commas.
        k: Items wanted.
        exclude: Item ids never to return.
        allow: The only item ids to return.
        include_seen: Also return items that the user has met.
        device: Where graphs run.
        json: Print JSON.
    """
    with load(bundle, device) as engine:
        found = engine.recommend(
            _user(engine, fields), k, exclude=exclude or (), allow=allow, include_seen=include_seen
        )
        attributes = engine.attributes(found.item_ids)
        title = engine.info.title
    if json:
        console.print_json(found)
        return
    _print_items(found, [entry.get(title or "") for entry in attributes])
    console.out.print(f"served as {found.served_as}, plan {found.plan}, {_stages(found.timings)}")


def score(
    bundle: Path,
    *fields: str,
    items: Annotated[list[str], Parameter(negative="")],
    device: Device = Device.AUTO,
    json: Json = False,
) -> None:
    """Score named items for a user.

    Args:
        bundle: The bundle's directory.
        fields: What is known of the user, as NAME=VALUE; lists are separated by commas.
        items: Item ids.
        device: Where graphs run.
        json: Print JSON.
    """
    with load(bundle, device) as engine:
        found = engine.score(_user(engine, fields), items)
        attributes = engine.attributes(items)
        title = engine.info.title
    if json:
        console.print_json(found)
        return
    _print_items(found, [entry.get(title or "") for entry in attributes])


def encode(bundle: Path, *texts: str, device: Device = Device.AUTO, json: Json = False) -> None:
    """Encode texts as the bundle's encoder does.

    Args:
        bundle: The bundle's directory.
        texts: Texts, one argument each.
        device: Where graphs run.
        json: Print JSON.
    """
    with load(bundle, device) as engine:
        found = engine.encode(texts)
    if json:
        console.print_json(found)
        return
    for vector in found.vectors:
        console.out.print(" ".join(f"{x:.4f}" for x in vector[:8]), f"… ({len(vector)} numbers)")


def _user(engine: Engine, fields: tuple[str, ...]) -> dict[str, object]:
    """Read NAME=VALUE pairs by the kinds of the bundle's fields."""
    kinds = {field.name: field.kind for field in engine.info.user_fields}
    user: dict[str, object] = {}
    for entry in fields:
        name, equals, value = entry.partition("=")
        if not equals:
            raise RequestError(f"user: found {entry!r}, expected NAME=VALUE")
        user[name] = _value(name, value, kinds.get(name, "text"))
    return user


def _value(name: str, text: str, kind: str) -> Any:
    try:
        if kind == "number":
            return float(text)
        if kind in ("vector", "tensor"):
            return [float(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"user field {name!r}: found {text!r}, expected {kind}") from None
    return text.split(",") if kind in ("history", "categories") else text


def _print_items(found: Any, titles: list[Any]) -> None:
    table = Table(box=None)
    table.add_column("#", justify="right")
    table.add_column("item")
    table.add_column("title")
    table.add_column("score", justify="right")
    table.add_column("probability", justify="right")
    rows = zip(found.item_ids, titles, found.scores, found.probabilities, strict=True)
    for rank, (item_id, title, logit, probability) in enumerate(rows, start=1):
        table.add_row(str(rank), item_id, str(title or ""), f"{logit:.3f}", f"{probability:.3f}")
    console.out.print(table)


def _stages(timings: Any) -> str:
    return (
        f"tokenize {timings.tokenize_ms:.2f} ms, encode {timings.encode_ms:.2f} ms, "
        f"user graph {timings.user_graph_ms:.2f} ms, scan {timings.scan_ms:.2f} ms, "
        f"total {timings.total_ms:.2f} ms"
    )
