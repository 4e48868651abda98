"""Tables of what training and judging came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from fuserank import console

if TYPE_CHECKING:
    from fuserank.training.comparison import Comparison
    from fuserank.training.evaluation.baselines import Judged
    from fuserank.training.evaluation.evaluate import Report
    from fuserank.training.tune import Tuned

__all__ = ["print_baselines", "print_comparison", "print_report", "print_trials"]


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


def print_trials(tuned: Tuned) -> None:
    """Print what was tried."""
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


def print_baselines(judged: Mapping[str, Judged]) -> None:
    """Print how well each baseline ranks, and the options that it was tuned to."""
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


def print_comparison(compared: Comparison) -> None:
    """Print a ranker beside the baselines."""
    table = Table(title=compared.page.title, caption=compared.page.subtitle, box=None)
    table.add_column("")
    shown = ("Recall@10", "NDCG@10", "MAP@10", "coverage@10", "roc_auc")
    for name in shown:
        table.add_column(name, justify="right")
    for system, figures in compared.page.summary.items():
        table.add_row(system, *(str(figures[name]) if name in figures else "" for name in shown))
    console.out.print(table)
