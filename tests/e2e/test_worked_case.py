"""The worked case: preferences that are drawn from shared topics, learned from words alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def test_nearly_all_that_can_be_known_is_learned(bundle, cache):
    assert bundle.exists()
    example = Path(__file__).parents[2] / "examples" / "worked_case.py"
    done = subprocess.run(
        [sys.executable, str(example), str(cache / "demo" / "minilm")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = {
        name: float(value)
        for name, value in re.findall(r"^(accuracy|recall|F1)\s+([\d.]+)", done.stdout, re.M)
    }
    at_most = float(re.search(r"every chance: ([\d.]+)", done.stdout)[1])
    assert found["accuracy"] > at_most - 0.03
    assert found["recall"] > 0.8
    assert found["F1"] > 0.8
