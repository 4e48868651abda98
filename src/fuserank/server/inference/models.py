"""The models that a bundle is, and how the protocol describes them."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fuserank.engine.results import BundleInfo
from fuserank.errors import UnknownVersionError
from fuserank.schema import Kind
from fuserank.server.inference.tensors import Datatype, TensorSpec
from fuserank.server.pb import grpc_service_pb2 as pb
from fuserank.server.pb import model_config_pb2 as config_pb

__all__ = ["ITEM_IDS", "PLATFORM", "K", "Model", "Task", "find_model", "models_of", "number_of"]

PLATFORM = "fuserank"

K = TensorSpec(name="k", datatype=Datatype.INT32, dims=(1,), optional=True)
ITEM_IDS = TensorSpec(name="item_ids", datatype=Datatype.BYTES, dims=(-1,))

_TEXT = TensorSpec(name="text", datatype=Datatype.BYTES, dims=(1,))
_EMBEDDING = TensorSpec(name="embedding", datatype=Datatype.FP32, dims=(-1,))
_SCORES = tuple(
    TensorSpec(name=name, datatype=Datatype.FP32, dims=(-1,))
    for name in ("scores", "probabilities")
)

_DATA_TYPES = {
    Datatype.BYTES: config_pb.TYPE_STRING,
    Datatype.INT32: config_pb.TYPE_INT32,
    Datatype.FP32: config_pb.TYPE_FP32,
    Datatype.FP64: config_pb.TYPE_FP64,
}

_MAX_QUOTED_CHARS = 100


class Task(StrEnum):
    """What a model does; the value is what its name adds to the bundle's."""

    RECOMMEND = ""
    SCORE = ".score"
    ENCODE = ".encoder"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of a bundle.

    Attributes:
        name: unique on the server.
        version: of the bundle.
        task: what it does.
        inputs: what it reads.
        outputs: what it makes.
    """

    name: str
    version: str
    task: Task
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def metadata(self, versions: Sequence[str]) -> pb.ModelMetadataResponse:
        """Return its description, the shapes with the batch dimension."""
        return pb.ModelMetadataResponse(
            name=self.name,
            versions=versions,
            platform=PLATFORM,
            inputs=[_metadata(spec) for spec in self.inputs],
            outputs=[_metadata(spec) for spec in self.outputs],
        )

    def config(self, max_batch_size: int) -> config_pb.ModelConfig:
        """Return its configuration, the shapes without the batch dimension."""
        return config_pb.ModelConfig(
            name=self.name,
            platform=PLATFORM,
            backend=PLATFORM,
            max_batch_size=max_batch_size,
            input=[
                config_pb.ModelInput(
                    name=spec.name,
                    data_type=_data_type(spec),
                    dims=spec.dims,
                    optional=spec.optional,
                )
                for spec in self.inputs
            ],
            output=[
                config_pb.ModelOutput(name=spec.name, data_type=_data_type(spec), dims=spec.dims)
                for spec in self.outputs
            ],
            dynamic_batching=config_pb.ModelDynamicBatching(),
            model_transaction_policy=config_pb.ModelTransactionPolicy(decoupled=False),
        )


@functools.lru_cache(maxsize=16)
def models_of(info: BundleInfo) -> tuple[Model, ...]:
    """Return the models of a bundle: the one that recommends comes first.

    A user field that is called like another input of a model cannot be given to it.
    """
    fields = [_field(field.name, Kind(field.kind)) for field in info.user_fields]
    parts = {
        Task.RECOMMEND: (_with(fields, K), (ITEM_IDS, *_SCORES)),
        Task.SCORE: (_with(fields, ITEM_IDS), _SCORES),
        Task.ENCODE: ((_TEXT,), (_EMBEDDING,)),
    }
    return tuple(
        Model(
            name=f"{info.name}{task}",
            version=info.version,
            task=task,
            inputs=inputs,
            outputs=outputs,
        )
        for task, (inputs, outputs) in parts.items()
        if task is not Task.ENCODE or info.encoder is not None
    )


def find_model(info: BundleInfo, name: str) -> Model:
    """Return the model of that name.

    Raises:
        UnknownVersionError: the bundle has no such model.
    """
    models = models_of(info)
    for model in models:
        if model.name == name:
            return model
    raise UnknownVersionError(
        f"model_name: found {name[:_MAX_QUOTED_CHARS]!r}, expected one of "
        f"{', '.join(model.name for model in models)}",
        field="model_name",
    )


def number_of(version: str) -> str:
    """Return a version as a whole number, which is how perf_analyzer reads those of statistics.

    >>> number_of("3"), number_of("a1b2")
    ('3', '37492762774496211')
    """
    if version.isascii() and version.isdigit() and len(version) < 19 and version[0] != "0":
        return version
    return str(int.from_bytes(hashlib.sha256(version.encode()).digest()[:7]))


def _field(name: str, kind: Kind) -> TensorSpec:
    """Return the input for a user field; what it holds is for `user_rows` to say."""
    match kind:
        case Kind.ID | Kind.CATEGORY | Kind.TEXT | Kind.WORDS:
            datatype, dims = Datatype.BYTES, (1,)
        case Kind.CATEGORIES | Kind.HISTORY:
            datatype, dims = Datatype.BYTES, (-1,)
        case Kind.NUMBER:
            datatype, dims = Datatype.FP64, (1,)
        case Kind.VECTOR:
            datatype, dims = Datatype.FP32, (-1,)
        case Kind.TENSOR:  # flat, and wide enough for whole numbers
            datatype, dims = Datatype.FP64, (-1,)
    return TensorSpec(name=name, datatype=datatype, dims=dims, optional=True)


def _with(fields: Sequence[TensorSpec], spec: TensorSpec) -> tuple[TensorSpec, ...]:
    return (*(field for field in fields if field.name != spec.name), spec)


def _metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=(-1, *spec.dims)
    )


def _data_type(spec: TensorSpec) -> config_pb.DataType:
    return _DATA_TYPES[spec.datatype]
