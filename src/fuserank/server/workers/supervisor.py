"""The supervisor of several worker processes that serve one bundle on one port.

It loads nothing and answers nothing: it keeps the port, starts workers, starts those again that
died, and stops them all. Each worker gets a job on its standard input, prints ``listening on …``
when it serves, and drains once that input ends: when it is told to, or its supervisor is gone.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fuserank.errors import ConfigError, ServerError

__all__ = ["ANNOUNCEMENT", "Supervisor", "WorkersConfig", "end_of_input"]

logger = logging.getLogger(__name__)

ANNOUNCEMENT = "listening on "

_ENDED_WELL = (0, -signal.SIGTERM)
"""A service manager may signal the workers as well, and one that still starts dies of it."""


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """How many processes serve, and what happens to one that dies.

    Attributes:
        processes: worker processes on one port; 1 serves from this process alone. They share the
            cores, and the memory of the item states.
        threads: of each engine, for scans and texts; 0 divides the cores among the processes. Where
            calls are many and each is short, a core that engines leave alone answers more of them.
        max_restarts: how often in a row a worker is started again before it is given up.
        backoff_s: seconds before the first restart; they double with each that follows.
        steady_s: seconds of serving after which a worker's failures are forgotten.
    """

    processes: int = 1
    threads: int = 0
    max_restarts: int = 5
    backoff_s: float = 0.5
    steady_s: float = 60.0

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        if self.processes < 1:
            raise ConfigError(f"processes: found {self.processes}, expected 1 or more")
        for name in ("threads", "max_restarts"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        for name in ("backoff_s", "steady_s"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(
                    f"{name}: found {getattr(self, name)}, expected 0 or more seconds"
                )


class Supervisor:
    """Keeps worker processes running until it is told to stop. Used once, on the main thread."""

    def __init__(
        self, command: Sequence[str], jobs: Sequence[bytes], config: WorkersConfig
    ) -> None:
        """Take what to run; nothing is started yet.

        Args:
            command: program and arguments of a worker; its number is added as the last one.
            jobs: what each worker is given on its standard input: a line each.
            config: limits of restarts.
        """
        self._command, self._jobs, self._config = tuple(command), tuple(jobs), config
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._listening = [asyncio.Event() for _ in jobs]
        self._stop = asyncio.Event()
        self._address = ""

    async def run(self) -> int:
        """Start all workers, print ``listening on HOST:PORT`` when all serve, and keep them.

        Returns:
            0 after a signal, when every worker ended well; 1 where some did not, were killed by a
            second signal, or all were given up.

        Raises:
            ServerError: a worker does not start.
        """
        with _signals(self._signalled):
            seats = [asyncio.create_task(self._keep(index)) for index in range(len(self._jobs))]
            stopping = asyncio.create_task(self._stop.wait())
            starting = asyncio.create_task(self._announce())
            kept = set(seats)
            try:
                while kept and not stopping.done():
                    done, _ = await asyncio.wait(
                        {*kept, stopping}, return_when=asyncio.FIRST_COMPLETED
                    )
                    for seat in kept & done:
                        seat.result()  # raises what kept a worker from starting
                    kept -= done
            finally:
                self._stop.set()
                self._drain()
                starting.cancel()
                ended = await asyncio.gather(*seats, return_exceptions=True)
        return 0 if all(code in _ENDED_WELL for code in ended) else 1

    async def _announce(self) -> None:
        for event in self._listening:
            await event.wait()
        print(f"{ANNOUNCEMENT}{self._address}", flush=True)

    async def _keep(self, index: int) -> int:
        """Run one worker, again and again, and return its last exit code.

        Raises:
            ServerError: it ended before it ever listened.
        """
        failures = 0
        while True:
            code, served_s = await self._run_once(index)
            if self._stop.is_set():
                return code
            if not self._listening[index].is_set():
                raise ServerError(
                    f"worker {index} {_how(code)} before it listened; what it wrote is above"
                )
            failures = 1 if served_s >= self._config.steady_s else failures + 1
            if failures > self._config.max_restarts:
                logger.error(
                    "worker %d %s and is given up after %d restarts in a row",
                    index,
                    _how(code),
                    self._config.max_restarts,
                )
                return 1
            pause_s = self._config.backoff_s * 2.0 ** (failures - 1)
            logger.warning("worker %d %s, starts again in %.1f s", index, _how(code), pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
                return 0

    async def _run_once(self, index: int) -> tuple[int, float]:
        """Run a worker to its end; return its exit code and the seconds that it served."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(index),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Else a Ctrl-C would reach it as well, and it would be told to stop twice.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._running[index] = process
        since: float | None = None
        try:
            process.stdin.write(self._jobs[index] + b"\n")
            if self._stop.is_set():  # it was asked for before the worker was there
                process.stdin.close()
            async for line in process.stdout:
                if line.startswith(ANNOUNCEMENT.encode()):
                    since = time.monotonic()
                    self._address = line.decode().removeprefix(ANNOUNCEMENT).strip()
                    self._listening[index].set()
                    logger.info("worker %d, process %d, serves", index, process.pid)
            code = await process.wait()
        finally:
            del self._running[index]
        return code, 0.0 if since is None else time.monotonic() - since

    def _signalled(self) -> None:
        """Drain at the first signal, kill at the second."""
        if self._stop.is_set():
            for process in self._running.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        self._stop.set()

    def _drain(self) -> None:
        """Tell every worker to finish what it has begun."""
        for process in self._running.values():
            if process.stdin is not None:
                process.stdin.close()


@contextlib.contextmanager
def end_of_input(handler: Callable[[], None]) -> Iterator[None]:
    """Call a handler once standard input ends, on the running loop: how a worker is told to stop.

    Not a signal: a service manager may send one of these to the workers itself, and a second one
    ends a process at once.
    """
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(descriptor, 1):
            loop.remove_reader(descriptor)
            handler()

    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


def _how(code: int) -> str:
    """Say how a process ended."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


@contextlib.contextmanager
def _signals(handler: Callable[[], None]) -> Iterator[None]:
    """Call a handler for SIGTERM and SIGINT, on the running loop."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
