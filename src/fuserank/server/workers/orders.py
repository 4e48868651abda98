"""What a worker is told on its own socket, and how it answers: one JSON value each way."""

import asyncio
from pathlib import Path

import msgspec

from fuserank import errors
from fuserank.errors import FuserankError, UnavailableError
from fuserank.server.bundles.lineup import Lineup
from fuserank.server.workers.runtime_folder import Entry

__all__ = ["Add", "Arrange", "EndedError", "Failure", "Forget", "Order", "Reply", "Versions", "ask"]


class Add(msgspec.Struct, frozen=True, tag=True):
    """Load the bundle of a directory; the reply has its version."""

    path: str


class Arrange(msgspec.Struct, frozen=True, tag=True):
    """Give bundles the roles of a lineup, and let go of all others."""

    lineup: Lineup[Entry]


class Versions(msgspec.Struct, frozen=True, tag=True):
    """Say which versions are loaded."""


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Drop what is kept of a user; the reply has how many answers that was."""

    user_id: str


Order = Add | Arrange | Versions | Forget


class Failure(msgspec.Struct, frozen=True):
    """Why an order was not carried out: the name of a class of `fuserank.errors`, and its text."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: FuserankError) -> "Failure":
        """Return what is told of an error."""
        named = (kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        return cls(kind=next(named).__name__, message=str(error))

    def error(self, worker: int) -> FuserankError:
        """Return the error again, with the worker named."""
        kind: type[FuserankError] = getattr(errors, self.kind)
        return kind(f"worker {worker}: {self.message}")


class Reply(msgspec.Struct, frozen=True):
    """What came of an order."""

    versions: tuple[str, ...] = ()
    dropped: int = 0
    failure: Failure | None = None


class EndedError(UnavailableError):
    """The worker does not run, or ended before it answered."""


async def ask(socket: Path, worker: int, order: Order, timeout_s: float | None) -> Reply:
    """Return what a worker answers.

    Args:
        socket: where it listens.
        worker: its number.
        order: what it is told.
        timeout_s: seconds that it may take; None for as long as it lives.

    Raises:
        EndedError: it does not run, or ended meanwhile.
        UnavailableError: it took too long.
        FuserankError: it could not do what it was told.
    """
    try:
        async with asyncio.timeout(timeout_s):
            answered = await _exchange(str(socket), msgspec.json.encode(order))
    except TimeoutError as error:
        raise UnavailableError(
            f"worker {worker} has not answered within {timeout_s:g} s; kill its process, whose "
            "number the log has, and it is started again with what the others have"
        ) from error
    except (ConnectionError, FileNotFoundError) as error:
        raise EndedError(f"worker {worker} does not run") from error
    if not answered:
        raise EndedError(f"worker {worker} ended before it had done what it was told")
    reply = msgspec.json.decode(answered, type=Reply)
    if reply.failure is not None:
        raise reply.failure.error(worker)
    return reply


async def _exchange(path: str, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(sent)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
