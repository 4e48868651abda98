"""The protocol's service over a small real bundle, on a loopback server."""

import asyncio
import contextlib

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fuserank.engine.engine import load
from fuserank.server.api.health import Health
from fuserank.server.batching.served import Served
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.config import ServerConfig
from fuserank.server.http.config import HttpConfig
from fuserank.server.inference.servicer import SERVICE_NAME, InferenceServicer
from fuserank.server.pb import grpc_service_pb2_grpc

collect_ignore = ["tritonclient_calls.py"]  # clashes with our generated code, in one process


@pytest.fixture(scope="session")
def bundle_engine(tiny_bundle):
    with load(tiny_bundle.path, device="cpu", threads=1) as engine:
        yield engine


@pytest.fixture
def serve_models(on_loop):
    """Serve the models of engines, the first of which is active; return servicer and address."""
    with contextlib.ExitStack() as stack:

        def serve(*engines, **options):
            config = ServerConfig(port=0, http=HttpConfig(port=-1), **options)

            async def begin():
                bundles = Bundles(lambda path: None)
                for engine in engines:
                    served = Served(engine, loop=asyncio.get_running_loop())
                    await bundles.start(lambda served=served: served)
                health = Health([SERVICE_NAME])
                if engines:
                    health.set_serving()
                server = grpc.aio.server()
                servicer = InferenceServicer(config, bundles)
                grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
                health_pb2_grpc.add_HealthServicer_to_server(health, server)
                reflection.enable_server_reflection((SERVICE_NAME, reflection.SERVICE_NAME), server)
                port = server.add_insecure_port("127.0.0.1:0")
                await server.start()
                return server, servicer, port

            server, servicer, port = on_loop(begin())
            stack.callback(lambda: on_loop(server.stop(0)))
            return servicer, f"127.0.0.1:{port}"

        yield serve


@pytest.fixture
def connect_models():
    """Return stubs of the protocol's service."""
    with contextlib.ExitStack() as stack:

        def connect(address):
            channel = stack.enter_context(grpc.insecure_channel(address))
            return grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)

        yield connect
