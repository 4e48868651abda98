"""A server in a process of its own: started, awaited, stopped."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from fuserank.errors import ServerError, UnavailableError
from fuserank.server.client import Client

__all__ = ["serve_in_background"]

_ANNOUNCEMENT = "listening on "
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 45.0
_TAIL_CHARS = 4_000


@contextlib.contextmanager
def serve_in_background(
    bundle: Path,
    *,
    device: str = "auto",
    options: Sequence[str] = (),
    start_timeout_s: float = _START_TIMEOUT_S,
) -> Iterator[str]:
    """Serve a bundle from a process of its own, on a free port; yield the address once it is ready.

    Args:
        bundle: the bundle's directory.
        device: as in `fuserank serve`.
        options: further options of `fuserank serve`, such as ``["--max-k", "50"]``.
        start_timeout_s: seconds until it must be ready.

    Raises:
        ServerError: it does not become ready, or does not stop with exit code 0.
    """
    command = [sys.executable, "-m", "fuserank", "serve", str(bundle)]
    command += ["--host", "127.0.0.1", "--port", "0", "--device", device, *options]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield _await_ready(process, errors, time.monotonic() + start_timeout_s)
        finally:
            code = _stop(process)
        if code != 0:
            raise ServerError(f"the server stopped with exit code {code}: {_tail(errors)}")


def _await_ready(process: "subprocess.Popen[str]", errors: IO[str], deadline: float) -> str:
    """Return the address that the server announces, once it serves there."""
    assert process.stdout is not None  # a pipe was asked for
    # The line comes as soon as the port is bound, or the pipe closes as the process ends.
    line = process.stdout.readline().strip()
    if not line.startswith(_ANNOUNCEMENT):
        code = _stop(process)
        raise ServerError(f"the server ended at its start with exit code {code}: {_tail(errors)}")
    address = line.removeprefix(_ANNOUNCEMENT)
    with Client(address) as client:
        while True:
            try:
                client.wait_until_ready(timeout_s=1.0)
            except UnavailableError:
                if process.poll() is not None:
                    raise ServerError(
                        f"the server ended while it loaded the bundle, exit code "
                        f"{process.returncode}: {_tail(errors)}"
                    ) from None
                if time.monotonic() > deadline:
                    raise ServerError(f"{address}: not ready in time") from None
            else:
                return address


def _stop(process: "subprocess.Popen[str]") -> int:
    """Ask a process to stop and return its exit code; what does not stop in time is killed."""
    if process.poll() is None:
        process.terminate()
    try:
        code = process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return code


def _tail(errors: IO[str]) -> str:
    errors.flush()
    errors.seek(0)
    return errors.read()[-_TAIL_CHARS:].strip()
