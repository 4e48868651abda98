"""How a client reaches servers: encryption, token, retries and several addresses."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import grpc

from fuserank.errors import ConfigError
from fuserank.server.config import ServerConfig
from fuserank.server.security.loopback import is_loopback

__all__ = ["ChannelKeywords", "ChannelOptions", "open_async_channel", "open_channel"]

_MAX_ATTEMPTS = 5  # gRPC makes no more, whatever it is told
_RETRIED = "fuserank.v1.RecommenderService"
_KEEPALIVE_TIMEOUT_S = 20.0
# The server's own limit (`ConnectionConfig`) is below this, or it would hang up.
_LEAST_KEEPALIVE_S = 10.0
_SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract):(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ChannelOptions:
    """How a client connects; the files are PEM.

    Attributes:
        tls: encrypt, and trust the authorities that gRPC ships. Files switch it on by themselves.
        tls_ca: certificates of the authorities to trust instead, or the server's own.
        certificate: of this client, for servers that ask for one.
        key: of the certificate.
        token: sent with each call.
        plaintext_token: send the token over a network that is not encrypted, too.
        max_message_bytes: size of one message, either way.
        attempts: how often one call is tried, 1 to 5; only what no server took up is tried again,
            and not while most calls fail.
        keepalive_s: seconds of silence during a call after which the server is asked whether it is
            still there; 10 or more.
    """

    tls: bool = False
    tls_ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    token: str | None = field(default=None, repr=False)
    plaintext_token: bool = False
    max_message_bytes: int = ServerConfig.max_message_bytes
    attempts: int = 4
    keepalive_s: float = 30.0

    def __post_init__(self) -> None:
        """Raise ConfigError where options contradict each other or are out of range."""
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("certificate, key: found one of the two, expected both or neither")
        if not 1 <= self.attempts <= _MAX_ATTEMPTS:
            raise ConfigError(f"attempts: found {self.attempts}, expected 1 to {_MAX_ATTEMPTS}")
        if not _LEAST_KEEPALIVE_S <= self.keepalive_s < float("inf"):
            raise ConfigError(
                f"keepalive_s: found {self.keepalive_s}, expected {_LEAST_KEEPALIVE_S:g} or more: "
                "servers hang up on whoever asks more often"
            )
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise ConfigError(
                "token: found spaces or characters beyond ASCII, expected the token alone; a file "
                "may have put a line break behind it"
            )

    @property
    def encrypted(self) -> bool:
        """Whether the connection is."""
        return self.tls or self.tls_ca is not None or self.certificate is not None


class ChannelKeywords(TypedDict, total=False):
    """The attributes of `ChannelOptions`, as keywords of the clients."""

    tls: bool
    tls_ca: Path | str | None
    certificate: Path | str | None
    key: Path | str | None
    token: str | None
    plaintext_token: bool
    max_message_bytes: int
    attempts: int
    keepalive_s: float


def open_channel(address: str, options: ChannelOptions | None = None) -> grpc.Channel:
    """Return a channel to the servers at an address; the first call connects it.

    Args:
        address: ``host:port``, or a target of gRPC such as ``dns:///host:port`` or
            ``ipv4:10.0.0.1:8001,10.0.0.2:8001``. Calls go to the addresses in turn.
        options: how to connect.

    Raises:
        ConfigError: a file cannot be read, or the token would be sent in the clear.
    """
    options = options or ChannelOptions()
    return _opened(address, options, grpc.secure_channel, grpc.insecure_channel)


def open_async_channel(address: str, options: ChannelOptions | None = None) -> grpc.aio.Channel:
    """Return `open_channel`'s channel for the event loop that runs."""
    options = options or ChannelOptions()
    return _opened(address, options, grpc.aio.secure_channel, grpc.aio.insecure_channel)


def _opened(
    address: str,
    options: ChannelOptions,
    secure: Callable[..., Any],
    insecure: Callable[..., Any],
) -> Any:
    stays_here = _stays_here(address)
    private = options.encrypted or options.plaintext_token or stays_here
    if options.token is not None and not private:
        raise ConfigError(
            f"{address}: the token would be sent in the clear, expected tls_ca or tls; "
            "plaintext_token allows it on a network that you trust"
        )
    arguments = _arguments(options)
    if stays_here:  # and is not sent to a proxy that the environment names
        arguments.append(("grpc.enable_http_proxy", 0))
    if options.encrypted:
        channel = secure(address, _credentials(options), arguments)
    else:
        channel = insecure(address, arguments)
    return channel if options.token is None else _ChannelWithToken(channel, options.token)


def _credentials(options: ChannelOptions) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_content("tls_ca", options.tls_ca),
        private_key=_content("key", options.key),
        certificate_chain=_content("certificate", options.certificate),
    )


def _content(option: str, path: Path | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{option}: {path} cannot be read ({error.strerror}), expected a PEM file"
        ) from error
    # gRPC goes on without what it cannot read, and fails each call later.
    if b"-----BEGIN " not in content:
        raise ConfigError(f"{option}: {path} holds nothing in PEM, expected a PEM file")
    return content


def _arguments(options: ChannelOptions) -> list[tuple[str, int | str]]:
    return [
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.keepalive_time_ms", round(options.keepalive_s * 1e3)),
        ("grpc.keepalive_timeout_ms", round(_KEEPALIVE_TIMEOUT_S * 1e3)),
        ("grpc.service_config", json.dumps(_service_config(options.attempts))),
    ]


def _service_config(attempts: int) -> dict[str, object]:
    """Return what gRPC does by itself: calls in turn to all addresses, and retries.

    Only calls of the RecommenderService are tried again: all of them may be repeated, which is not
    so of a rollback. UNAVAILABLE means that no server took the call up, or that it stops.

    Source: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
    """
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if attempts > 1:
        config["methodConfig"] = [
            {
                "name": [{"service": _RETRIED}],
                "retryPolicy": {
                    "maxAttempts": attempts,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
        # A failure costs a token and a success gives a tenth back; below half of them nothing is
        # tried again, so that clients do not multiply the load on servers that fail.
        config["retryThrottling"] = {"maxTokens": 20, "tokenRatio": 0.1}
    return config


def _stays_here(address: str) -> bool:
    """Return whether nothing sent to an address leaves this machine."""
    found = _SCHEME.fullmatch(address)
    scheme, rest = found.groups() if found else ("", address)
    if scheme.startswith("unix"):
        return True
    hosts = (re.sub(r":\d+$", "", one) for one in rest.removeprefix("///").split(","))
    return all(is_loopback(host.strip("[]")) for host in hosts)


class _ChannelWithToken:
    """A channel that sends a token with each call.

    For both kinds of channel, over TLS and without. An interceptor or gRPC's call credentials do
    the same and cost a tenth of a small call.
    """

    def __init__(self, channel: Any, token: str) -> None:
        self._channel = channel
        self._headers = (("authorization", f"Bearer {token}"),)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._channel, name)
        if name not in {"unary_unary", "unary_stream", "stream_unary", "stream_stream"}:
            return found
        return lambda *args, **options: _CallWithToken(found(*args, **options), self._headers)

    def __enter__(self) -> "_ChannelWithToken":
        self._channel.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._channel.__exit__(*error)

    async def __aenter__(self) -> "_ChannelWithToken":
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._channel.__aexit__(*error)


class _CallWithToken:
    """One method of such a channel."""

    def __init__(self, method: Any, headers: Sequence[tuple[str, str]]) -> None:
        self._method, self._headers = method, headers

    def __call__(self, *args: Any, metadata: Any = (), **options: Any) -> Any:
        return self._method(*args, metadata=(*(metadata or ()), *self._headers), **options)

    def __getattr__(self, name: str) -> "_CallWithToken":
        # Other ways to make the call: with_call, future.
        return _CallWithToken(getattr(self._method, name), self._headers)
