import asyncio
import contextlib

import pytest

from fuserank.server.inference.streams import OrderedStream


class Source:
    """Requests that come when they are put, and answers that come when they are let."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.begun, self.cancelled = [], []
        self.gates = {}

    async def requests(self):
        while (request := await self.queue.get()) is not None:
            if isinstance(request, Exception):
                raise request
            yield request

    def put(self, *requests):
        for request in requests:
            self.queue.put_nowait(request)

    async def answer(self, request):
        self.begun.append(request)
        self.gates[request] = asyncio.Event()
        try:
            await self.gates[request].wait()
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        return -request


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def test_answers_come_in_order_however_they_are_found():
    async def run():
        source = Source()
        stream = OrderedStream(source.requests(), source.answer, ahead=3)
        source.put(1, 2, 3, None)
        await settle()
        for request in (3, 2, 1):
            source.gates[request].set()
        return [answer async for answer in stream.answers()]

    assert asyncio.run(run()) == [-1, -2, -3]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_is_under_way_than_may_be(ahead):
    async def run():
        source = Source()
        stream = OrderedStream(source.requests(), source.answer, ahead=ahead)
        source.put(*range(10), None)
        answers = stream.answers()
        for request in range(10):
            await settle()
            assert source.begun == list(range(min(10, request + ahead)))
            source.gates[request].set()
            assert await anext(answers) == -request
        with pytest.raises(StopAsyncIteration):
            await anext(answers)

    asyncio.run(run())


def test_what_was_read_is_answered_when_the_stream_drains():
    async def run():
        source = Source()
        stream = OrderedStream(source.requests(), source.answer, ahead=2)
        source.put(1, 2, 3)
        await settle()
        stream.drain()
        for gate in source.gates.values():
            gate.set()
        return source.begun, [answer async for answer in stream.answers()]

    assert asyncio.run(run()) == ([1, 2], [-1, -2])


def test_what_ends_the_reading_is_raised_after_the_answers():
    async def run():
        source = Source()
        stream = OrderedStream(source.requests(), source.answer, ahead=5)
        source.put(1, ValueError("no message"))
        await settle()
        source.gates[1].set()
        answers = stream.answers()
        assert await anext(answers) == -1
        with pytest.raises(ValueError, match="no message"):
            await anext(answers)

    asyncio.run(run())


def test_a_stream_that_is_left_drops_what_is_under_way():
    async def run():
        source = Source()
        stream = OrderedStream(source.requests(), source.answer, ahead=5)
        source.put(1, 2, 3)
        await settle()
        source.gates[1].set()
        async with contextlib.aclosing(stream.answers()) as answers:
            assert await anext(answers) == -1
        assert sorted(source.cancelled) == [2, 3]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
