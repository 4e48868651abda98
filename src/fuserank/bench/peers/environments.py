"""The other servers, and the virtual environments that they are installed into."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuserank.bench.peers.client import BENTOML, LITSERVE, OIP

__all__ = ["PEERS", "Peer", "install", "python_of"]

_ONNXRUNTIME = "onnxruntime==1.31.1"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A server that can be measured.

    Attributes:
        name: for reports; its environment has that name.
        package: what is installed for it.
        module: the adapter.
        protocol: how it is called.
    """

    name: str
    package: str
    module: str
    protocol: str


PEERS = (
    Peer(name="pytriton", package="nvidia-pytriton==0.7.0", module="pytriton_app", protocol=OIP),
    Peer(name="mlserver", package="mlserver==1.7.1", module="mlserver_app", protocol=OIP),
    Peer(name="litserve", package="litserve==0.2.19", module="litserve_app", protocol=LITSERVE),
    Peer(name="bentoml", package="bentoml==1.4.40", module="bentoml_app", protocol=BENTOML),
    Peer(name="rayserve", package="ray[serve]==2.60.0", module="rayserve_app", protocol=OIP),
)


def python_of(peer: Peer, environments: Path) -> Path:
    """Return the interpreter of a peer's environment, which need not be there."""
    return environments.expanduser() / peer.name / "bin" / "python"


def install(environments: Path, only: Sequence[str], python: Path) -> dict[str, str]:
    """Make the virtual environments that are not there; return what failed, by peer.

    Args:
        environments: folder that they are made in.
        only: peers by name; all where there is none.
        python: interpreter that they are made with.
    """
    failed = {}
    for peer in PEERS:
        own = python_of(peer, environments)
        if (only and peer.name not in only) or own.exists():
            continue
        directory = own.parents[1]
        pip = [sys.executable, "-m", "pip", "--python", str(own), "install", "--quiet"]
        for command in (
            [str(python), "-m", "venv", "--without-pip", str(directory)],
            [*pip, peer.package, _ONNXRUNTIME],
        ):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                shutil.rmtree(directory, ignore_errors=True)
                failed[peer.name] = " ".join(done.stderr.strip().splitlines()[-1:])
                break
    return failed
