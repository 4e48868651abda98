"""A TCP port kept for processes that share it, from before they start until they have ended."""

import contextlib
import socket
from collections.abc import Iterator

from fuserank.errors import ConfigError, ServerError

__all__ = ["reserved_port"]


@contextlib.contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Keep a port for sockets of this user that set SO_REUSEPORT, and yield its number.

    Whoever shares a port by SO_REUSEPORT shares it with strangers too. So the port is taken alone
    first, which fails where anyone listens on it, and opened to sharing afterwards: from then on a
    socket that does not ask to share gets "address in use", as it would from a server.

    Args:
        host: what to listen on, as in `ServerConfig`.
        port: 0 takes a free one.

    Raises:
        ConfigError: this system cannot share ports.
        ServerError: the port is in use, or the host is no address of this machine.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError(
            "processes: found more than 1, expected 1: this system does not let processes share a "
            "port (SO_REUSEPORT)"
        )
    with contextlib.ExitStack() as stack:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            families = {family: address for family, *_, address in found}
            for family, address in families.items():
                port = port or _free_port(family, address[0])
                held = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                _hold(held, (address[0], port, *address[2:]))
        except OSError as error:
            raise ServerError(
                f"cannot listen on {host}:{port}: port {port} is in use, or {host} is no address "
                f"of this machine ({error}); stop what listens there, or choose another port (0 "
                "takes a free one)"
            ) from error
        yield port


def _free_port(family: int, host: str | int) -> int:
    """Return a free port; a socket that was given one would lose it when it ends to listen."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _hold(held: socket.socket, address: tuple[object, ...]) -> None:
    """Take an address alone, then open it to sharing; the socket itself accepts nothing."""
    if held.family == socket.AF_INET6:
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # Past connections that linger may stay; only a listener must not.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(address)
    held.listen(1)  # fails where another socket is bound, whatever that one allows
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.shutdown(socket.SHUT_RDWR)  # stays bound, but no connection comes here
