"""Tuning: trials of options, judged on the validation part, the next learning from the last."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import optuna
import tensorflow as tf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from fuserank.bundle.atomic import write_file
from fuserank.errors import ConfigError, DataError, FuserankError
from fuserank.training.data.splits import divide
from fuserank.training.evaluation.ranking import judge_users
from fuserank.training.experiment import Choice, Experiment, Range, Value
from fuserank.training.model.catalogue_scores import CatalogueScores
from fuserank.training.train import prepare, train_parts

if TYPE_CHECKING:
    from fuserank.engine.encoder import TextEncoder
    from fuserank.training.data.dataset import Dataset
    from fuserank.training.evaluation.evaluate import Epoch
    from fuserank.training.train_config import TrainConfig

OnEpoch = Callable[[int, "Epoch"], bool]

__all__ = ["BEST", "DEFAULT_SPACE", "TRIALS", "Trial", "Tuned", "tune"]

BEST, TRIALS = "best.toml", "trials.json"
"""What is written: the best experiment, and every trial."""

DEFAULT_SPACE: Mapping[str, Choice | Range] = {
    "learning_rate": Range(low=0.001, high=0.03, log=True),
    "dim": Choice((32, 64, 128)),
    "negatives": Range(low=8, high=64, log=True, whole=True),
    "weight_decay": Range(low=0.001, high=0.1, log=True),
    "id_dropout": Range(low=0.0, high=0.5),
}
"""What is tuned where an experiment declares nothing."""

_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 5, 2
"""So many trials run to their end, and so many epochs of each: medians before them mislead."""

_STATES = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of some options.

    Attributes:
        options: the values that were tried, by option.
        state: ``finished``; ``pruned``, stopped for being worse than the median of the trials
            before it; ``failed``.
        ndcg: NDCG@10 of the validation positives, in the best epoch and with what is blended;
            None where it failed.
        epochs: the same after each epoch, without what is blended.
        seconds: time spent.
        error: why it failed.
    """

    options: dict[str, Value]
    state: Literal["finished", "pruned", "failed"]
    ndcg: float | None
    epochs: tuple[float, ...]
    seconds: float
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What tuning came to.

    Attributes:
        best: the experiment, with the options of the best trial.
        best_trial: index of the finished trial with the best NDCG@10, the first of equals.
        trials: every trial in order.
    """

    best: Experiment
    best_trial: int
    trials: tuple[Trial, ...]


def tune(
    dataset: Dataset,
    encoder: TextEncoder,
    experiment: Experiment,
    out: Path,
    *,
    trials: int,
    seconds: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Try options and keep the best by NDCG@10 of the validation part; the test part is not used.

    Every trial is written to `out` when it ends. The same arguments propose the same trials, and
    so a run that was stopped goes on as if it had not been: what is there counts, and the trial
    that was running begins again. One process at a time may write to `out`.

    Args:
        dataset: the data.
        encoder: makes the embeddings of texts, once for all trials.
        experiment: the options that stay, and the space of those that are tuned.
        out: directory to write `BEST` and `TRIALS` to.
        trials: how many to come to, those already in `out` included.
        seconds: time after which no further trial begins.
        on_progress: called with (trials done, trials to come to).

    Raises:
        ConfigError: `trials` or `seconds` is not above 0, the trials in `out` are those of
            something else, or every trial failed.
        DataError: the split leaves a part empty, or `TRIALS` is damaged.
        SchemaError: the data does not fit its fields.

    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011, for the
    sampler; Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017,
    section 3.2.2, for the median rule.
    """
    for name, value in (("trials", trials), ("seconds", seconds)):
        if value is not None and not value > 0:
            raise ConfigError(f"tune: {name} is {value}, expected above 0")
    started = time.monotonic()
    space = experiment.tune or DEFAULT_SPACE
    study = _Study(experiment.train, space, _origin(dataset, encoder, experiment.train, space), out)
    prepared = prepare(dataset, encoder, leave_out=experiment.train.leave_out)
    parts = divide(prepared.dataset, experiment.train.split, experiment.train.seed)

    def run(config: TrainConfig, on_epoch: OnEpoch) -> float:
        trained = train_parts(prepared, parts, config, on_epoch=on_epoch)
        fitted, features = trained.fitted, trained.features
        if not config.blends:
            return fitted.epochs[fitted.best_epoch].ndcg
        likes = parts.train.histories(len(features.users))
        scores = CatalogueScores.of_known(fitted.ranker, features, likes, trained.schema)
        return judge_users(
            scores.matrix,
            seen=parts.train,
            held_out=parts.validation,
            n_items=len(features.items),
        ).ranking.ndcg

    while len(study.trials) < trials:
        study.try_next(run)
        _write(out, experiment, study)
        if on_progress is not None:
            on_progress(len(study.trials), trials)
        if seconds is not None and time.monotonic() - started >= seconds:
            break
    if study.best is None:
        raise ConfigError(
            f"tune: all of the {len(study.trials)} trials failed, the last with: "
            f"{study.trials[-1].error}"
        )
    return Tuned(
        best=_adopt(experiment, study.trials[study.best]),
        best_trial=study.best,
        trials=tuple(study.trials),
    )


class _Study:
    """The trials so far, and what they suggest to try next."""

    def __init__(
        self,
        train: TrainConfig,
        space: Mapping[str, Choice | Range],
        origin: dict[str, Any],
        out: Path,
    ) -> None:
        """Take up the trials that are in `out`.

        Raises:
            ConfigError: they are of another origin.
            DataError: they are damaged.
        """
        self.origin = origin
        self.trials = _read_trials(out / TRIALS, origin)
        self._train = train
        self._distributions = {name: _distribution(values) for name, values in space.items()}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS),
        )
        for trial in self.trials:
            self._study.add_trial(self._frozen(trial))

    @property
    def best(self) -> int | None:
        """Index of the finished trial with the best NDCG@10, the first of equals."""
        finished = [i for i, trial in enumerate(self.trials) if trial.state == "finished"]
        return max(finished, key=lambda i: self.trials[i].ndcg or 0.0, default=None)

    def try_next(self, run: Callable[[TrainConfig, OnEpoch], float]) -> None:
        """Propose options, run them, which gives the NDCG, and keep what became of them."""
        # A seed for each trial: a run that is taken up again proposes what it would have.
        seed = np.random.SeedSequence([self._train.seed, len(self.trials)]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed[0]))
        proposed = self._study.ask(self._distributions)
        epochs: list[float] = []
        pruned = False

        def go_on(number: int, epoch: Epoch) -> bool:
            nonlocal pruned
            epochs.append(epoch.ndcg)
            proposed.report(epoch.ndcg, number)
            pruned = proposed.should_prune()
            return not pruned

        started, ndcg, error = time.perf_counter(), None, None
        try:
            ndcg = run(dataclasses.replace(self._train, **proposed.params), go_on)
        except (FuserankError, MemoryError, tf.errors.ResourceExhaustedError) as failure:
            error = str(failure) or type(failure).__name__
        trial = Trial(
            options=proposed.params,
            state="failed" if error is not None else "pruned" if pruned else "finished",
            ndcg=ndcg,
            epochs=tuple(epochs),
            seconds=time.perf_counter() - started,
            error=error,
        )
        frozen = self._frozen(trial)
        self._study.tell(proposed, frozen.values, frozen.state)
        self.trials.append(trial)
        gc.collect()  # models hold cycles, and the weights of two trials may not fit

    def _frozen(self, trial: Trial) -> optuna.trial.FrozenTrial:
        return optuna.trial.create_trial(
            state=_STATES[trial.state],
            value=trial.ndcg if trial.state == "finished" else None,
            params=trial.options,
            distributions=self._distributions,
            intermediate_values=dict(enumerate(trial.epochs)),
        )


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What the file of trials holds."""

    origin: dict[str, Any]
    trials: list[Trial]


def _origin(
    dataset: Dataset,
    encoder: TextEncoder,
    train: TrainConfig,
    space: Mapping[str, Choice | Range],
) -> dict[str, Any]:
    """Everything that trials depend on, by name, in plain values."""
    made_of = {"data set": dataset.fingerprint, "encoder": encoder.space}
    options = {f"[train] {name}": value for name, value in dataclasses.asdict(train).items()}
    spaces = {f"[tune] {name}": dataclasses.asdict(values) for name, values in space.items()}
    origin: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made_of | options | spaces))
    return origin  # as it comes back from a file, lists for tuples


def _read_trials(path: Path, origin: dict[str, Any]) -> list[Trial]:
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: expected trials of 'fuserank tune', found: {error}") from error
    for name in sorted(record.origin.keys() | origin.keys()):
        found, expected = record.origin.get(name), origin.get(name)
        if found != expected:
            raise ConfigError(
                f"{path}: found trials with {name} {found!r}, expected {expected!r}; give another "
                "directory, or the experiment of these trials"
            )
    return record.trials


def _distribution(space: Choice | Range) -> BaseDistribution:
    if isinstance(space, Choice):
        return CategoricalDistribution(space.values)
    if space.whole:
        return IntDistribution(int(space.low), int(space.high), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def _write(out: Path, experiment: Experiment, study: _Study) -> None:
    """Write the best trial so far, if there is one, and then all of them.

    In this order: after a kill between the two, the last trial is run again, to the same end.
    """
    if study.best is not None:
        trial, count = study.trials[study.best], len(study.trials)
        heading = f"# Best of {count} trials: NDCG@10 {trial.ndcg:.4f} on the validation part\n\n"
        write_file(out / BEST, heading + _adopt(experiment, trial).to_toml())
    record = _Record(origin=study.origin, trials=study.trials)
    write_file(out / TRIALS, msgspec.json.format(msgspec.json.encode(record), indent=1))


def _adopt(experiment: Experiment, trial: Trial) -> Experiment:
    """The experiment with the options of a trial, and nothing left to tune."""
    options: dict[str, Any] = trial.options
    return dataclasses.replace(
        experiment, train=dataclasses.replace(experiment.train, **options), tune={}
    )
