"""Commands for operators of a running server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from rich.table import Table

from fuserank import console
from fuserank.errors import ConfigError
from fuserank.server.client.admin_client import AdminClient
from fuserank.server.messages.admin_conversion import LoadedBundle

__all__ = ["admin"]

admin = cyclopts.App(name="admin")

Json = Annotated[bool, Parameter(name="--json", negative="")]


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """Which server is meant.

    Attributes:
        address: HOST:PORT of the server.
        timeout_s: seconds that the call may take; a load goes on in the server after that.
        token_file: file that holds a token with the permission admin, and nothing else.
        tls: encrypt, and trust the authorities that gRPC ships.
        tls_ca: PEM file of the authorities to trust instead, or of the server's own certificate.
        certificate: PEM file of a certificate of yours, for a server that asks for one.
        key: PEM file of its key.
    """

    address: str = "127.0.0.1:8001"
    timeout_s: float = 600.0
    token_file: Path | None = None
    tls: bool = False
    tls_ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        if not 0.0 < self.timeout_s < float("inf"):
            raise ConfigError(f"timeout_s: found {self.timeout_s}, expected more than 0 seconds")

    def connect(self) -> AdminClient:
        """Return a client of the server.

        Raises:
            ConfigError: the options contradict each other, or a file cannot be read.
        """
        return AdminClient(
            self.address,
            timeout_s=self.timeout_s,
            token=None if self.token_file is None else _token(self.token_file),
            tls=self.tls,
            tls_ca=self.tls_ca,
            certificate=self.certificate,
            key=self.key,
        )


Server = Annotated[ServerAddress, Parameter(name="*")]
_DEFAULTS = ServerAddress()


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What forgetting a user came to.

    Attributes:
        dropped_count: answers that were kept and are no more.
    """

    dropped_count: int


@admin.command(name="list")
def list_bundles(*, server: Server = _DEFAULTS, json: Json = False) -> None:
    """List what is loaded, and how candidates compare with the bundle that serves.

    Example: fuserank admin list

    Args:
        server: Which server is meant.
        json: Print JSON.
    """
    with server.connect() as client:
        _show(client.list(), json)


@admin.command
def load(name: str, *, server: Server = _DEFAULTS, json: Json = False) -> None:
    """Check, load and warm a bundle beside the one that serves.

    Example: fuserank admin load movielens-2026-11

    Args:
        name: Name of its directory in the server's folder of bundles.
        server: Which server is meant.
        json: Print JSON.
    """
    with server.connect() as client, console.progress(f"loading {name}"):
        loaded = client.load(name)
    _show(loaded, json)


@admin.command
def promote(version: str, *, server: Server = _DEFAULTS, json: Json = False) -> None:
    """Have a loaded bundle serve from now on; calls under way end with the one they began with.

    Example: fuserank admin promote 5d41402abc4b

    Args:
        version: As 'fuserank admin list' shows it.
        server: Which server is meant.
        json: Print JSON.
    """
    with server.connect() as client:
        _show(client.promote(version), json)


@admin.command
def rollback(*, server: Server = _DEFAULTS, json: Json = False) -> None:
    """Have the bundle serve again that did before the last promotion.

    Example: fuserank admin rollback

    Args:
        server: Which server is meant.
        json: Print JSON.
    """
    with server.connect() as client:
        _show(client.rollback(), json)


@admin.command
def forget(user_id: str, *, server: Server = _DEFAULTS, json: Json = False) -> None:
    """Drop what the server keeps of a user between requests.

    Example: fuserank admin forget 42

    Args:
        user_id: The value of the field by which the bundle knows users.
        server: Which server is meant.
        json: Print JSON.
    """
    with server.connect() as client:
        forgotten = Forgotten(dropped_count=client.forget(user_id))
    if json:
        console.print_json(forgotten)
    else:
        console.out.print(f"forgotten; {forgotten.dropped_count} kept answers dropped")


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"token_file: {path} cannot be read, expected a token: {error}"
        ) from error


def _show(found: LoadedBundle | Sequence[LoadedBundle], json: bool) -> None:
    if json:
        console.print_json(found)
        return
    bundles = [found] if isinstance(found, LoadedBundle) else found
    table = Table(box=None)
    # To be copied whole, however narrow the terminal is.
    longest = max((len(bundle.info.version) for bundle in bundles), default=0)
    table.add_column("version", no_wrap=True, min_width=longest)
    table.add_column("role", no_wrap=True, min_width=len("candidate"))
    for heading in ("name", "model", "device"):
        table.add_column(heading)
    for heading in ("items", "compared", "overlap", "failed"):
        table.add_column(heading, justify="right")
    for bundle in bundles:
        info = bundle.info
        table.add_row(
            *(info.version, bundle.role, info.name, info.model, info.device),
            f"{info.n_items:,}",
            *_shadow_cells(bundle),
        )
    console.out.print(table)


def _shadow_cells(bundle: LoadedBundle) -> tuple[str, str, str]:
    shadow = bundle.shadow
    if shadow is None:
        return "", "", ""
    overlap = shadow.rank_biased_overlap
    return (
        f"{shadow.request_count:,}",
        "" if overlap is None else f"{overlap:.3f}",
        f"{shadow.error_count:,}",
    )
