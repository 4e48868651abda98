"""One stream without a socket: how far it is read, and what becomes of what was read."""

import asyncio

import pytest

from fuserank.errors import UnavailableError
from fuserank.server.api.stream import RequestStream
from fuserank.server.pb import recommender_pb2 as pb


class Client:
    """Sends requests as fast as they are read, and takes replies when it is told to."""

    def __init__(self, n_requests, *, breaks=None):
        self.n_requests, self.breaks = n_requests, breaks
        self.read, self.replies = 0, []
        self.takes = asyncio.Semaphore(0)

    async def requests(self):
        while self.read < self.n_requests:
            self.read += 1
            yield pb.RecommendStreamRequest(id=self.read)
        if self.breaks is not None:
            raise self.breaks

    async def write(self, reply):
        await self.takes.acquire()
        self.replies.append(reply.id)

    def take(self, n_replies):
        for _ in range(n_replies):
            self.takes.release()


class Work:
    """What was begun: by id how to reply; ids that were dropped."""

    def __init__(self, *, at_once=False):
        self.at_once, self.begun, self.dropped = at_once, {}, []

    def begin(self, request, reply):
        self.begun[request.id] = reply
        if self.at_once:
            self.finish(request.id)
        return lambda: self.dropped.append(request.id)

    def finish(self, *ids):
        for number in ids:
            self.begun.pop(number)(pb.RecommendStreamResponse(id=number))


def a_stream(client, work, max_open):
    return RequestStream(client.requests(), client, work.begin, max_open=max_open)


async def settle():
    """Let every task go as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


@pytest.mark.parametrize("at_once", [True, False])
def test_a_client_that_takes_no_replies_is_read_no_further(at_once):
    async def scenario():
        client, work = Client(1_000), Work(at_once=at_once)
        task = asyncio.create_task(a_stream(client, work, 8).run())
        await settle()
        assert client.read == 8
        if not at_once:
            work.finish(*tuple(work.begun))
            await settle()
            assert client.read == 8  # answered, but not taken
        client.take(3)
        await settle()
        assert (client.read, len(client.replies)) == (11, 3)
        task.cancel()
        await asyncio.wait({task})

    run(scenario())


def test_replies_go_out_as_they_are_ready():
    async def scenario():
        client, work = Client(3), Work()
        client.take(3)
        task = asyncio.create_task(a_stream(client, work, 8).run())
        await settle()
        work.finish(2)
        await settle()
        assert client.replies == [2]
        work.finish(3, 1)
        await task
        assert client.replies == [2, 3, 1]
        assert work.dropped == []

    run(scenario())


def test_what_is_open_is_dropped_when_the_client_goes():
    async def scenario():
        client, work = Client(5), Work()
        client.take(5)
        task = asyncio.create_task(a_stream(client, work, 8).run())
        await settle()
        work.finish(2, 4)
        await settle()
        task.cancel()
        await asyncio.wait({task})
        assert work.dropped == [1, 3, 5]

    run(scenario())


def test_a_message_that_cannot_be_read_ends_the_stream_once_the_others_are_answered():
    async def scenario():
        client, work = Client(2, breaks=ValueError("no message")), Work()
        client.take(2)
        task = asyncio.create_task(a_stream(client, work, 8).run())
        await settle()
        work.finish(1, 2)
        with pytest.raises(ValueError, match="no message"):
            await task
        assert sorted(client.replies) == [1, 2]

    run(scenario())


def test_draining_answers_what_was_read():
    async def scenario():
        client, work = Client(1_000), Work()
        stream = a_stream(client, work, 4)
        task = asyncio.create_task(stream.run())
        await settle()
        stream.drain()
        await settle()
        client.take(4)
        work.finish(1, 2, 3, 4)
        with pytest.raises(UnavailableError, match="shutting down"):
            await task
        assert (client.read, sorted(client.replies)) == (4, [1, 2, 3, 4])

    run(scenario())
