"""The command that serves a bundle."""

import logging
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fuserank.engine.providers import Device
from fuserank.server.config import ServerConfig
from fuserank.server.main import run

__all__ = ["serve"]

_DEFAULTS = ServerConfig()


def serve(
    bundle: Path,
    *,
    config: Annotated[ServerConfig, Parameter(name="*")] = _DEFAULTS,
    device: Device = Device.AUTO,
) -> int:
    """Serve a bundle over gRPC until SIGTERM or Ctrl-C.

    Args:
        bundle: The bundle's directory.
        config: Addresses and limits.
        device: Where graphs run.
    """
    logging.getLogger("fuserank").setLevel(logging.INFO)
    return run(bundle, config, device.value)
