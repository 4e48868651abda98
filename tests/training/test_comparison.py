"""A ranker against baselines over several runs."""

import msgspec
import numpy as np
import pytest

pytest.importorskip("keras")

from fuserank.training.comparison import Evaluation, evaluate_seeds
from fuserank.training.data.splits import SplitConfig
from fuserank.training.evaluation.baselines import BASELINES
from fuserank.training.train import prepare, train_prepared

# Keras hands TensorFlow's variables to numpy the old way.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def prepared(dataset, encoder):
    return prepare(dataset, encoder)


@pytest.fixture(scope="module")
def comparison(prepared, make_config):
    config = make_config(model="bilinear", fusion="weighted", epochs=2)
    return evaluate_seeds(prepared, config, seeds=2, baselines=True)


def test_figures_are_means_over_seeds(comparison, prepared, make_config):
    runs = [
        train_prepared(
            prepared, make_config(model="bilinear", fusion="weighted", epochs=2, seed=seed)
        ).report
        for seed in (42, 43)
    ]
    found = comparison.evaluation.systems["bilinear"]
    for metric, values in {
        "NDCG@10": [run.ranking.ndcg for run in runs],
        "roc_auc": [run.classification.roc_auc for run in runs],
        "micro F1@10": [run.ranking.at(10).micro.f1 for run in runs],
        "macro precision@20": [run.ranking.at(20).macro.precision for run in runs],
    }.items():
        assert found[metric].mean == pytest.approx(np.mean(values))
        assert found[metric].std == pytest.approx(np.std(values, ddof=1))


def test_every_baseline_stands_in_the_same_table(comparison):
    evaluation = comparison.evaluation
    assert set(evaluation.systems) == {"bilinear", *BASELINES}
    assert all(len(options) == 2 for options in evaluation.options.values())
    assert {one.second for one in evaluation.comparisons} == set(BASELINES)
    for one in evaluation.comparisons:
        assert one.comparison.low <= one.comparison.difference <= one.comparison.high
    assert comparison.page.fusion.keys() == {"user", "item"}
    shown = [f"{a} {f}" for a in ("micro", "macro") for f in ("precision", "recall", "F1")]
    assert all(list(figures) == shown for figures in comparison.page.labels.values())
    assert set(comparison.page.labels) == set(evaluation.systems)


def test_what_is_written_comes_back(comparison, tmp_path):
    comparison.save(tmp_path / "evaluation")
    text = (tmp_path / "evaluation" / "evaluation.json").read_bytes()
    assert msgspec.json.decode(text, type=Evaluation).systems == comparison.evaluation.systems
    page = (tmp_path / "evaluation" / "evaluation.html").read_text(encoding="utf-8")
    assert "EASE" in page
    assert "<script" not in page


def test_runs_are_folds_where_the_split_has_some(prepared, make_config):
    config = make_config(model="bilinear", epochs=1, split=SplitConfig(strategy="items", folds=3))
    found = evaluate_seeds(prepared, config, seeds=5, baselines=False).evaluation
    assert found.runs == 3
    # No item of the test part was met in training.
    assert found.cold_items["bilinear"]["NDCG@10"].mean > 0
