"""A report as one HTML page that needs nothing else: no script, no font, no file, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import isfinite, sqrt

from fuserank.page.html import document, figure, section, table
from fuserank.page.plot import Axis, Plot, axis_of, whole_axis
from fuserank.training.evaluation.metrics import Calibration, Doubles
from fuserank.training.evaluation.significance import Comparison, MeanStd

__all__ = ["Compared", "Figures", "Page", "render_page"]

Figures = Mapping[str, Mapping[str, MeanStd]]
"""By system, then by metric; a system may lack a metric."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two systems compared by one metric, the first less the second."""

    first: str
    second: str
    metric: str
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page shows; parts that are left empty are left out.

    Attributes:
        title: the heading.
        subtitle: one sentence below it: what was judged, and how.
        summary: metrics of the systems.
        labels: metrics of their lists as sets of labels.
        significance: differences between systems.
        cold: by group of items or users, as a heading names it, then as the summary.
        roc: by system, false and true positive rates as `metrics.roc_curve` returns them.
        reliability: by system.
        loss: by system, the loss of each epoch.
        ndcg: by system, the validation NDCG of each epoch.
        fusion: by side, then by source, the mean weight in the fused vector.
    """

    title: str
    subtitle: str = ""
    summary: Figures = field(default_factory=dict)
    labels: Figures = field(default_factory=dict)
    significance: Sequence[Compared] = ()
    cold: Mapping[str, Figures] = field(default_factory=dict)
    roc: Mapping[str, tuple[Doubles, Doubles]] = field(default_factory=dict)
    reliability: Mapping[str, Calibration] = field(default_factory=dict)
    loss: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ndcg: Mapping[str, Sequence[float]] = field(default_factory=dict)
    fusion: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def render_page(page: Page) -> str:
    """Return the page as an HTML document; every name in it is escaped.

    Tables have headers and figures titles for who listens instead of looking, series differ by
    dashes as well as by colour, and the colours follow the reader's choice of light or dark. What
    is not finite is a gap in a line. A system looks the same in every figure.
    """
    parts = (page.summary, page.roc, page.reliability, page.loss, page.ndcg)
    looks = {
        name: number for number, name in enumerate(dict.fromkeys(n for part in parts for n in part))
    }
    sections = (
        section("Systems", _figures_table({"": page.summary}) if page.summary else ""),
        section("Lists as label sets", _figures_table({"": page.labels}) if page.labels else ""),
        section("Differences", _significance_table(page.significance)),
        section("Cold start", _figures_table(page.cold) if page.cold else ""),
        section(
            "Telling likes from dislikes",
            _roc(page.roc, looks) + _reliability(page.reliability, looks),
        ),
        section(
            "Learning", _learning("loss", page.loss, looks) + _learning("NDCG", page.ndcg, looks)
        ),
        section("Fusion", _fusion(page.fusion)),
    )
    return document(page.title, page.subtitle, sections)


def _figures_table(groups: Mapping[str, Figures]) -> str:
    metrics = dict.fromkeys(
        metric for systems in groups.values() for found in systems.values() for metric in found
    )
    several = any(
        value.std is not None
        for systems in groups.values()
        for found in systems.values()
        for value in found.values()
    )
    rows = {
        name: [
            (
                escape(system),
                [_mean_std(found[metric]) if metric in found else "–" for metric in metrics],
            )
            for system, found in systems.items()
        ]
        for name, systems in groups.items()
    }
    caption = "Mean ± standard deviation over seeds" if several else "On held-out data"
    return table(["System", *map(escape, metrics)], rows, caption)


def _mean_std(value: MeanStd) -> str:
    spread = "" if value.std is None else f' <span class="quiet">± {value.std:.4f}</span>'
    return f"{value.mean:.4f}{spread}"


def _significance_table(compared: Sequence[Compared]) -> str:
    if not compared:
        return ""
    rows = [
        (
            f"{escape(pair.first)} − {escape(pair.second)}",
            (
                escape(pair.metric),
                f"{pair.comparison.difference:+.4f}",
                f"{pair.comparison.low:+.4f} to {pair.comparison.high:+.4f}",
                f"{pair.comparison.p_value:.4f}",
                f"{pair.comparison.n_users:,}",
            ),
        )
        for pair in compared
    ]
    head = ("Systems", "Metric", "Difference", "95 % interval", "p", "Users")
    return table(head, {"": rows}, "Paired bootstrap and randomisation test over users")


def _roc(curves: Mapping[str, tuple[Doubles, Doubles]], looks: Mapping[str, int]) -> str:
    if not curves:
        return ""
    plot = Plot(Axis(0, 1), Axis(0, 1))
    drawn = plot.diagonal()
    for name, rates in curves.items():
        points = [(float(x), float(y)) for x, y in zip(*rates, strict=True)]
        drawn += plot.line(looks[name], points)
    svg = plot.draw("roc", "false positive rate", "true positive rate", drawn)
    return figure("ROC curve", svg, [(looks[name], name) for name in curves])


def _reliability(systems: Mapping[str, Calibration], looks: Mapping[str, int]) -> str:
    if not systems:
        return ""
    plot = Plot(Axis(0, 1), Axis(0, 1))
    drawn = plot.diagonal()
    for name, found in systems.items():
        most = max(b.count for b in found.bins)
        drawn += plot.line(looks[name], [(b.predicted, b.observed) for b in found.bins])
        for b in found.bins:
            drawn += plot.dot(
                looks[name], (b.predicted, b.observed), 1.5 + 4 * sqrt(b.count / most)
            )
    rows = {
        name: [
            (
                f"{b.low:.3f}–{b.high:.3f}",
                (f"{b.predicted:.3f}", f"{b.observed:.3f}", f"{b.count:,}"),
            )
            for b in found.bins
        ]
        for name, found in systems.items()
    }
    figures = table(
        ("Probability", "Predicted", "Observed", "Pairs"), rows, "Pairs by predicted probability"
    )
    legend = [
        (looks[name], f"{name}, calibration error {found.error:.3f}")
        for name, found in systems.items()
    ]
    return figure(
        "Reliability; dots grow with the number of pairs",
        plot.draw("reliability", "predicted probability", "share of likes", drawn),
        legend,
        figures,
    )


def _learning(what: str, systems: Mapping[str, Sequence[float]], looks: Mapping[str, int]) -> str:
    epochs = max(map(len, systems.values()), default=0)
    if not epochs:
        return ""
    finite = [value for values in systems.values() for value in values if isfinite(value)]
    plot = Plot(whole_axis(epochs), axis_of(finite), height=200)
    drawn = "".join(
        plot.line(looks[name], list(enumerate(map(float, values), start=1)))
        for name, values in systems.items()
    )
    rows = [
        (
            str(epoch + 1),
            [f"{v[epoch]:.4f}" if epoch < len(v) else "–" for v in systems.values()],
        )
        for epoch in range(epochs)
    ]
    legend = [(looks[name], name) for name in systems]
    title = f"{what[:1].upper()}{what[1:]} by epoch"
    figures = table(("Epoch", *map(escape, systems)), {"": rows}, title)
    return figure(title, plot.draw(what.lower(), "epoch", what, drawn), legend, figures)


def _fusion(sides: Mapping[str, Mapping[str, float]]) -> str:
    weights = [weight for sources in sides.values() for weight in sources.values()]
    if not weights:
        return ""
    full = max(1.0, *weights)  # gates may exceed 1, weights that add up to 1 do not
    rows = {
        side: [
            (escape(source), (_bar(weight / full), f"{weight:.3f}"))
            for source, weight in sources.items()
        ]
        for side, sources in sides.items()
    }
    return table(("Source", "", "Weight"), rows, "Mean weight of each source")


def _bar(share: float) -> str:
    return (
        '<svg class="bar" viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="200" height="12"/>'
        f'<rect class="fill" width="{200 * max(share, 0.0):.1f}" height="12"/></svg>'
    )
