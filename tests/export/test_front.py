"""The page of quality, speed and size."""

import re
from dataclasses import replace

import numpy as np

from fuserank.export.front import Candidate, render_front
from fuserank.export.gate import GateBudget, RankedWith, compare

HOSTILE = "</title><script>alert('&')</script>"
EXACT = RankedWith(
    precision="fp32",
    space="sha256:1",
    size_bytes=90_000_000,
    top=np.arange(20)[None],
    ndcg=np.array([0.5]),
    auc=None,
    item_texts=np.eye(2, dtype=np.float32),
    user_texts=np.empty((0, 2), np.float32),
)


def candidate(name, **change):
    report = compare(EXACT, replace(EXACT, **change), GateBudget())
    return Candidate(name=name, report=report, ms_per_text=2.5, texts_per_second=1234.0)


def test_every_candidate_is_drawn_and_listed():
    page = render_front(
        "Encoders",
        [candidate("fp32"), candidate("int8", size_bytes=22_500_000, ndcg=np.array([0.4]))],
        "fp32",
    )
    assert page.count("<circle") == 4
    radii = re.findall(r'r="([\d.]+)"', page)
    assert float(radii[0]) == 2 * float(radii[1])  # areas are as sizes
    for text in (
        "Chosen: fp32",
        "fp32 (chosen)",
        "int8, 22.5 MB",
        "+20.00",
        "over budget",
        "1,234",
    ):
        assert text in page, text


def test_a_lone_candidate_is_drawn_and_its_name_escaped():
    page = render_front(HOSTILE, [candidate(HOSTILE)], HOSTILE)
    assert "<script" not in page
    assert not re.search(r"https?:|url\(|@import|\bsrc=|<link", page)
