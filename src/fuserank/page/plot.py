"""Lines in a rectangle, as an SVG drawing that a page's style colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor, isfinite, log10

__all__ = ["Axis", "Plot", "axis_of", "look", "whole_axis"]

Point = tuple[float, float]

_LEFT, _TOP, _WIDTH = 50, 26, 280
"""Where the rectangle of a plot lies, in user units of its drawing."""

_APART = 1e-9
"""What differs by less, as a share of its size if that is over 1, is drawn as one value."""


def look(series: int) -> str:
    """Return the classes of a series: colour and dashes recur together after twelve only."""
    return f"line c{series % 6} d{series % 4}"


@dataclass(frozen=True)
class Axis:
    """From where to where an axis goes, and what is written along it."""

    low: float
    high: float
    ticks: tuple[float, ...] = (0, 0.25, 0.5, 0.75, 1)
    digits: int = 2

    def text(self, tick: float) -> str:
        """Return what is written at a tick."""
        return f"{tick:.{self.digits}f}" if abs(tick) < 1e5 else f"{tick:.1e}"


def axis_of(values: Sequence[float]) -> Axis:
    """Return an axis of round ticks that holds the values, from 0 to 1 where there are none."""
    if not values:
        return Axis(0, 1)
    low, high = min(values), max(values)
    if high - low <= _APART * max(abs(low), abs(high), 1):
        margin = max(abs(low), abs(high)) / 10
        margin = margin if margin > _APART else 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / 4
    magnitude = floor(log10(rough))
    step = next(m for m in (1, 2, 5, 10) if m * 10**magnitude >= rough) * 10**magnitude
    ticks = tuple(i * step for i in range(floor(low / step), ceil(high / step) + 1))
    return Axis(ticks[0], ticks[-1], ticks, max(-magnitude, 0))


def whole_axis(last: int) -> Axis:
    """Return an axis from 1 to a whole number, with whole ticks, both ends among them."""
    step = max(ceil((last - 1) / 5), 1)
    ticks = [tick for tick in range(1, last + 1, step) if last - tick >= step] + [last]
    return Axis(1, max(last, 2), tuple(ticks), 0)


@dataclass(frozen=True)
class Plot:
    """A rectangle of an SVG drawing in which values have places."""

    x: Axis
    y: Axis
    height: int = 280

    def place(self, point: Point) -> str:
        """Return where a point lies, in user units."""
        x, y = (
            (value - axis.low) / (axis.high - axis.low)
            for value, axis in zip(point, (self.x, self.y), strict=True)
        )
        return f"{_LEFT + x * _WIDTH:.1f} {_TOP + (1 - y) * self.height:.1f}"

    def line(self, series: int, points: Sequence[Point]) -> str:
        """Return a line through points; what is not finite is a gap."""
        runs = [
            [self.place(point) for point in run]
            for finite, run in groupby(points, key=lambda point: all(map(isfinite, point)))
            if finite
        ]
        # A lone point is drawn as a line to itself, which round ends make a dot.
        d = "".join(f"M{run[0]}L{' '.join(run[1:] or run)}" for run in runs)
        return f'<path class="{look(series)}" d="{d}"/>\n'

    def dot(self, series: int, point: Point, radius: float) -> str:
        """Return a dot."""
        x, y = self.place(point).split()
        return f'<circle class="dot c{series % 6}" cx="{x}" cy="{y}" r="{radius:.1f}"/>\n'

    def diagonal(self) -> str:
        """Return the line on which both values are alike."""
        return f'<path class="diagonal" d="M{self.place((0, 0))}L{self.place((1, 1))}"/>\n'

    def draw(self, name: str, x_label: str, y_label: str, drawn: str) -> str:
        """Return the drawing.

        Args:
            name: of the drawing, that of no other on the page.
            x_label: of the axis along the bottom.
            y_label: of the other.
            drawn: what is in it.
        """
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
