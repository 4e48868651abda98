"""A report as one HTML page that needs nothing else: no script, no font, no file, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from math import ceil, floor, isfinite, log10, sqrt

from fuserank.training.evaluation.metrics import Calibration, Doubles
from fuserank.training.evaluation.significance import Comparison, MeanStd

__all__ = ["Compared", "Figures", "Page", "render_page"]

Figures = Mapping[str, Mapping[str, MeanStd]]
"""By system, then by metric; a system may lack a metric."""

Point = tuple[float, float]


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
        _section("Systems", _figures_table({"": page.summary}) if page.summary else ""),
        _section("Differences", _significance_table(page.significance)),
        _section("Cold start", _figures_table(page.cold) if page.cold else ""),
        _section(
            "Telling likes from dislikes",
            _roc(page.roc, looks) + _reliability(page.reliability, looks),
        ),
        _section(
            "Learning", _learning("loss", page.loss, looks) + _learning("NDCG", page.ndcg, looks)
        ),
        _section("Fusion", _fusion(page.fusion)),
    )
    title = escape(page.title)
    subtitle = f"<p>{escape(page.subtitle)}</p>\n" if page.subtitle else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header>\n<h1>{title}</h1>\n{subtitle}</header>\n{''.join(sections)}"
        "</main>\n</body>\n</html>\n"
    )


def _section(heading: str, body: str) -> str:
    if not body:
        return ""
    # Figures stand side by side where there is room; a table has the width to itself.
    return f'<section>\n<h2>{heading}</h2>\n<div class="parts">\n{body}</div>\n</section>\n'


def _table(
    head: Sequence[str], groups: Mapping[str, Iterable[tuple[str, Sequence[str]]]], caption: str
) -> str:
    """Return a table of HTML cells; the first header names the rows, a group may have no name."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = ""
    for name, rows in groups.items():
        body += "<tbody>\n"
        if name:
            body += f'<tr><th scope="rowgroup" colspan="{len(head)}">{escape(name)}</th></tr>\n'
        for row, cells in rows:
            found = "".join(f"<td>{cell}</td>" for cell in cells)
            body += f'<tr><th scope="row">{row}</th>{found}</tr>\n'
        body += "</tbody>\n"
    return (
        # Who has no mouse scrolls what is wider than the page with the keyboard.
        f'<div class="wide" role="region" tabindex="0" aria-label="{caption}"><table>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{top}</tr></thead>\n{body}</table></div>\n"
    )


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
    return _table(["System", *map(escape, metrics)], rows, caption)


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
    return _table(head, {"": rows}, "Paired bootstrap and randomisation test over users")


def _roc(curves: Mapping[str, tuple[Doubles, Doubles]], looks: Mapping[str, int]) -> str:
    if not curves:
        return ""
    plot = _Plot(_Axis(0, 1), _Axis(0, 1))
    drawn = plot.diagonal()
    for name, rates in curves.items():
        points = [(float(x), float(y)) for x, y in zip(*rates, strict=True)]
        drawn += plot.line(looks[name], points)
    svg = plot.draw("roc", "false positive rate", "true positive rate", drawn)
    return _figure("ROC curve", svg, [(looks[name], name) for name in curves])


def _reliability(systems: Mapping[str, Calibration], looks: Mapping[str, int]) -> str:
    if not systems:
        return ""
    plot = _Plot(_Axis(0, 1), _Axis(0, 1))
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
    table = _table(
        ("Probability", "Predicted", "Observed", "Pairs"), rows, "Pairs by predicted probability"
    )
    legend = [
        (looks[name], f"{name}, calibration error {found.error:.3f}")
        for name, found in systems.items()
    ]
    return _figure(
        "Reliability; dots grow with the number of pairs",
        plot.draw("reliability", "predicted probability", "share of likes", drawn),
        legend,
        table,
    )


def _learning(what: str, systems: Mapping[str, Sequence[float]], looks: Mapping[str, int]) -> str:
    epochs = max(map(len, systems.values()), default=0)
    if not epochs:
        return ""
    finite = [value for values in systems.values() for value in values if isfinite(value)]
    plot = _Plot(_whole_axis(epochs), _axis(finite), height=200)
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
    table = _table(("Epoch", *map(escape, systems)), {"": rows}, title)
    return _figure(title, plot.draw(what.lower(), "epoch", what, drawn), legend, table)


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
    return _table(("Source", "", "Weight"), rows, "Mean weight of each source")


def _bar(share: float) -> str:
    return (
        '<svg class="bar" viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="200" height="12"/>'
        f'<rect class="fill" width="{200 * max(share, 0.0):.1f}" height="12"/></svg>'
    )


def _figure(title: str, svg: str, legend: Sequence[tuple[int, str]], table: str = "") -> str:
    keys = "".join(
        '<li><svg viewBox="0 0 28 8" aria-hidden="true">'
        f'<path class="{_look(series)}" d="M2 4H26"/></svg>{escape(text)}</li>'
        for series, text in legend
    )
    details = f"<details><summary>Figures</summary>\n{table}</details>\n" if table else ""
    return f"<figure>\n<figcaption>{title}</figcaption>\n<ul>{keys}</ul>\n{svg}{details}</figure>\n"


def _look(series: int) -> str:
    """Return the classes of a series: colour and dashes recur together after twelve only."""
    return f"line c{series % 6} d{series % 4}"


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    ticks: tuple[float, ...] = (0, 0.25, 0.5, 0.75, 1)
    digits: int = 2

    def text(self, tick: float) -> str:
        return f"{tick:.{self.digits}f}" if abs(tick) < 1e5 else f"{tick:.1e}"


def _axis(values: Sequence[float]) -> _Axis:
    """Return an axis of round ticks that holds the values, from 0 to 1 where there are none."""
    if not values:
        return _Axis(0, 1)
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) / 10 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / 4
    magnitude = floor(log10(rough))
    step = next(m for m in (1, 2, 5, 10) if m * 10**magnitude >= rough) * 10**magnitude
    ticks = tuple(i * step for i in range(floor(low / step), ceil(high / step) + 1))
    return _Axis(ticks[0], ticks[-1], ticks, max(-magnitude, 0))


def _whole_axis(last: int) -> _Axis:
    """Return an axis from 1 to a whole number, with whole ticks, both ends among them."""
    step = max(ceil((last - 1) / 5), 1)
    ticks = [tick for tick in range(1, last + 1, step) if last - tick >= step] + [last]
    return _Axis(1, max(last, 2), tuple(ticks), 0)


@dataclass(frozen=True)
class _Plot:
    """A rectangle of an SVG drawing in which values have places."""

    x: _Axis
    y: _Axis
    height: int = 280

    def place(self, point: Point) -> str:
        x, y = (
            (value - axis.low) / (axis.high - axis.low)
            for value, axis in zip(point, (self.x, self.y), strict=True)
        )
        return f"{_LEFT + x * _WIDTH:.1f} {_TOP + (1 - y) * self.height:.1f}"

    def line(self, series: int, points: Sequence[Point]) -> str:
        runs = [
            [self.place(point) for point in run]
            for finite, run in groupby(points, key=lambda point: all(map(isfinite, point)))
            if finite
        ]
        # A lone point is drawn as a line to itself, which round ends make a dot.
        d = "".join(f"M{run[0]}L{' '.join(run[1:] or run)}" for run in runs)
        return f'<path class="{_look(series)}" d="{d}"/>\n'

    def dot(self, series: int, point: Point, radius: float) -> str:
        x, y = self.place(point).split()
        return f'<circle class="dot c{series % 6}" cx="{x}" cy="{y}" r="{radius:.1f}"/>\n'

    def diagonal(self) -> str:
        return f'<path class="diagonal" d="M{self.place((0, 0))}L{self.place((1, 1))}"/>\n'

    def draw(self, name: str, x_label: str, y_label: str, drawn: str) -> str:
        bottom = _TOP + self.height
        right = _LEFT + _WIDTH
        axes = ""
        for tick in self.y.ticks:
            y = self.place((self.x.low, tick)).split()[1]
            axes += (
                f'<path class="grid" d="M{_LEFT} {y}H{right}"/>'
                f'<text x="{_LEFT - 7}" y="{y}" dy=".35em" text-anchor="end">'
                f"{self.y.text(tick)}</text>\n"
            )
        for tick in self.x.ticks:
            x = self.place((tick, self.y.low)).split()[0]
            axes += (
                f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{self.x.text(tick)}</text>\n'
            )
        return (
            f'<svg class="plot" viewBox="0 0 {right + 14} {bottom + 40}" role="img" '
            f'aria-labelledby="{name}-title">\n'
            f'<title id="{name}-title">{y_label} by {x_label}</title>\n'
            f'{axes}<text class="label" x="{_LEFT}" y="12">{y_label}</text>\n'
            f'<text class="label" x="{right}" y="{bottom + 35}" text-anchor="end">{x_label}</text>'
            f"\n{drawn}</svg>\n"
        )


_LEFT, _TOP, _WIDTH = 50, 26, 280
"""Where the rectangle of a plot lies, in user units of its drawing."""

_STYLE = """
:root {
  --page: #fcfcfa; --ink: #1d2126; --quiet: #5d656e; --rule: #dcdfe2; --track: #eceeef;
  --c0: #2563a8; --c1: #bd4d26; --c2: #1f7a5c; --c3: #8450a8; --c4: #8f6400; --c5: #52606d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181b; --ink: #e6e8ea; --quiet: #a0a8b0; --rule: #333a40; --track: #262c31;
    --c0: #7fb0ea; --c1: #f0936f; --c2: #6cc7a1; --c3: #c49ae6; --c4: #e0b45a; --c5: #aab4be;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere; }
header p { margin: .5rem 0 0; color: var(--quiet); max-width: 44rem; overflow-wrap: anywhere; }
h2 { margin: 3rem 0 .75rem; font-size: 1.125rem; font-weight: 650; }
.parts { display: grid; gap: 2rem 3rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); }
.wide { overflow-x: auto; min-width: 0; }
.parts > .wide { grid-column: 1 / -1; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: .9375rem; }
caption { text-align: left; color: var(--quiet); font-size: .875rem; padding-bottom: .5rem; }
th, td { padding: .4rem 1.1rem .4rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); font-weight: 400; }
th:last-child, td:last-child { padding-right: 0; }
th:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere;
  position: sticky; left: 0; background: var(--page); }
.parts > .wide th:first-child { min-width: 9rem; }
thead th { color: var(--quiet); font-size: .875rem; vertical-align: bottom; }
tbody th[scope=rowgroup] { padding-top: 1.1rem; font-weight: 600; }
tbody th, td { vertical-align: baseline; }
td .quiet { display: block; color: var(--quiet); font-size: .8125rem; line-height: 1.3; }
figure { margin: 0; min-width: 0; max-width: 30rem; }
figcaption { font-weight: 600; font-size: .9375rem; }
figure ul { list-style: none; margin: .35rem 0 .75rem; padding: 0; display: flex; flex-wrap: wrap;
  gap: .15rem 1.1rem; font-size: .875rem; color: var(--quiet); overflow-wrap: anywhere; }
figure li svg { width: 28px; height: 8px; margin-right: .4rem; vertical-align: middle; }
.plot { display: block; width: 100%; height: auto; }
.plot text { fill: var(--quiet); font-size: 11px; font-variant-numeric: tabular-nums; }
.plot .label { fill: var(--ink); font-size: 12px; }
.grid { stroke: var(--rule); fill: none; }
.diagonal { stroke: var(--quiet); stroke-dasharray: 1 4; stroke-linecap: round; fill: none; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linecap: round;
  stroke-linejoin: round; }
.dot { fill: var(--c); stroke: var(--page); stroke-width: 1; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
.d1 { stroke-dasharray: 7 4; } .d2 { stroke-dasharray: 1 4; } .d3 { stroke-dasharray: 8 4 1 4; }
.bar { display: block; width: 100%; min-width: 8rem; height: .75rem; }
td:has(> .bar) { width: 60%; }
.track { fill: var(--track); } .fill { fill: var(--c0); }
details { margin-top: .75rem; font-size: .875rem; }
summary { color: var(--quiet); cursor: pointer; }
details table { font-size: .8125rem; }
:focus-visible { outline: 2px solid var(--c0); outline-offset: 2px; }
"""
