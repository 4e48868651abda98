"""The client's side of a stream: users go out as they come, answers come in as they are ready."""

from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass
from typing import Any, Self, Unpack

import grpc

from fuserank.engine.results import Recommendation
from fuserank.errors import FuserankError, ServerError
from fuserank.server.client import calls
from fuserank.server.client.calls import OptionKeywords
from fuserank.server.messages import conversion
from fuserank.server.messages.status import error_from, error_of
from fuserank.server.pb import recommender_pb2 as pb

__all__ = ["StreamKeywords", "Streamed", "Template", "stream", "stream_async"]

User = Mapping[str, object]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """What became of one user of a stream.

    Attributes:
        index: of the user among those that were given, from 0.
        outcome: the best items, or why there are none.
    """

    index: int
    outcome: Recommendation | FuserankError

    def result(self) -> Recommendation:
        """Return the best items, or raise what kept them from coming."""
        if isinstance(self.outcome, FuserankError):
            raise self.outcome
        return self.outcome


class StreamKeywords(OptionKeywords, total=False):
    """What a stream's users have in common, as keywords of the clients."""

    attributes: bool
    bulk: bool
    timeout_ms: int


@dataclass(frozen=True, kw_only=True)
class Template:
    """What the requests of a stream have in common.

    Attributes:
        k: items wanted for each user.
        options: which items may come and how they are chosen.
        attributes: whether to return the items' attributes.
        bulk: whether the requests go after those that somebody waits for.
        timeout_ms: milliseconds that each answer is worth waiting for; 0 for as long as it takes.
    """

    k: int
    options: calls.Options
    attributes: bool
    bulk: bool
    timeout_ms: int

    @classmethod
    def of(
        cls,
        k: int,
        *,
        attributes: bool = False,
        bulk: bool = False,
        timeout_ms: int = 0,
        **options: Unpack[OptionKeywords],
    ) -> Self:
        """Return the template for a call of a client.

        Raises:
            RequestError: what no message can carry.
        """
        return cls(
            k=k,
            options=calls.options(**options),
            attributes=attributes,
            bulk=bulk,
            timeout_ms=timeout_ms,
        )

    def request(self, index: int, user: User) -> pb.RecommendStreamRequest:
        """Return the request for one user.

        Raises:
            RequestError: what no message can carry.
        """
        request = calls.recommend(user, self.k, self.options, self.attributes).request
        assert isinstance(request, pb.RecommendRequest)
        if self.bulk:
            request.priority = pb.PRIORITY_BULK
        return pb.RecommendStreamRequest(id=index, request=request, timeout_ms=self.timeout_ms)


class _Sent:
    """Requests on their way out, and what did not get that far.

    Attributes:
        unsent: users that could not be put into a message.
        error: what the caller's own iterator raised.
    """

    def __init__(self, template: Template) -> None:
        self._template = template
        self.unsent: deque[Streamed] = deque()
        self.error: Exception | None = None

    def message(self, index: int, user: User) -> pb.RecommendStreamRequest | None:
        try:
            return self._template.request(index, user)
        except FuserankError as error:
            self.unsent.append(Streamed(index=index, outcome=error))
            return None

    def all(self, users: Iterable[User]) -> Iterator[pb.RecommendStreamRequest]:
        try:
            for index, user in enumerate(users):
                if (message := self.message(index, user)) is not None:
                    yield message
        except Exception as error:
            self.error = error

    async def all_async(
        self, users: Iterable[User] | AsyncIterable[User]
    ) -> AsyncIterator[pb.RecommendStreamRequest]:
        try:
            index = 0
            async for user in _each(users):
                if (message := self.message(index, user)) is not None:
                    yield message
                index += 1
        except Exception as error:
            self.error = error

    def rest(self) -> Iterator[Streamed]:
        """Yield what did not go out; at the end raise what the caller's iterator did."""
        while self.unsent:
            yield self.unsent.popleft()

    def finish(self) -> None:
        if self.error is not None:
            raise self.error


def stream(
    method: Any, users: Iterable[User], template: Template, address: str
) -> Iterator[Streamed]:
    """Yield what becomes of each user, in the order in which it is known.

    Args:
        method: RecommendStream of a stub.
        users: iterated by a thread of the channel.
        template: of their requests.
        address: of the server, for messages.

    Raises:
        FuserankError: the stream ended before all users were answered.
    """
    sent = _Sent(template)
    call = method(sent.all(users))
    try:
        for reply in call:
            yield _streamed(reply, address)
            yield from sent.rest()
    except grpc.RpcError as error:
        raise error_of(error, address) from error
    finally:
        call.cancel()
    yield from sent.rest()
    sent.finish()


async def stream_async(
    method: Any, users: Iterable[User] | AsyncIterable[User], template: Template, address: str
) -> AsyncIterator[Streamed]:
    """Do what `stream` does, on an event loop."""
    sent = _Sent(template)
    call = method(sent.all_async(users))
    try:
        async for reply in call:
            yield _streamed(reply, address)
            for one in sent.rest():
                yield one
    except grpc.RpcError as error:
        raise error_of(error, address) from error
    finally:
        call.cancel()
    for one in sent.rest():
        yield one
    sent.finish()


async def _each(users: Iterable[User] | AsyncIterable[User]) -> AsyncIterator[User]:
    if isinstance(users, AsyncIterable):
        async for user in users:
            yield user
    else:
        for user in users:
            yield user


def _streamed(reply: pb.RecommendStreamResponse, address: str) -> Streamed:
    outcome: Recommendation | FuserankError
    match reply.WhichOneof("result"):
        case "response":
            outcome = conversion.recommendation_from_proto(reply.response.recommendation)
        case "error":
            code = _CODES.get(reply.error.code, grpc.StatusCode.UNKNOWN)
            outcome = error_from(code, reply.error.message, address)
        case _:
            outcome = ServerError(f"{address}: the reply has no result")
    return Streamed(index=reply.id, outcome=outcome)
