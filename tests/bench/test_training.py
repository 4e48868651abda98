import pytest

from fuserank.bench.training import TrainingReport, measure_training
from fuserank.training.train_config import TrainConfig


@pytest.mark.parametrize(("seconds", "whole"), [(600.0, True), (0.0, False)])
def test_training_is_measured_until_its_time_is_over(tmp_path, seconds, whole):
    report = measure_training(
        tmp_path,
        rows=4000,
        n_users=600,
        n_items=50,
        config=TrainConfig(model="bilinear", dim=4, batch_size=512, epochs=1),
        seconds=seconds,
        command="test",
    )
    assert report.steps == (report.steps_an_epoch if whole else 2)
    assert 0 < report.kept < report.rows == 4000
    assert list(report.peak_mib.values()) == sorted(report.peak_mib.values())
    assert min(report.stored_rows_per_s, report.divided_rows_per_s, report.positives_per_s) > 0
    report.save(tmp_path / "report.json")
    assert TrainingReport.load(tmp_path / "report.json") == report
