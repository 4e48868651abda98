import asyncio
import contextlib

import pytest

from fuserank.errors import BundleFormatError, FuserankError, RequestError, UnavailableError
from fuserank.server.workers.orders import EndedError, Failure, Forget, Reply, Versions, ask
from fuserank.server.workers.runtime_folder import RuntimeFolder, runtime_folder


@pytest.fixture
def socket():
    with runtime_folder() as path:
        yield RuntimeFolder(path).socket(3)


@contextlib.asynccontextmanager
async def answering(socket, answer):
    """Listen on a socket, and answer every order with some bytes."""

    async def handle(reader, writer):
        await reader.read()
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(handle, path=str(socket)):
        yield


@pytest.mark.parametrize("error", [BundleFormatError("no"), RequestError("no", field="name")])
def test_an_error_comes_back_as_what_it_was_with_its_worker(error):
    back = Failure.of(error).error(4)
    assert type(back) is type(error)
    assert str(back) == "worker 4: no"


def test_an_error_of_a_class_of_its_own_comes_back_as_the_one_that_it_extends():
    class OwnError(UnavailableError):
        pass

    assert type(Failure.of(OwnError("no")).error(0)) is UnavailableError
    assert type(Failure.of(FuserankError("no")).error(0)) is FuserankError


def test_where_nobody_listens_the_worker_has_ended(socket):
    with pytest.raises(EndedError, match="worker 3 does not run"):
        asyncio.run(ask(socket, 3, Versions(), 20))


def test_an_end_without_an_answer_is_one(socket):
    async def run():
        async with answering(socket, b""):
            await ask(socket, 3, Forget(user_id="42"), 20)

    with pytest.raises(EndedError, match="worker 3 ended before") as caught:
        asyncio.run(run())
    assert "42" not in str(caught.value)


def test_a_reply_may_be_long(socket):
    async def run():
        versions = ",".join(f'"{number}"' for number in range(50_000))
        async with answering(socket, f'{{"versions":[{versions}]}}'.encode()):
            return await ask(socket, 3, Versions(), 20)

    found = asyncio.run(run())
    assert isinstance(found, Reply)
    assert len(found.versions) == 50_000
