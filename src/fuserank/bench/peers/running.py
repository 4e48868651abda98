"""One server at a time: started, asked from another process, and stopped with all it started."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

import fuserank
from fuserank.bench.peers.client import Demand, Observed
from fuserank.bench.peers.ranking import GRAPH

__all__ = ["NotRunningError", "System", "ask", "serving"]

_STOP_S = 20.0
_TAIL_BYTES = 2_000


class NotRunningError(Exception):
    """A server did not come up, or did not answer."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A server that can be started.

    Attributes:
        name: for reports.
        package: what is installed for it.
        protocol: how it is called.
        command: what starts it, when the port is added.
    """

    name: str
    package: str
    protocol: str
    command: tuple[str, ...]


@contextlib.contextmanager
def serving(system: System, graph: Path) -> Iterator[str]:
    """Run a server for as long as the block runs, and yield where it will listen."""
    port = _free_port()
    environment = os.environ | {
        GRAPH: str(graph),
        "PYTHONPATH": str(Path(fuserank.__file__).parents[1]),
        "PYTHONWARNINGS": "ignore",
        "BENTOML_DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [*system.command, str(port)], env=environment, cwd=home, stdout=log, stderr=log
        )
        try:
            yield f"127.0.0.1:{port}"
        except NotRunningError as error:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(size - _TAIL_BYTES, 0))
            words = log.read().decode(errors="replace").strip()
            raise NotRunningError(f"{error}\n{words}") from error
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a server and whatever it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        for child in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()  # nothing where it has ended: psutil knows a process by its start
        psutil.wait_procs(started, _STOP_S)
    process.kill()
    process.wait()


def ask(demand: Demand) -> Observed:
    """Have a process of its own ask.

    Raises:
        NotRunningError: the server did not answer.
    """
    done = subprocess.run(
        [sys.executable, "-m", "fuserank.bench.peers.client"],
        input=msgspec.json.encode(demand),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NotRunningError(f"did not answer: {' '.join(last)}")
    return msgspec.json.decode(done.stdout, type=Observed)


def _free_port() -> int:
    """Return a port that is free, as are likely the two that follow, which some servers take."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
