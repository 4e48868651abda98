"""The life of a server: bound, loading, serving, draining, stopped."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fuserank.errors import ServerError
from fuserank.server.api.admin import SERVICE_NAME as ADMIN_NAME
from fuserank.server.api.admin import AdminServicer
from fuserank.server.api.health import Health
from fuserank.server.api.servicer import SERVICE_NAME, RecommenderServicer
from fuserank.server.batching.admission import Admission
from fuserank.server.batching.answers import Answers
from fuserank.server.batching.served import Served, answer_again
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.shadow import Shadow
from fuserank.server.config import ServerConfig
from fuserank.server.http.http_port import HttpPort
from fuserank.server.http.sources import HttpSources
from fuserank.server.inference.servicer import SERVICE_NAME as INFERENCE_NAME
from fuserank.server.inference.servicer import InferenceServicer
from fuserank.server.monitoring.bundle_metrics import BundleCollector
from fuserank.server.monitoring.call_metrics import CallMetrics
from fuserank.server.monitoring.metrics import Metrics
from fuserank.server.monitoring.tracing import CallTracing, tracer_provider
from fuserank.server.pb import admin_pb2_grpc, grpc_service_pb2_grpc, recommender_pb2_grpc
from fuserank.server.security.auth import AuthInterceptor, exposures
from fuserank.server.security.guard import Guard
from fuserank.server.security.tls import server_credentials
from fuserank.server.security.tokens import Permission
from fuserank.server.workers.relay import Relay
from fuserank.server.workers.runtime_folder import RuntimeFolder, Seating
from fuserank.server.workers.seat import Seat

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine

__all__ = ["Server"]

logger = logging.getLogger(__name__)

_HEALTH_NAME: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


_SERVICES = (SERVICE_NAME, ADMIN_NAME, INFERENCE_NAME)


class Server:
    """One gRPC server over one bundle. Made and used on one running event loop."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        seating: Seating | None = None,
        open_engine: "Callable[[Path], Engine] | None" = None,
    ) -> None:
        """Set up the services; nothing listens yet.

        Args:
            config: where to listen, and limits.
            seating: which one it is of several processes that share the port; None where it is
                alone.
            open_engine: loads a further bundle while one serves; None where none may come.
        """
        self._config = config
        self._address = ""
        self._ready = False
        self._loop = asyncio.get_running_loop()
        self._open_engine, self._metrics = open_engine, Metrics()
        self._credentials = server_credentials(config.tls)
        self._health = Health(_SERVICES)
        self._answers = Answers(config.answers)
        self._bundles: Bundles[Served] = Bundles(self._open, config.bundles)
        self._relay: Relay | None = None
        self._seat: Seat | None = None
        if seating is not None:
            folder, most = RuntimeFolder(seating.folder), config.bundles.max_loaded
            self._relay = Relay(folder, self._bundles, most=most)
            self._seat = Seat(seating, self._bundles, self._answers.forget)
        self._shadow = Shadow(self._bundles, answer_again, config.shadow)
        admission = Admission(config.admission, self._metrics)  # one bound for both services
        self._servicer = RecommenderServicer(
            config,
            self._bundles,
            shadow=self._shadow,
            answers=self._answers,
            admission=admission,
        )
        self._inference = InferenceServicer(config, self._bundles, admission=admission)
        self._metrics.read_engine(self._engine)
        self._metrics.add(BundleCollector(self._bundles, self._shadow))
        auth = AuthInterceptor(config.auth, host=config.host, metrics=self._metrics)
        tokens = auth.tokens
        self._http = HttpPort(
            config.http,
            HttpSources(
                metrics=self._metrics,
                recommender=self._servicer,
                ready=lambda: self._ready,
                user_ids=lambda limit: engine.user_ids(limit) if (engine := self._engine()) else (),
                authorised=None
                if tokens is None
                else lambda header: tokens.permits(header, Permission.RECOMMEND),
            ),
        )
        self._tracer = tracer_provider() if config.tracing.enabled else None
        tracing = [] if self._tracer is None else [CallTracing(self._tracer)]
        self._server = grpc.aio.server(
            # Outermost first: what is refused is counted too, and no error says what a caller sent.
            interceptors=[CallMetrics(self._metrics), *tracing, auth, Guard()],
            options=_options(config, shared_port=seating is not None),
        )
        self._register()

    async def start(self) -> str:
        """Listen, not serving yet, and return the address with the port that was taken.

        Raises:
            ServerError: nothing can listen there.
        """
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        try:
            port = self._listen(f"{host}:{self._config.port}")
        except RuntimeError as error:
            raise ServerError(
                f"cannot listen on {host}:{self._config.port}: port {self._config.port} is in use, "
                f"or {host} is no address of this machine; stop what listens there, or choose "
                "another port (0 takes a free one)"
            ) from error
        for warning in exposures(self._config.host, self._config.tls, self._config.auth):
            logger.warning("%s", warning)
        await self._server.start()
        self._address = f"{host}:{port}"
        self.http_address = await self._http.start()
        if self.http_address is not None:
            logger.info("metrics, probes and the playground on http://%s/", self.http_address)
        return self._address

    async def load(self, load_engine: Callable[[], "Engine"]) -> None:
        """Load the engine on a thread, and what other processes have loaded, then serve from it.

        Args:
            load_engine: returns an engine that is warm, so that no request pays for it.

        Raises:
            FuserankError: the engine cannot be loaded.
        """
        info = (await self._bundles.start(lambda: self._served(load_engine()))).info
        if self._seat is not None:
            await self._seat.take(info.version)
            info = self._bundles.loaded()[0].info
        self._ready = True
        self._health.set_serving()
        logger.info("serving %s %s (%s) on %s", info.name, info.version, info.device, self._address)

    async def stop(self) -> None:
        """Take no more requests, finish those in flight within the grace, and let go of all."""
        self._ready = False
        self._health.close()
        self._servicer.drain()
        self._inference.drain()
        await self._server.stop(self._config.grace_s)
        if self._relay is not None and self._seat is not None:
            await self._relay.close()
            await self._seat.close()
        await self._shadow.close()
        await self._bundles.close()
        await self._http.stop()  # last: until then probes are told that it drains
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.shutdown)

    def _listen(self, address: str) -> int:
        if self._credentials is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, self._credentials))

    def _register(self) -> None:
        """Have the server answer for every service."""
        server = self._server
        recommender_pb2_grpc.add_RecommenderServiceServicer_to_server(  # type: ignore[no-untyped-call]
            self._servicer, server
        )
        admin = AdminServicer(self._bundles, self._shadow, self._answers.forget, relay=self._relay)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)  # type: ignore[no-untyped-call]
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(  # type: ignore[no-untyped-call]
            self._inference, server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*_SERVICES, _HEALTH_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)

    def _engine(self) -> "Engine | None":
        """Return what serves now."""
        return None if self._bundles.active is None else self._bundles.active.engine

    def _open(self, path: Path) -> Served:
        """Load a further bundle; on a thread."""
        assert self._open_engine is not None, "no folder of bundles was given"
        return self._served(self._open_engine(path))

    def _served(self, engine: "Engine") -> Served:
        config = self._config
        return Served(
            engine,
            config.batching,
            loop=self._loop,
            max_queue=config.admission.max_queue,
            threads=config.call_threads,
            answers=self._answers,
            metrics=self._metrics,
        )


def _options(config: ServerConfig, *, shared_port: bool) -> list[tuple[str, int]]:
    """Return what gRPC is told of ports, connections and messages."""
    admission = config.admission
    return [
        *config.connections.options(),
        # By default a second server would share the port, and each get half the calls.
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_concurrent_streams", admission.max_connection_calls),
        # Some of what comes is ended from the first number on, all of it from the second.
        ("grpc.server.max_pending_requests", (admission.max_backlog + 1) // 2),
        ("grpc.server.max_pending_requests_hard_limit", admission.max_backlog),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
    ]
