import shutil
import subprocess

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("perf_analyzer") is None, reason="perf_analyzer is not in PATH"
    ),
]


@pytest.mark.parametrize(
    "options",
    [
        ["-m", "tiny", "-b", "4"],
        ["-m", "tiny", "--streaming", "--concurrency-range", "4"],
        ["-m", "tiny.score", "--shape", "item_ids:20"],
    ],
)
def test_perf_analyzer_measures_a_model(serve_models, connect_models, bundle_engine, options):
    """With random numbers, and an item id for every string, since a history names items."""
    address = serve_models(bundle_engine)[1]
    command = ["perf_analyzer", "-i", "grpc", "-u", address, *options, "--shape", "history:2"]
    command += ["--string-data", "i3", "--measurement-mode", "count_windows"]
    command += ["--measurement-request-count", "20", "--stability-percentage", "999"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Throughput: " in done.stdout
    # It takes these from ModelStatistics.
    assert "Successful request count: " in done.stdout
    assert "compute infer" in done.stdout
