"""A server as a process of its own, for as long as a block of code runs."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

from fuserank.errors import ServerError, UnavailableError
from fuserank.server.client import Client

__all__ = ["running_server", "server_process"]

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
    with running(command, start_timeout_s=start_timeout_s) as address:
        yield address
