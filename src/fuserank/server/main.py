"""Serve a bundle until told to stop."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fuserank.server.config import ServerConfig
from fuserank.server.lifecycle import Server

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine

__all__ = ["run", "serve"]


def run(bundle: Path, config: ServerConfig, device: str) -> int:
    """Serve a bundle until SIGTERM or SIGINT, and return the exit code 0.

    Raises:
        ServerError: the address cannot be listened on.
        BundleError: the bundle cannot be used.
        ProviderError: the device is not there.
    """

    def load_engine() -> "Engine":
        # On the loading thread, because the runtime takes longer to import than to listen.
        from fuserank.engine.engine import load

        return load(bundle, device)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(config, load_engine))


async def serve(config: ServerConfig, load_engine: Callable[[], "Engine"]) -> int:
    """Listen, load, serve, and return 0 once a signal came and what was in flight is done.

    Prints one line on stdout as soon as it listens: ``listening on HOST:PORT``. Must run on the
    main thread, where signals arrive.

    Args:
        config: where to listen, and limits.
        load_engine: returns a warm engine; called on a thread.

    Raises:
        FuserankError: the server cannot listen, or the engine cannot be loaded.
    """
    with _stop_signal() as stop:
        server = Server(config)
        print(f"listening on {await server.start()}", flush=True)
        try:
            loading = asyncio.create_task(server.load(load_engine))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()  # raises what loading raised
                await stopping
            loading.cancel()
        finally:
            await server.stop()
    return 0


@contextlib.contextmanager
def _stop_signal() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    before = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
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
