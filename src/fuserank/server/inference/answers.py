"""Runs a model of a bundle on the tensors of a request."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fuserank.engine.results import Plan, Recommendation, Scores
from fuserank.errors import RequestError
from fuserank.server.inference.models import ITEM_IDS, K, Model, Task
from fuserank.server.inference.requests import Inputs
from fuserank.server.inference.tensors import Datatype, TensorSpec, join_strings, to_raw
from fuserank.server.inference.users import user_rows
from fuserank.server.messages.limits import Limits
from fuserank.server.pb import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine

__all__ = ["Answer", "Output", "Serving", "reply_to", "run"]

T = TypeVar("T")

_DEFAULT_K = 10


class Serving(Protocol):
    """A loaded bundle and the queue before it: `fuserank.server.batching.served.Served`."""

    @property
    def engine(self) -> "Engine":
        """The engine, for calls within `call`."""

    async def recommend(
        self, users: Sequence[Mapping[str, object]], k: int, *, deadline: float
    ) -> list[Recommendation]:
        """Return the k best items of each user, until a deadline in monotonic seconds."""

    async def call(self, work: Callable[[], T], deadline: float) -> T:
        """Run another call of the engine on a thread."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A tensor that a model made.

    Attributes:
        shape: (batch, …).
        raw: its elements, as the protocol carries them.
    """

    shape: tuple[int, ...]
    raw: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model made of a request.

    Attributes:
        engine_ms: the engine's own time, waiting apart.
        write: writes the outputs, by name.
        plan: how recommendations came about, as `Recommendation.plan`; "" for other models.
    """

    engine_ms: float
    write: Callable[[], dict[str, Output]]
    plan: str = ""


async def run(
    served: Serving, model: Model, inputs: Inputs, limits: Limits, deadline: float
) -> Answer:
    """Run a model.

    Args:
        served: the model's bundle.
        model: what to run.
        inputs: what it reads.
        limits: of what a request may hold.
        deadline: monotonic seconds; infinite without one.

    Raises:
        FuserankError: what the engine cannot do.
        TimeoutError: the deadline leaves no time.
    """
    match model.task:
        case Task.RECOMMEND:
            return await _recommend(served, inputs, _ks(inputs, limits), deadline)
        case Task.SCORE:
            return await _score(served, inputs, deadline)
        case Task.ENCODE:
            return await _encode(served, inputs, deadline)


def reply_to(
    request: pb.ModelInferRequest, model: Model, wanted: Sequence[TensorSpec], answer: Answer
) -> pb.ModelInferResponse:
    """Return the reply to a request, with the outputs that it wants."""
    outputs = answer.write()
    reply = pb.ModelInferResponse(
        model_name=model.name,
        model_version=model.version,
        id=request.id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=spec.name, datatype=spec.datatype, shape=outputs[spec.name].shape
            )
            for spec in wanted
        ],
        raw_output_contents=[outputs[spec.name].raw for spec in wanted],
    )
    if answer.plan:
        reply.parameters["plan"].string_param = answer.plan
    return reply


async def _recommend(served: Serving, inputs: Inputs, ks: Sequence[int], deadline: float) -> Answer:
    """Return the best items; a row with fewer than the longest ends in "", -inf and 0."""
    users = user_rows(served.engine.info, inputs.tensors, inputs.batch)
    width = max(ks)
    # One call for all: what a smaller k asks for is the beginning of what a greater one does.
    found = await served.recommend(users, width, deadline=deadline)

    def write() -> dict[str, Output]:
        rows = list(zip(found, ks, strict=True))
        ids = [list(one.item_ids[:k]) for one, k in rows]
        padded = [entry for row in ids for entry in (*row, *[""] * (width - len(row)))]
        scores = [one.scores[:k] for one, k in rows]
        probabilities = [one.probabilities[:k] for one, k in rows]
        item_ids = Output(shape=(len(ids), width), raw=join_strings(padded))
        return {"item_ids": item_ids, **_scores(scores, probabilities, width)}

    plans = [one.plan for one in found]
    return Answer(
        # Users who share a call are each told the time of all of it.
        engine_ms=max(one.timings.total_ms for one in found),
        write=write,
        plan=next((plan for plan in plans if plan != Plan.EXACT), plans[0]),
    )


async def _score(served: Serving, inputs: Inputs, deadline: float) -> Answer:
    """Return the scores of the items; where an id is empty they are -inf and 0."""
    engine = served.engine
    users = user_rows(engine.info, inputs.tensors, inputs.batch)
    rows = [np.array(inputs.tensors[ITEM_IDS.name].row(i), dtype=object) for i in range(len(users))]
    named = [row != "" for row in rows]
    ids = [list(row[mask]) for row, mask in zip(rows, named, strict=True)]

    def work() -> list[Scores]:
        return [engine.score(user, one) for user, one in zip(users, ids, strict=True)]

    found = await served.call(work, deadline)

    def write() -> dict[str, Output]:
        places = list(zip(found, named, strict=True))
        scores = [_spread(one.scores, mask, -math.inf) for one, mask in places]
        probabilities = [_spread(one.probabilities, mask, 0.0) for one, mask in places]
        return _scores(scores, probabilities, len(rows[0]))

    return Answer(engine_ms=sum(one.timings.total_ms for one in found), write=write)


async def _encode(served: Serving, inputs: Inputs, deadline: float) -> Answer:
    texts = inputs.tensors["text"].values
    for index, text in enumerate(texts):
        if not text.strip():
            raise RequestError(
                f"input 'text': row {index} is an empty text, expected words", field="text"
            )
    engine = served.engine
    found = await served.call(lambda: engine.encode(texts), deadline)

    def write() -> dict[str, Output]:
        return {"embedding": _numbers(found.vectors)}

    engine_ms = found.timings.tokenize_ms + found.timings.encode_ms
    return Answer(engine_ms=engine_ms, write=write)


def _ks(inputs: Inputs, limits: Limits) -> list[int]:
    """Return how many items each user gets: 10 for 0, and at most what the server gives."""
    given = inputs.tensors.get(K.name)
    asked = [0] * inputs.batch if given is None else given.values
    if min(asked) < 0:
        raise RequestError(
            f"input 'k': found {min(asked)}, expected 1 or more, or 0 for {_DEFAULT_K}", field="k"
        )
    return [min(k or _DEFAULT_K, limits.max_k) for k in asked]


def _scores(
    scores: Sequence[npt.NDArray[Any]], probabilities: Sequence[npt.NDArray[Any]], width: int
) -> dict[str, Output]:
    return {
        "scores": _numbers(_stack(scores, width, -math.inf)),
        "probabilities": _numbers(_stack(probabilities, width, 0.0)),
    }


def _stack(rows: Sequence[npt.NDArray[Any]], width: int, fill: float) -> npt.NDArray[np.float32]:
    """Return (n, width) float32 of n rows, each filled up at its end."""
    stacked = np.full((len(rows), width), fill, dtype=np.float32)
    for index, row in enumerate(rows):
        stacked[index, : len(row)] = row
    return stacked


def _spread(
    values: npt.NDArray[Any], places: npt.NDArray[np.bool_], fill: float
) -> npt.NDArray[np.float32]:
    """Return the values where `places` is true, in their order."""
    spread = np.full(len(places), fill, dtype=np.float32)
    spread[places] = values
    return spread


def _numbers(values: npt.NDArray[np.float32]) -> Output:
    return Output(shape=values.shape, raw=to_raw(values, Datatype.FP32))
