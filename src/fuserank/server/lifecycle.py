"""The life of a server: bound, loading, serving, draining, stopped."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fuserank.errors import ServerError
from fuserank.server.config import ServerConfig
from fuserank.server.health import Health
from fuserank.server.pb import recommender_pb2_grpc
from fuserank.server.servicer import SERVICE_NAME, RecommenderServicer

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine

__all__ = ["Server"]

logger = logging.getLogger(__name__)

_HEALTH_NAME: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Server:
    """One gRPC server over one bundle. Made and used on one running event loop."""

    def __init__(self, config: ServerConfig) -> None:
        """Set up the services; nothing listens yet."""
        self._config = config
        self._address = ""
        self._health = Health([SERVICE_NAME])
        self._servicer = RecommenderServicer(config)
        self._server = grpc.aio.server(
            options=[
                # By default a second server would share the port, and each get half the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", config.max_message_bytes),
            ]
        )
        recommender_pb2_grpc.add_RecommenderServiceServicer_to_server(  # type: ignore[no-untyped-call]
            self._servicer, self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE_NAME, _HEALTH_NAME, reflection.SERVICE_NAME), self._server
        )

    async def start(self) -> str:
        """Listen, not serving yet, and return the address with the port that was taken.

        Raises:
            ServerError: nothing can listen there.
        """
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        try:
            port = self._server.add_insecure_port(f"{host}:{self._config.port}")
        except RuntimeError as error:
            raise ServerError(
                f"cannot listen on {host}:{self._config.port}: port {self._config.port} is in use, "
                f"or {host} is no address of this machine; stop what listens there, or choose "
                "another port (0 takes a free one)"
            ) from error
        await self._server.start()
        self._address = f"{host}:{port}"
        return self._address

    async def load(self, load_engine: Callable[[], "Engine"]) -> None:
        """Load the engine on a thread, then serve from it.

        Args:
            load_engine: returns an engine that is warm, so that no request pays for it.

        Raises:
            FuserankError: the engine cannot be loaded.
        """
        engine = await asyncio.to_thread(load_engine)
        self._servicer.attach(engine)
        self._health.set_serving()
        info = engine.info
        logger.info("serving %s %s (%s) on %s", info.name, info.version, info.device, self._address)

    async def stop(self) -> None:
        """Take no more requests, finish those in flight within the grace, and let go of all."""
        self._health.close()
        await self._server.stop(self._config.grace_s)
        await asyncio.to_thread(self._servicer.close)
