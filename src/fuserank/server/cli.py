"""The command that serves a bundle."""

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fuserank.engine.providers import Device
from fuserank.server import preflight
from fuserank.server.config import ServerConfig
from fuserank.server.main import run
from fuserank.server.monitoring.logs import LogFormat, log_to
from fuserank.server.worker import run_workers
from fuserank.server.workers.supervisor import WorkersConfig

__all__ = ["serve"]

_DEFAULTS = ServerConfig()
_ONE_PROCESS = WorkersConfig()


def serve(
    bundle: Path,
    *,
    server: Annotated[ServerConfig, Parameter(name="*")] = _DEFAULTS,
    workers: Annotated[WorkersConfig, Parameter(name="*")] = _ONE_PROCESS,
    device: Device = Device.AUTO,
    log_format: LogFormat = LogFormat.TEXT,
    config: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Serve a bundle over gRPC until SIGTERM or Ctrl-C.

    The first signal lets what is in flight finish; a second one ends the process at once.

    Args:
        bundle: The bundle's directory.
        server: Addresses and limits.
        workers: Processes that share the port.
        device: Where graphs run.
        log_format: How the log on stderr is written.
        config: A TOML file with any of these options by their names; options given on the command
            line go before it, and environment variables too.
        dry_run: Check everything, print the options as they are in effect, and do not serve.
    """
    with log_to(log_format):
        if dry_run:
            return preflight.report(
                bundle,
                server,
                {"device": device, "log_format": log_format} | dataclasses.asdict(workers),
                device,
                workers.processes,
            )
        if workers.processes > 1:
            return run_workers(bundle, server, device.value, workers, log_format)
        return run(bundle, server, device.value, threads=workers.threads)
