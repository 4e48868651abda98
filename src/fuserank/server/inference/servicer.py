"""The gRPC service of the Open Inference Protocol."""
# ruff: noqa: N802 - methods have the names of their RPCs.

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import grpc

import fuserank
from fuserank.engine.results import BundleInfo
from fuserank.errors import UnavailableError, UnknownVersionError
from fuserank.server.api.answering import (
    Context,
    always_answered,
    answered,
    deadline_of,
    fail,
    log_internal,
    tracing,
)
from fuserank.server.batching.admission import Admission
from fuserank.server.config import ServerConfig
from fuserank.server.inference.answers import Serving, reply_to, run
from fuserank.server.inference.models import PLATFORM, Model, find_model, models_of, number_of
from fuserank.server.inference.requests import max_batch_size, read_inputs, wanted_outputs
from fuserank.server.inference.statistics import Stages, Statistics
from fuserank.server.inference.streams import OrderedStream
from fuserank.server.messages.status import status_of
from fuserank.server.pb import grpc_service_pb2 as pb
from fuserank.server.pb import grpc_service_pb2_grpc

__all__ = ["SERVICE_NAME", "InferenceServicer", "LoadedBundles"]

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

_EXTENSIONS = ("model_configuration", "statistics")

_MAX_QUOTED_CHARS = 100


class _Loaded(Protocol):
    @property
    def info(self) -> BundleInfo: ...


class LoadedBundles(Protocol):
    """What the service answers from: `fuserank.server.bundles.bundles.Bundles`."""

    def lease(self, version: str | None = None) -> AbstractContextManager[Serving]:
        """Return the bundle of a version, or the one that serves, open until it is left."""

    def loaded(self) -> Sequence[_Loaded]:
        """Return what is loaded, the bundle that serves first."""


class InferenceServicer(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """`inference.GRPCInferenceService` over the bundles that are loaded.

    Attributes:
        admission: of every call but those that ask whether the server runs, and what it is.
    """

    def __init__(
        self, config: ServerConfig, bundles: LoadedBundles, *, admission: Admission | None = None
    ) -> None:
        """Limit requests to what `config` allows.

        Args:
            config: limits.
            bundles: what is loaded.
            admission: of every call, shared with other services; None makes one of its own.
        """
        self._config, self._bundles = config, bundles
        self.admission = admission or Admission(config.admission)
        self._statistics = Statistics()
        self._streams: set[OrderedStream[Any, Any]] = set()

    def drain(self) -> None:
        """Read no more of the streams; each ends when what was read of it is answered."""
        for stream in self._streams:
            stream.drain()

    @always_answered
    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: Context
    ) -> pb.ServerLiveResponse:
        """Say that the server runs."""
        return pb.ServerLiveResponse(live=True)

    @always_answered
    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        """Say whether a bundle serves."""
        try:
            with self._bundles.lease():
                return pb.ServerReadyResponse(ready=True)
        except UnavailableError:
            return pb.ServerReadyResponse(ready=False)

    @answered
    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        """Say whether there is such a model."""
        try:
            self._model(request.name, request.version)
        except (UnavailableError, UnknownVersionError):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    @always_answered
    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        """Describe the server."""
        return pb.ServerMetadataResponse(
            name=PLATFORM, version=fuserank.__version__, extensions=_EXTENSIONS
        )

    @answered
    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """Describe a model."""
        model = self._model(request.name, request.version)
        versions = [one.version for one in self._models() if one.name == model.name]
        return model.metadata(versions)

    @answered
    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: Context
    ) -> pb.ModelConfigResponse:
        """Return the configuration of a model."""
        model = self._model(request.name, request.version)
        return pb.ModelConfigResponse(config=model.config(max_batch_size(model, self._config)))

    @answered
    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """Return what models have answered."""
        models = [
            model
            for model in self._models()
            if request.name in ("", model.name)
            and request.version in ("", model.version, number_of(model.version))
        ]
        if not models and (request.name or request.version):
            self._model(request.name, request.version)  # says what there is
        return pb.ModelStatisticsResponse(
            model_stats=[self._statistics.message(one.name, one.version) for one in models]
        )

    @answered
    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        """List the models."""
        index = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[
                index(name=model.name, version=model.version, state="READY")
                for model in self._models()
            ]
        )

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Refuse: to load bundles needs a permission, which the service for operators checks."""
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "models are loaded by fuserank.v1.AdminService"
        )
        raise AssertionError  # never reached: abort raises

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Refuse, as RepositoryModelLoad does."""
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "models are unloaded by fuserank.v1.AdminService"
        )
        raise AssertionError  # never reached: abort raises

    @answered
    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        """Run a model."""
        return await self._infer(request, deadline_of(context))

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Run models, and yield a reply to each request in the order of the requests."""
        trailers = tracing(context)
        deadline = deadline_of(context)
        try:
            with self.admission:
                stream = OrderedStream(
                    requests,
                    lambda request: self._infer_or_error(request, deadline, trailers[0][1]),
                    ahead=self._config.admission.max_outstanding,
                )
                self._streams.add(stream)
                try:
                    async for reply in stream.answers():
                        yield reply
                finally:
                    self._streams.discard(stream)
        except Exception as error:
            await fail(error, context, trailers, "ModelStreamInfer")
            raise

    async def _infer_or_error(
        self, request: pb.ModelInferRequest, deadline: float, request_id: str
    ) -> pb.ModelStreamInferResponse:
        try:
            return pb.ModelStreamInferResponse(infer_response=await self._infer(request, deadline))
        except Exception as error:
            code, message = status_of(error)
            if code is grpc.StatusCode.INTERNAL:
                log_internal(error, "ModelStreamInfer", request_id)
            return pb.ModelStreamInferResponse(
                error_message=f"{code.name}: {message}",
                infer_response=pb.ModelInferResponse(
                    model_name=request.model_name,
                    model_version=request.model_version,
                    id=request.id,
                ),
            )

    async def _infer(self, request: pb.ModelInferRequest, deadline: float) -> pb.ModelInferResponse:
        """Run a model, and count it.

        Raises:
            FuserankError: the request asks for what is not there, or not so.
            TimeoutError: the deadline leaves no time.
        """
        began = time.perf_counter_ns()
        timeout_us = _timeout_us(request)
        if timeout_us > 0:
            deadline = min(deadline, time.monotonic() + timeout_us / 1e6)
        with self._bundles.lease(self._version(request.model_version)) as served:
            model = find_model(served.engine.info, request.model_name)
            try:
                wanted = wanted_outputs(request, model)
                inputs = read_inputs(request, model, self._config)
                read = time.perf_counter_ns()
                answer = await run(served, model, inputs, self._config, deadline)
                done = time.perf_counter_ns()
                reply = reply_to(request, model, wanted, answer)
            except BaseException:  # a request that is cancelled is not answered either
                elapsed_ns = time.perf_counter_ns() - began
                self._statistics.failed(model.name, model.version, elapsed_ns)
                raise
        infer_ns = min(int(answer.engine_ms * 1e6), done - read)
        stages = Stages(
            input_ns=read - began,
            queue_ns=done - read - infer_ns,
            infer_ns=infer_ns,
            output_ns=time.perf_counter_ns() - done,
        )
        self._statistics.succeeded(model.name, model.version, inputs.batch, stages)
        return reply

    def _models(self) -> list[Model]:
        return [model for one in self._bundles.loaded() for model in models_of(one.info)]

    def _model(self, name: str, version: str) -> Model:
        with self._bundles.lease(self._version(version)) as served:
            return find_model(served.engine.info, name)

    def _version(self, version: str) -> str | None:
        """Return the version to lease: None for the bundle that serves.

        Raises:
            UnknownVersionError: none that is loaded.
        """
        if not version:
            return None
        loaded = [one.info.version for one in self._bundles.loaded()]
        if loaded and version not in loaded:
            raise UnknownVersionError(
                f"model_version: found {version[:_MAX_QUOTED_CHARS]!r}, expected nothing or one "
                f"of {', '.join(loaded)}",
                field="model_version",
            )
        return version


def _timeout_us(request: pb.ModelInferRequest) -> int:
    """Return the microseconds that Triton's clients give a request; 0 where they give none."""
    # Not by a look-up, which would add it.
    return request.parameters["timeout"].int64_param if "timeout" in request.parameters else 0
