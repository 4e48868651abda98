"""The verdict on an optimized encoder."""

from dataclasses import replace

import numpy as np
import pytest

from fuserank.errors import ConfigError
from fuserank.export.gate import GateBudget, RankedWith, compare

TEXTS = np.eye(4, dtype=np.float32)
EXACT = RankedWith(
    precision="fp32",
    space="sha256:1",
    size_bytes=400,
    top=np.array([[3, 1, 2], [0, 2, 1]]),
    ndcg=np.array([0.5, 0.3]),
    auc=0.8,
    item_texts=TEXTS,
    user_texts=TEXTS[:0],
)
NOTHING = GateBudget(ndcg_loss=None, overlap_100=None)


def test_what_ranks_alike_passes():
    report = compare(EXACT, replace(EXACT, precision="int8", size_bytes=100), GateBudget())
    assert report.passed
    assert report.reasons == ()
    assert (report.n_users, report.ndcg_loss, report.auc_loss) == (2, 0, 0)
    assert (report.overlap_10, report.overlap_100, report.rbo) == (1, 1, pytest.approx(1))
    assert (report.item_texts.n_texts, report.item_texts.least) == (4, 1)
    assert report.user_texts is None
    assert (report.reference.size_bytes, report.optimized.size_bytes) == (400, 100)
    assert "passed; NDCG@10 0.4000 in int8, 0.4000 in fp32" in report.summary


@pytest.mark.parametrize(("ndcg", "loss"), [([0.5, 0.1], 0.25), ([0.5, 0.5], -0.25)])
def test_a_loss_is_positive_and_a_share_of_the_reference(ndcg, loss):
    report = compare(EXACT, replace(EXACT, ndcg=np.array(ndcg)), GateBudget())
    assert report.ndcg_loss == pytest.approx(loss)
    assert report.passed == (loss < 0)


def test_a_reference_that_finds_nothing_can_lose_nothing():
    nothing = replace(EXACT, ndcg=np.zeros(2))
    assert compare(nothing, EXACT, GateBudget()).ndcg_loss == 0


@pytest.mark.parametrize(
    ("change", "budget", "reason"),
    [
        ({"ndcg": np.zeros(2)}, {"ndcg_loss": 0.1}, "ndcg_loss is 1.0000, expected at most 0.1"),
        ({"auc": 0.7}, {"auc_loss": 0.05}, "auc_loss is 0.1000, expected at most 0.05"),
        ({"auc": None}, {"auc_loss": 1.0}, "auc_loss could not be measured"),
        ({"top": EXACT.top + 9}, {"overlap_100": 0.1}, "overlap_100 is 0.0000, expected at least"),
        ({"top": EXACT.top + 9}, {"overlap_10": 0.1}, "overlap_10 is 0.0000, expected at least"),
        ({"top": EXACT.top[:, ::-1]}, {"rbo": 1.0}, "rbo is 0."),
        ({"item_texts": TEXTS[::-1]}, {"item_cosine": 0.5}, "item_cosine is 0.0000, expected"),
        ({}, {"user_cosine": 0.1}, "user_cosine could not be measured, expected at least 0.1"),
    ],
)
def test_what_is_over_budget_is_named(change, budget, reason):
    other = replace(EXACT, **change)
    assert compare(EXACT, other, NOTHING).passed
    report = compare(EXACT, other, replace(NOTHING, **budget))
    assert not report.passed
    (found,) = report.reasons
    assert reason in found
    assert report.summary.startswith(f"degraded: {found}")


def test_a_budget_is_a_share():
    with pytest.raises(ConfigError, match=r"gate overlap_100: found 97, expected a share"):
        GateBudget(overlap_100=97)
