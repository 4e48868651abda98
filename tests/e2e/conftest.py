import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuserank.training.data.movielens import default_cache


@pytest.fixture(scope="session")
def cache() -> Path:
    """The user's cache, so that what the demonstration made is not made again."""
    return default_cache(os.environ)


@pytest.fixture(scope="session")
def demo_output(cache: Path) -> str:
    """What the demonstration prints."""
    done = subprocess.run(
        [sys.executable, "-m", "fuserank", "demo"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="session")
def bundle(demo_output: str, cache: Path) -> Path:
    """The bundle that the demonstration made."""
    assert demo_output
    return cache / "demo" / "movielens.bundle"


@pytest.fixture(scope="session")
def dataset_path(bundle: Path, cache: Path) -> Path:
    return cache / "movielens-100k" / "dataset.toml"
