"""A server in a process of its own, for as long as a block of code runs."""

import contextlib
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
from fuserank.server.client.client import Client
from fuserank.server.workers.supervisor import ANNOUNCEMENT

__all__ = ["serve_in_background", "server_process"]

_TAIL_BYTES = 4_096


@contextlib.contextmanager
def serve_in_background(
    bundle: Path,
    *,
    device: str = "auto",
    options: Sequence[str] = (),
    start_timeout_s: float = 120.0,
) -> Iterator[str]:
    """Serve a bundle on a free port of this machine, and yield the address once it is ready.

    There is no HTTP port unless `options` ask for one: two servers would want the same.

    Args:
        bundle: the bundle's directory.
        device: what `fuserank serve` takes as ``--device``.
        options: further options of `fuserank serve`, such as ``["--max-k", "50"]``.
        start_timeout_s: seconds within which it must be ready.

    Raises:
        ServerError: it does not become ready, or does not stop with exit code 0.
    """
    command = [sys.executable, "-m", "fuserank", "serve", str(bundle), "--device", device]
    command += ["--host", "127.0.0.1", "--port", "0", *options]
    if not any(option.startswith("--http.port") for option in options):
        command += ["--http.port", "-1"]
    with server_process(command, start_timeout_s=start_timeout_s) as (_, address):
        yield address


@contextlib.contextmanager
def server_process(
    command: Sequence[str], *, start_timeout_s: float = 120.0, stop_timeout_s: float = 60.0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a command that serves, and yield its process and address once it is ready.

    The command announces itself by a line ``listening on HOST:PORT`` on stdout. After the block
    it is stopped by SIGTERM; where the block raises it is killed.

    Args:
        command: program and arguments.
        start_timeout_s: seconds within which it must be ready.
        stop_timeout_s: seconds within which it must stop.

    Raises:
        ServerError: it does not become ready, or does not stop with exit code 0.
    """
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        lines: SimpleQueue[str | None] = SimpleQueue()
        reader = threading.Thread(target=_read, args=(process, lines))
        reader.start()
        try:
            deadline = time.monotonic() + start_timeout_s
            address = _announced(process, lines, deadline, log)
            _wait_until_ready(process, address, deadline, log)
            yield process, address
            _stop(process, stop_timeout_s, log)
        finally:
            process.kill()  # does nothing to a process that has ended
            reader.join()


def _read(process: subprocess.Popen[str], lines: SimpleQueue[str | None]) -> None:
    """Take what the process prints off its pipe, which would fill up and block it."""
    for line in process.stdout or ():
        lines.put(line)
    lines.put(None)


def _announced(
    process: subprocess.Popen[str],
    lines: SimpleQueue[str | None],
    deadline: float,
    log: IO[bytes],
) -> str:
    while True:
        try:
            line = lines.get(timeout=max(deadline - time.monotonic(), 0.0))
        except Empty:
            raise ServerError(f"the server does not listen in time\n{_tail(log)}") from None
        if line is None:
            raise _exited(process.wait(), log)
        if line.startswith(ANNOUNCEMENT):
            return line.removeprefix(ANNOUNCEMENT).strip()


def _wait_until_ready(
    process: subprocess.Popen[str], address: str, deadline: float, log: IO[bytes]
) -> None:
    with Client(address) as client:
        while True:
            try:
                # In short turns, because a client does not see that a process has ended.
                return client.wait_until_ready(min(1.0, max(deadline - time.monotonic(), 0.01)))
            except UnavailableError as error:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    raise _exited(process.wait(timeout=0.1), log) from error
                if time.monotonic() >= deadline:
                    raise ServerError(f"the server is not ready in time\n{_tail(log)}") from error


def _stop(process: subprocess.Popen[str], timeout_s: float, log: IO[bytes]) -> None:
    process.terminate()
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ServerError(
            f"the server goes on {timeout_s:g} s after SIGTERM and was killed\n{_tail(log)}"
        ) from error
    if code != 0:
        raise _exited(code, log)


def _exited(code: int, log: IO[bytes]) -> ServerError:
    return ServerError(f"the server ended with exit code {code}\n{_tail(log)}")


def _tail(log: IO[bytes]) -> str:
    """Return the end of what the process wrote to stderr."""
    size = log.seek(0, 2)
    log.seek(max(size - _TAIL_BYTES, 0))
    return log.read().decode(errors="replace").strip()
