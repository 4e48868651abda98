"""Comparing a ranker with baselines over several seeds or folds: what an evaluation comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.bundle.atomic import write_directory
from fuserank.training.data.splits import Parts, divide
from fuserank.training.evaluation import metrics
from fuserank.training.evaluation.baselines import judge_baselines
from fuserank.training.evaluation.evaluate import Epoch, Judged, judge
from fuserank.training.evaluation.report_page import Compared, Page, render_page
from fuserank.training.evaluation.significance import MeanStd, compare, mean_and_std
from fuserank.training.model.catalogue_scores import user_inputs
from fuserank.training.model.ranker import fusion_weights
from fuserank.training.train import Prepared, Trained, train_parts
from fuserank.training.train_config import TrainConfig

if TYPE_CHECKING:
    from fuserank.training.evaluation.ranking import JudgedUsers, Ranking

__all__ = ["Comparison", "Evaluation", "evaluate_seeds"]

Values = npt.NDArray[np.float64]

_CUTS = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "precision": "Precision",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "HitRate",
    "coverage": "coverage",
    "novelty": "novelty",
    "diversity": "diversity",
}
"""Figures of lists, and what they are called."""
_LABELS = {
    f"{average}.{figure}": f"{average} {shown}"
    for average in ("micro", "macro")
    for figure, shown in {"precision": "precision", "recall": "recall", "f1": "F1"}.items()
}
"""Figures of lists as sets of labels, and what they are called."""
_PAIRS = ("roc_auc", "pr_auc", "log_loss", "accuracy", "f1", "macro_f1", "brier")
_SHOWN = ("Recall@10", "NDCG@10", "MAP@10", "Precision@10", "MRR@10", "HitRate@10", "coverage@10")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a ranker and the baselines came to over several runs.

    Attributes:
        dataset: the data set's name.
        dataset_fingerprint: sha256 of it.
        config: the options of the first run; the others differ in the seed, or in the fold.
        runs: how many.
        systems: by system, then by metric, over the runs.
        options: what each baseline chose in each run, on the validation part.
        comparisons: differences between the ranker and each baseline, user by user.
        cold_items: by system, on items that training never met; empty where all were met.
        epochs: how each run's training went.
        seconds: of training, each run.
    """

    dataset: str
    dataset_fingerprint: str
    config: TrainConfig
    runs: int
    systems: Mapping[str, Mapping[str, MeanStd]]
    options: Mapping[str, Sequence[Mapping[str, Any]]]
    comparisons: Sequence[Compared]
    cold_items: Mapping[str, Mapping[str, MeanStd]]
    epochs: Sequence[Sequence[Epoch]]
    seconds: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An evaluation and the page that shows it."""

    evaluation: Evaluation
    page: Page

    def save(self, directory: Path) -> None:
        """Write ``evaluation.json`` and ``evaluation.html``, in one step."""
        with write_directory(directory) as partial:
            (partial / "evaluation.json").write_bytes(
                msgspec.json.format(msgspec.json.encode(self.evaluation), indent=1)
            )
            (partial / "evaluation.html").write_text(render_page(self.page), encoding="utf-8")


def evaluate_seeds(
    prepared: Prepared,
    config: TrainConfig,
    *,
    seeds: int,
    baselines: bool,
    on_run: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Train and judge once a seed, or once a fold, and compare with baselines on the same splits.

    Args:
        prepared: the data.
        config: model and options. With folds each run is one of them, whatever `seeds` says.
        seeds: runs, with `config.seed`, the next number, and so on.
        baselines: whether to tune and judge them.
        on_run: called with (runs done, runs in all).

    Raises:
        DataError: the split leaves a part empty.
    """
    configs = _runs(config, seeds)
    judged: list[Judged] = []
    others: dict[str, list[JudgedUsers]] = {}
    options: dict[str, list[Mapping[str, Any]]] = {}
    seconds, weights = [], {}
    for done, run in enumerate(configs, start=1):
        parts = divide(prepared.dataset, run.split, run.seed)
        trained = train_parts(prepared, parts, run)
        fitted, features = trained.fitted, trained.features
        judged.append(judge(fitted.ranker, features, trained.schema, parts, fitted.epochs))
        seconds.append(fitted.seconds)
        if done == 1:
            weights = _fusion_weights(trained, parts)
        if baselines:
            n_users, n_items = len(features.users), len(features.items)
            for name, found in judge_baselines(parts, n_users, n_items).items():
                others.setdefault(name, []).append(found.found)
                options.setdefault(name, []).append(found.options)
        if on_run is not None:
            on_run(done, len(configs))
    model: str = config.model
    systems = {model: _over_runs([_figures(run) for run in judged])}
    systems |= {
        name: _over_runs([_ranking_figures(users.ranking) for users in runs])
        for name, runs in others.items()
    }
    comparisons = [
        Compared(first=model, second=name, metric="NDCG@10", comparison=compare(*both))
        for name, runs in others.items()
        if len((both := _paired([run.users for run in judged], runs))[0])
    ]
    cold = [run.report.cold_items for run in judged if run.report.cold_items is not None]
    evaluation = Evaluation(
        dataset=prepared.dataset.name,
        dataset_fingerprint=prepared.dataset.fingerprint,
        config=config,
        runs=len(configs),
        systems=systems,
        options=options,
        comparisons=comparisons,
        cold_items={model: _over_runs([_ranking_figures(each) for each in cold])} if cold else {},
        epochs=[run.report.epochs for run in judged],
        seconds=seconds,
    )
    return Comparison(evaluation=evaluation, page=_page(evaluation, judged, weights))


def _runs(config: TrainConfig, seeds: int) -> list[TrainConfig]:
    if config.split.folds > 1:
        return [
            replace(config, split=replace(config.split, fold=fold))
            for fold in range(config.split.folds)
        ]
    return [replace(config, seed=config.seed + run) for run in range(seeds)]


def _fusion_weights(trained: Trained, parts: Parts) -> dict[str, dict[str, float]]:
    ranker, features = trained.fitted.ranker, trained.features
    likes = parts.train.histories(len(features.users))
    users = user_inputs(ranker, features, likes, trained.schema)
    return fusion_weights(ranker, users, features.items.tensors)


def _ranking_figures(ranking: Ranking) -> dict[str, float]:
    return {
        f"{shown}@{cut.k}": value
        for cut in ranking.cuts
        for name, shown in (_CUTS | _LABELS).items()
        if (value := attrgetter(name)(cut)) is not None
    }


def _figures(judged: Judged) -> dict[str, float]:
    report = judged.report
    pairs = {
        name: value
        for name in _PAIRS
        if (value := getattr(report.classification, name)) is not None
    }
    pairs["calibration_error"] = report.classification.calibration.error
    return _ranking_figures(report.ranking) | pairs


def _over_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, MeanStd]:
    return {
        name: mean_and_std([run[name] for run in runs])
        for name in runs[0]
        if all(name in run for run in runs)
    }


def _paired(first: Sequence[JudgedUsers], second: Sequence[JudgedUsers]) -> tuple[Values, Values]:
    """Return each user's mean NDCG over the runs that judged it, of both systems.

    A user is one sample, however many runs there are: runs share users, who are what differs.
    """
    n_users = 1 + max(int(run.users.max(initial=-1)) for run in first)
    sums, counts = np.zeros((2, n_users)), np.zeros(n_users)
    for mine, theirs in zip(first, second, strict=True):
        counts[mine.users] += 1
        sums[0, mine.users] += mine.ndcg
        sums[1, theirs.users] += theirs.ndcg
    judged = counts > 0
    means = sums[:, judged] / counts[judged]
    return means[0], means[1]


def _page(
    evaluation: Evaluation, judged: Sequence[Judged], weights: Mapping[str, Mapping[str, float]]
) -> Page:
    model, first = evaluation.config.model, judged[0]
    both = first.labels.any() and not first.labels.all()
    split = evaluation.config.split
    runs = f"{split.folds} folds" if split.folds > 1 else f"{evaluation.runs} seeds"
    curves = {
        f"{model}, run {number}": run.report.epochs for number, run in enumerate(judged, start=1)
    }
    return Page(
        title=f"{model} on {evaluation.dataset}",
        subtitle=f"Split {split.strategy}, {runs}; every item of the catalogue is ranked.",
        summary={
            name: {
                metric: figures[metric]
                for metric in (*_SHOWN, "roc_auc", "log_loss")
                if metric in figures
            }
            for name, figures in evaluation.systems.items()
        },
        labels={
            name: {
                shown: figures[metric]
                for shown in _LABELS.values()
                if (metric := f"{shown}@10") in figures
            }
            for name, figures in evaluation.systems.items()
        },
        significance=evaluation.comparisons,
        cold={"Items that training never met": evaluation.cold_items}
        if evaluation.cold_items
        else {},
        roc={model: metrics.roc_curve(first.labels, first.logits)} if both else {},
        reliability={model: first.report.classification.calibration} if both else {},
        loss={name: [epoch.loss for epoch in epochs] for name, epochs in curves.items()},
        ndcg={name: [epoch.ndcg for epoch in epochs] for name, epochs in curves.items()},
        fusion=weights,
    )
