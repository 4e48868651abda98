"""What each encoder costs and gives, as a page: ranking quality by speed, with sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import sqrt

from fuserank.export.gate import GateReport
from fuserank.page.html import document, figure, section, table
from fuserank.page.plot import Plot, axis_of

__all__ = ["Candidate", "render_front"]

_LARGEST = 10
"""Radius of the dot of the largest encoder, in user units of a drawing."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An encoder that was tried on this machine.

    Attributes:
        name: of it among the others, such as its precision.
        report: it beside the fp32 reference.
        ms_per_text: for one text at a time, median.
        texts_per_second: for many texts at once.
    """

    name: str
    report: GateReport
    ms_per_text: float
    texts_per_second: float

    @property
    def size_mb(self) -> float:
        """Graph and weights, in megabytes."""
        return self.report.optimized.size_bytes / 1e6


def render_front(title: str, candidates: Sequence[Candidate], chosen: str) -> str:
    """Return an HTML page that needs nothing else; every name in it is escaped.

    Args:
        title: the heading.
        candidates: what was tried, one or more.
        chosen: name of the one that was taken.
    """
    first = candidates[0].report
    subtitle = (
        f"Chosen: {chosen}, of {len(candidates)} the fastest within the budget. One ranker for "
        f"{first.n_users:,} validation users, beside the {first.reference.precision} reference; "
        "speeds are those of the machine that tried them."
    )
    drawings = (
        _drawing("loss", "NDCG@10 lost, %", "ms a text", candidates)
        + _drawing("overlap", "overlap of the hundred best", "texts a second", candidates)
    )  # fmt: skip
    parts = (
        section("Quality, speed and size", drawings),
        section("All figures", _table(candidates, chosen)),
    )
    return document(title, subtitle, parts)


def _drawing(name: str, y_label: str, x_label: str, candidates: Sequence[Candidate]) -> str:
    points = [
        (c.ms_per_text, 100 * c.report.ndcg_loss)
        if name == "loss"
        else (c.texts_per_second, c.report.overlap_100)
        for c in candidates
    ]
    # From 0, so that twice as far is twice as long.
    plot = Plot(axis_of([0.0, *(x for x, _ in points)]), axis_of([y for _, y in points]))
    largest = max(c.size_mb for c in candidates)
    # The largest first, so that no dot hides a smaller one.
    order = sorted(range(len(points)), key=lambda number: -candidates[number].size_mb)
    dots = [
        plot.dot(number, points[number], _LARGEST * sqrt(candidates[number].size_mb / largest))
        for number in order
    ]
    legend = [(number, f"{c.name}, {c.size_mb:.1f} MB") for number, c in enumerate(candidates)]
    title = f"{y_label[:1].upper()}{y_label[1:]}, by {x_label}; dots grow with the size"
    return figure(title, plot.draw(name, x_label, y_label, "".join(dots)), legend)


def _table(candidates: Sequence[Candidate], chosen: str) -> str:
    head = (
        *("Encoder", "ms a text", "Texts/s", "MB", "NDCG@10", "Lost, %", "AUC lost"),
        *("Top 10", "Top 100", "RBO", "Cosine", "Verdict"),
    )
    rows = [
        (escape(c.name) + (" (chosen)" if c.name == chosen else ""), _figures(c))
        for c in candidates
    ]
    return table(head, {"": rows}, "Beside the reference, on validation users")


def _figures(candidate: Candidate) -> tuple[str, ...]:
    report = candidate.report
    return (
        f"{candidate.ms_per_text:.2f}",
        f"{candidate.texts_per_second:,.0f}",
        f"{candidate.size_mb:.1f}",
        f"{report.optimized.ndcg:.4f}",
        f"{100 * report.ndcg_loss:+.2f}",
        "–" if report.auc_loss is None else f"{report.auc_loss:+.4f}",
        f"{report.overlap_10:.3f}",
        f"{report.overlap_100:.3f}",
        f"{report.rbo:.3f}",
        "–" if report.item_texts is None else f"{report.item_texts.mean:.4f}",
        "passed" if report.passed else "over budget",
    )
