"""Several processes serve one bundle: what each is to do, and what it does.

A worker is ``python -m fuserank.server.worker NUMBER`` under a supervisor; its job is the
first line of its standard input.
"""

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from fuserank.engine.providers import cores
from fuserank.errors import FuserankError
from fuserank.server.config import ServerConfig
from fuserank.server.main import run
from fuserank.server.monitoring.logs import LogFormat, log_to
from fuserank.server.workers.port import reserved_port
from fuserank.server.workers.runtime_folder import Seating, runtime_folder
from fuserank.server.workers.supervisor import Supervisor, WorkersConfig

__all__ = ["Job", "run_workers", "seated"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker serves; it comes as a line of JSON.

    Attributes:
        bundle: its directory, without links.
        folder: what all workers have in common; see `runtime_folder`.
        device: as ``--device`` of ``fuserank serve``.
        config: with the port that all workers share.
        threads: of its engine.
        index: its number among the workers, from 0.
        log_format: of the log.
    """

    bundle: str
    folder: str
    device: str
    config: ServerConfig
    threads: int
    index: int
    log_format: LogFormat

    def to_json(self) -> bytes:
        """Return the job as one line."""
        return msgspec.json.encode(self, enc_hook=str)

    @classmethod
    def from_json(cls, line: bytes) -> "Job":
        """Read what `to_json` wrote."""
        return msgspec.json.decode(line, type=cls, dec_hook=_from_json)


def run_workers(
    bundle: Path,
    config: ServerConfig,
    device: str,
    workers: WorkersConfig,
    log_format: LogFormat = LogFormat.TEXT,
) -> int:
    """Serve a bundle by several processes until told to stop, and return the exit code.

    Raises:
        ConfigError: this system cannot share ports, or has no folder for temporary files.
        ServerError: the address cannot be listened on, or a worker does not start.
    """
    command = [sys.executable, "-m", "fuserank.server.worker"]
    # All are to load the same, whatever a link leads to when one of them starts again.
    bundle = Path(os.path.realpath(bundle))
    with reserved_port(config.host, config.port) as port, runtime_folder() as folder:
        jobs = [
            Job(
                bundle=str(bundle),
                folder=str(folder),
                device=device,
                config=seated(config, port, index),
                threads=workers.threads or max(cores() // workers.processes, 1),
                index=index,
                log_format=log_format,
            ).to_json()
            for index in range(workers.processes)
        ]
        return asyncio.run(Supervisor(command, jobs, workers).run())


def main() -> int:
    """Serve the job on standard input until that ends or a signal comes; return the exit code."""
    job, supervisor = Job.from_json(sys.stdin.buffer.readline()), os.getppid()
    seating = Seating(folder=Path(job.folder), number=job.index, bundle=Path(job.bundle))
    try:
        with log_to(job.log_format):
            return run(seating.first, job.config, job.device, threads=job.threads, seating=seating)
    except FuserankError as error:
        print(f"fuserank: worker {job.index}: {error}", file=sys.stderr)
        return 1
    finally:
        if os.getppid() != supervisor:  # which was killed, and removes nothing
            shutil.rmtree(job.folder, ignore_errors=True)


def seated(config: ServerConfig, port: int, index: int) -> ServerConfig:
    """Return a worker's own options: the port that all share, and an HTTP port that none does.

    What is counted is counted by each worker, so that each must be read.
    """
    http = config.http
    if http.port > 0:
        http = replace(http, port=http.port + index)
    return replace(config, port=port, http=http)


def _from_json(kind: type, value: str) -> object:
    """Read what JSON has no kind for, and `to_json` wrote as a string."""
    if issubclass(kind, Path):
        return kind(value)
    raise NotImplementedError(f"{kind.__name__} does not travel to a worker")


if __name__ == "__main__":
    sys.exit(main())
