import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuserank.training.evaluation.evaluate import Report

pytestmark = pytest.mark.e2e


def test_demo_shows_titles_scores_timings_and_latency(demo_output):
    for words in ("known user 42", "brand-new user", "probability", "user graph", "p99"):
        assert words in demo_output
    assert "GroupLens" in demo_output  # the licence comes first
    assert "gate: passed" in demo_output


def test_words_bring_films_of_their_kind(demo_output):
    cold = demo_output.split("brand-new user")[1].split("served as")[0]
    assert cold.count("Sci-Fi") >= 5


@pytest.mark.parametrize("model", ["perceptron", "bilinear"])
def test_models_beat_popularity_clearly(bundle: Path, cache: Path, model: str):
    path = cache / "demo" / f"run-{model}" / "report.json"
    report = Report.from_json(path.read_bytes(), str(path))
    assert report.ranking.n_users > 800
    assert report.ranking.recall >= 1.4 * report.popularity.recall
    assert report.ranking.ndcg >= 1.4 * report.popularity.ndcg


def test_second_run_makes_nothing_again(bundle: Path):
    before = (bundle / "manifest.json").stat().st_mtime_ns
    done = subprocess.run(
        [sys.executable, "-m", "fuserank", "demo"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stderr.count("unchanged") == 4
    assert (bundle / "manifest.json").stat().st_mtime_ns == before
