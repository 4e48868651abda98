"""The HTTP port beside the gRPC port: metrics, probes and the playground."""

import logging
from typing import TYPE_CHECKING

from fuserank.errors import ServerError
from fuserank.server.http.config import HttpConfig
from fuserank.server.http.sources import HttpSources
from fuserank.server.security.loopback import is_loopback

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["HttpPort"]

logger = logging.getLogger(__name__)

_STOP_S = 2.0


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
