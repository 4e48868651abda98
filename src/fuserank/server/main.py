"""Serve a bundle until told to stop."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fuserank.server.arenas import share_arenas
from fuserank.server.config import ServerConfig
from fuserank.server.lifecycle import Server
from fuserank.server.workers.runtime_folder import Seating
from fuserank.server.workers.supervisor import ANNOUNCEMENT, end_of_input

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine

__all__ = ["run", "serve"]


def run(
    bundle: Path,
    config: ServerConfig,
    device: str,
    *,
    threads: int = 0,
    seating: Seating | None = None,
) -> int:
    """Serve a bundle until SIGTERM or SIGINT, and return the exit code 0.

    Args:
        bundle: the bundle's directory.
        config: where to listen, and limits.
        device: where graphs run.
        threads: of a scan and of the encoder; 0 takes one for each core.
        seating: as for `serve`.

    Raises:
        ServerError: the address cannot be listened on.
        BundleError: the bundle cannot be used.
        ProviderError: the device is not there.
    """

    def open_engine(path: Path) -> "Engine":
        # On the loading thread, because the runtime takes longer to import than to listen.
        from fuserank.engine.engine import load

        return load(path, device, threads=threads, live=config.live, shared=seating is not None)

    share_arenas()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(
            serve(config, lambda: open_engine(bundle), open_engine=open_engine, seating=seating)
        )


async def serve(
    config: ServerConfig,
    load_engine: Callable[[], "Engine"],
    *,
    open_engine: "Callable[[Path], Engine] | None" = None,
    seating: Seating | None = None,
) -> int:
    """Listen, load, serve, and return 0 once a signal came and what was in flight is done.

    Prints one line on stdout as soon as it listens: ``listening on HOST:PORT``. Must run on the
    main thread, where signals arrive.

    Args:
        config: where to listen, and limits.
        load_engine: returns a warm engine; called on a thread.
        open_engine: returns the warm engine of a bundle that comes later, likewise.
        seating: which of several workers this is. It listens where the others do, and after
            loading: connections are spread over all that listen, and none must reach one that
            cannot answer. It stops also when standard input ends, as it does when the supervisor
            says so or is gone. None where it serves alone.

    Raises:
        FuserankError: the server cannot listen, or the engine cannot be loaded.
    """
    with _stop_signal() as stop, contextlib.ExitStack() as stack:
        server = Server(config, seating=seating, open_engine=open_engine)
        if seating is not None:
            stack.enter_context(end_of_input(stop.set))
        else:
            print(f"{ANNOUNCEMENT}{await server.start()}", flush=True)
        try:
            loading = asyncio.create_task(server.load(load_engine))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()  # raises what loading raised
                if seating is not None:
                    print(f"{ANNOUNCEMENT}{await server.start()}", flush=True)
                await stopping
            loading.cancel()
        finally:
            await server.stop()
    return 0


@contextlib.contextmanager
def _stop_signal() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set; the second of them ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    stopping = False

    def on_signal(number: int, _: object) -> None:
        nonlocal stopping
        if stopping:
            # Not an exception: it would wait for the engine's threads, which may be what hangs.
            os.write(2, b"fuserank: told to stop twice; what was in flight is lost\n")
            os._exit(128 + number)
        stopping = True
        loop.call_soon_threadsafe(stop.set)

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        # Once told to stop, the process still waits for threads: the second signal ends that too.
        if not stopping:
            for number, handler in before.items():
                signal.signal(number, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's maker of loops; None, for asyncio's own, where there are no wheels of it."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
