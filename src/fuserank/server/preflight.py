"""What can be told before serving: whether a server would come up with these options."""

import dataclasses
import functools
import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from fuserank.bundle import Bundle
from fuserank.engine.providers import Device, resolve_device
from fuserank.errors import FuserankError, ServerError
from fuserank.server.config import ServerConfig
from fuserank.server.security.auth import AuthConfig
from fuserank.server.security.tls import TlsConfig, server_credentials
from fuserank.server.security.tokens import Tokens
from fuserank.server.worker import seated
from fuserank.server.workers.runtime_folder import runtime_folder

__all__ = ["as_toml", "check", "report"]


def report(
    bundle: Path,
    config: ServerConfig,
    others: Mapping[str, object],
    device: Device,
    processes: int = 1,
) -> int:
    """Print the options in effect on stdout and what is wrong on stderr; return the exit code.

    Args:
        bundle: the bundle's directory.
        config: of the server.
        others: options that are not in `config`, by name.
        device: where graphs would run.
        processes: how many would serve.
    """
    sys.stdout.write(as_toml({"bundle": bundle, **others, **_values(config)}))
    problems = list(check(bundle, config, device, processes))
    for problem in problems:
        print(f"fuserank: {problem}", file=sys.stderr)
    return 1 if problems else 0


def check(bundle: Path, config: ServerConfig, device: Device, processes: int = 1) -> Iterator[str]:
    """Yield what keeps a server from coming up, each thing as a sentence."""
    with ExitStack() as taken:
        checks: list[Callable[[], object]] = [
            lambda: resolve_device(device),
            # Reads every file: a damaged one would be found when the server starts, too late.
            lambda: Bundle.open(bundle).schema,
            *_group_checks(config),
            lambda: taken.enter_context(_take("port", config.host, config.port)),
        ]
        if config.http.enabled:
            checks += [
                functools.partial(_take_http, taken, config, number) for number in range(processes)
            ]
        if processes > 1:
            checks.append(lambda: taken.enter_context(runtime_folder()))
        for one in checks:
            try:
                one()
            except FuserankError as error:
                yield str(error)


def _group_checks(config: object) -> Iterator[Callable[[], object]]:
    """Yield what opens the files that the groups of options name."""
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        group = getattr(config, field.name)
        if isinstance(group, TlsConfig):
            yield functools.partial(server_credentials, group)
        elif isinstance(group, AuthConfig) and group.token_file is not None:
            yield functools.partial(Tokens, group.token_file)


def as_toml(options: Mapping[str, object]) -> str:
    """Return options as a file that ``--config`` reads; those that are None are left out.

    >>> print(as_toml({"max_k": 5, "http": {"host": "::1"}}), end="")
    max-k = 5
    <BLANKLINE>
    [http]
    host = "::1"
    """
    lines = [
        f"{_key(name)} = {_toml(value)}"
        for name, value in options.items()
        if value is not None and not isinstance(value, Mapping)
    ]
    for name, group in options.items():
        if isinstance(group, Mapping):
            lines += ["", f"[{_key(name)}]", as_toml(group).rstrip("\n")]
    return "\n".join(lines) + "\n"


def _take_http(taken: ExitStack, config: ServerConfig, number: int) -> None:
    """Listen on the HTTP port that a worker would take."""
    http = seated(config, config.port, number).http
    taken.enter_context(_take("http.port", http.host, http.port))


def _take(option: str, host: str, port: int) -> socket.socket:
    """Listen as the server would; two options cannot have one port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        try:
            # What closed connections leave behind does not keep a server from listening.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(1)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise ServerError(
            f"{option}: cannot listen on {host}:{port}: {error.strerror or error}; stop what "
            "listens there, or choose another port (0 takes a free one)"
        ) from error
    return found


def _values(config: object) -> dict[str, object]:
    return {
        field.name: _values(value) if dataclasses.is_dataclass(value) else value
        for field in dataclasses.fields(config)  # type: ignore[arg-type]
        for value in [getattr(config, field.name)]
    }


def _key(name: str) -> str:
    return name.replace("_", "-")


def _toml(value: object) -> str:
    if isinstance(value, (bool, int, float)):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, value))}]"
    # TOML takes the escapes of JSON, and lets DEL stand nowhere.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
