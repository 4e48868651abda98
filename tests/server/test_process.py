import sys
from pathlib import Path

import pytest

from fuserank.errors import ServerError
from fuserank.server.client.client import Client
from fuserank.server.process import server_process

SERVER = """
import asyncio, runpy, sys
from fuserank.server import main
from fuserank.server.config import ServerConfig
from fuserank.server.http.config import HttpConfig
engine = runpy.run_path(sys.argv[1])["FakeEngine"]()
print("hello", flush=True)
sys.exit(asyncio.run(main.serve(ServerConfig(port=0, http=HttpConfig(port=-1)), lambda: engine)))
"""
FAKE_ENGINE = str(Path(__file__).with_name("conftest.py"))


def script(text):
    return [sys.executable, "-c", text, FAKE_ENGINE]


def start_and_stop(text, **options):
    with server_process(script(text), **options):
        pass


def test_it_is_ready_inside_the_block_and_gone_after_it():
    with server_process(script(SERVER)) as (process, address):
        with Client(address) as client:
            assert client.bundle_info().name == "films"
        assert process.poll() is None
    assert process.returncode == 0


def test_an_error_in_the_block_ends_the_server_and_passes():
    with pytest.raises(KeyError), server_process(script(SERVER)) as (process, _):
        raise KeyError
    assert process.returncode is not None


def test_one_that_ends_before_it_listens_shows_its_last_words():
    words = "import sys; sys.exit('no such bundle')"
    with pytest.raises(ServerError, match="exit code 1\nno such bundle"):
        start_and_stop(words)


def test_one_that_fails_to_load_shows_its_last_words():
    failing = SERVER.replace("lambda: engine", "lambda: 1 / 0")
    with pytest.raises(ServerError, match=r"(?s)exit code 1\n.*division by zero"):
        start_and_stop(failing)


def test_one_that_says_nothing_is_given_up():
    silent = "import threading; threading.Event().wait()"
    with pytest.raises(ServerError, match="does not listen in time"):
        start_and_stop(silent, start_timeout_s=0.5)


def test_one_that_does_not_become_ready_is_given_up():
    loading = SERVER.replace("lambda: engine", "__import__('threading').Event().wait")
    with pytest.raises(ServerError, match=r"(is not ready|does not listen) in time"):
        start_and_stop(loading, start_timeout_s=3.0)


def test_one_that_ends_with_an_error_code_is_reported():
    failing = SERVER.replace("sys.exit(asyncio.run(", "sys.exit(3 + asyncio.run(")
    with pytest.raises(ServerError, match="exit code 3"):
        start_and_stop(failing)


def test_one_that_ignores_the_signal_is_killed():
    stubborn = SERVER.replace("sys.exit(asyncio.run(", "(asyncio.run(")
    stubborn += "import threading; threading.Event().wait()\n"
    with pytest.raises(ServerError, match=r"goes on 0\.5 s after SIGTERM and was killed"):
        start_and_stop(stubborn, stop_timeout_s=0.5)
