"""The HTTP port beside the gRPC port: metrics, probes and the playground."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuserank.errors import ConfigError, ServerError
from fuserank.server.security.loopback import is_loopback

if TYPE_CHECKING:
    from aiohttp import web

    from fuserank.server.api.servicer import RecommenderServicer
    from fuserank.server.monitoring.metrics import Metrics

__all__ = ["HttpConfig", "HttpPort", "HttpSources"]

logger = logging.getLogger(__name__)

_STOP_S = 2.0


@dataclass(frozen=True, kw_only=True)
class HttpConfig:
    """Where metrics, probes and the playground are.

    Attributes:
        host: address to listen on; "0.0.0.0" or "::" for every interface.
        port: TCP port; 0 takes a free one, -1 opens none.
    """

    host: str = "127.0.0.1"
    port: int = 8002

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        if not self.host or self.host != self.host.strip():
            raise ConfigError(
                f"http.host: found {self.host!r}, expected a name or an address such as '127.0.0.1'"
            )
        if not -1 <= self.port <= 65_535:
            raise ConfigError(
                f"http.port: found {self.port}, expected 0 to 65535 (0 takes a port that is "
                "free), or -1 for no HTTP port"
            )

    @property
    def enabled(self) -> bool:
        """Whether there is an HTTP port."""
        return self.port >= 0


@dataclass(frozen=True, kw_only=True)
class HttpSources:
    """What the HTTP port shows.

    Attributes:
        metrics: for ``/metrics``.
        recommender: answers the playground.
        ready: whether requests are answered, for ``/healthz``.
        user_ids: returns at most so many users that the bundle knows, for the playground.
        authorised: whether an ``Authorization`` header, or its absence (None), may use the
            playground; None where everybody may.
    """

    metrics: "Metrics"
    recommender: "RecommenderServicer"
    ready: Callable[[], bool]
    user_ids: Callable[[int], Sequence[str]] = lambda limit: ()
    authorised: Callable[[str | None], bool] | None = None


class HttpPort:
    """Listens on the running event loop, beside the gRPC server."""

    def __init__(self, config: HttpConfig, sources: HttpSources) -> None:
        """Take what is to be shown; nothing listens yet."""
        self._config = config
        self._sources = sources
        self._runner: web.AppRunner | None = None

    async def start(self) -> str | None:
        """Listen, and return the address, with the port that was taken; None where it is off.

        Raises:
            ServerError: nothing can listen there.
        """
        config = self._config
        if not config.enabled:
            return None
        # Here, because it takes .3 s to import and most processes have no such port.
        from aiohttp import web

        from fuserank.server.http.http_api import application

        loopback = is_loopback(config.host)
        if self._sources.authorised is not None and not loopback:
            logger.warning(
                "the playground on %s takes tokens, and the HTTP port has no TLS: put a proxy "
                "that has before it",
                config.host,
            )
        app = application(self._sources, loopback=loopback)
        # A browser that asks again drops what it asked before: so does the server.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=_STOP_S,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, config.host, config.port).start()
        except OSError as error:
            await self.stop()
            raise ServerError(
                f"cannot listen on {config.host}:{config.port}: {error.strerror or error}; stop "
                "what listens there, or choose another port with --http.port (0 takes a free "
                "one, -1 opens none)"
            ) from error
        host = f"[{config.host}]" if ":" in config.host else config.host
        return f"{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening; what is being answered has two seconds."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
