import re
from dataclasses import replace
from html.parser import HTMLParser
from math import inf, nan

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuserank.training.evaluation import metrics
from fuserank.training.evaluation.report_page import Compared, Page, render_page
from fuserank.training.evaluation.significance import Comparison, MeanStd

HOSTILE = "</title><script>alert('&')</script>\"<img src=x onerror=1>"
VOID = {"meta"}


class Reader(HTMLParser):
    """Collects a page's elements and text, and fails where a tag is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def full(name="two towers"):
    labels = np.array([False, True, True, False, True])
    scores = np.array([0.1, 0.4, 0.8, 0.5, 1.0])
    figures = {name: {"NDCG@10": MeanStd(mean=0.31, std=0.002)}, "EASE": {}}
    compared = Comparison(n_users=943, difference=0.0123, low=-0.001, high=0.02, p_value=0.0312)
    return Page(
        title=name,
        subtitle=name,
        summary=figures,
        labels=figures,
        significance=[Compared(first=name, second="EASE", metric=name, comparison=compared)],
        cold={name: figures},
        roc={name: metrics.roc_curve(labels, scores)},
        reliability={name: metrics.calibration(labels, scores)},
        loss={name: [0.7, 0.5, 0.4], "EASE": [0.6, 0.5]},
        ndcg={name: [0.1, 0.2, 0.3]},
        fusion={name: {name: 0.75, "text": 0.25}},
    )


def test_the_page_shows_every_part():
    page = Reader(render_page(full()))
    for heading in (
        "Systems",
        "Lists as label sets",
        "Differences",
        "Cold start",
        "Learning",
        "Fusion",
    ):
        assert heading in page.text
    for figure in ("0.3100", "± 0.0020", "+0.0123", "-0.0010 to +0.0200", "0.0312", "943", "0.750"):
        assert figure in page.text, figure
    assert len(page.all("figure")) == 4


def test_parts_that_are_empty_are_left_out():
    page = Reader(render_page(Page(title="nothing yet", loss={"two towers": []})))
    assert page.text.split() == ["nothing", "yet"] * 2
    assert not page.all("section")


@pytest.mark.parametrize(
    "part", ["summary", "labels", "significance", "cold", "roc", "reliability"]
)
def test_any_part_may_stand_alone(part):
    page = Reader(render_page(replace(Page(title="one"), **{part: getattr(full(), part)})))
    assert len(page.all("section")) == 1


def test_names_are_escaped_wherever_they_stand():
    page = Reader(render_page(full(HOSTILE)))
    assert not page.all("script")
    assert not page.all("img")
    assert page.text.count(HOSTILE) >= 10
    assert [name for name, _ in page.tags] == [name for name, _ in Reader(render_page(full())).tags]


def test_the_page_needs_nothing_else():
    text = render_page(full())
    assert not re.search(r"https?:|url\(|@import|\bsrc=|<link|<script", text)


def test_figures_and_tables_can_be_read_aloud():
    page = Reader(render_page(full()))
    titles = {attrs["id"] for attrs in page.all("title") if "id" in attrs}
    plots = [attrs for attrs in page.all("svg") if attrs.get("role") == "img"]
    assert {attrs["aria-labelledby"] for attrs in plots} == titles
    assert len(titles) == len(plots) == 4
    assert all("aria-hidden" in attrs or attrs in plots for attrs in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in attrs for attrs in page.all("th"))


def test_a_system_looks_the_same_in_every_figure():
    one = full()
    reordered = replace(one, loss=dict(reversed(list(one.loss.items()))))
    found = re.findall(r'class="line (c\d) d\d" d="M2 4H26"/></svg>EASE', render_page(reordered))
    assert found == ["c1"]


def test_a_single_epoch_is_a_dot_and_what_is_not_finite_a_gap():
    page = render_page(Page(title="t", loss={"a": [1.0, nan, 0.5, 0.4], "b": [inf]}))
    lines = [
        line for line in re.findall(r'class="line c\d d\d" d="([^"]*)"', page) if "H" not in line
    ]
    assert [line.count("M") for line in lines] == [2, 0]
    assert lines[0].startswith("M50.0 ")
    first = lines[0][1:].split("M")[0]
    assert first.split("L")[0] == first.split("L")[1]


LOSSES = st.lists(st.floats(-1e30, 1e30) | st.sampled_from([nan, inf]), min_size=1, max_size=40)


@given(LOSSES)
@example([0.0, 5e-324])
def test_lines_stay_inside_their_plot(losses):
    page = Reader(render_page(Page(title="t", loss={"a": losses})))
    (plot,) = (attrs for attrs in page.all("svg") if attrs.get("role") == "img")
    _, _, width, height = map(float, plot["viewbox"].split())
    (line,) = (
        attrs["d"]
        for attrs in page.all("path")
        if attrs["class"].startswith("line") and "H" not in attrs["d"]
    )
    places = [tuple(map(float, found)) for found in re.findall(r"([-\d.]+) ([-\d.]+)", line)]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
    ticks = [attrs for attrs in page.all("text") if attrs.get("text-anchor") == "end"]
    assert 2 <= len(ticks) - 1 <= 7
