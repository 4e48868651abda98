import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from fuserank.errors import ConfigError
from fuserank.server.workers.supervisor import WorkersConfig

# A worker that loads nothing; what it says on stderr is interleaved with its supervisor's log.
WORKER = """
import json, os, signal, sys
mode, index = json.loads(sys.stdin.readline()), sys.argv[1]
def say(word):
    os.write(2, f"{word} {index} {os.getpid()}\\n".encode())
if mode == "failing":
    sys.exit(3)
say("began")
print("some words", flush=True)
print("listening on 127.0.0.1:9", flush=True)
if mode == "dying":
    sys.exit(4)
sys.stdin.read()
say("drained")
if mode == "stuck":
    signal.pause()
"""
SUPERVISOR = """
import asyncio, json, logging, sys
from fuserank.errors import ServerError
from fuserank.server.workers.supervisor import Supervisor, WorkersConfig
worker, modes, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
logging.basicConfig(format="%(message)s", level=logging.INFO)
supervisor = Supervisor(
    [sys.executable, "-S", "-c", worker],
    [json.dumps(mode).encode() for mode in modes],
    WorkersConfig(processes=len(modes), **options),
)
try:
    sys.exit(asyncio.run(supervisor.run()))
except ServerError as error:
    sys.exit(f"error: {error}")
"""


class Supervised:
    """A supervisor over such workers: its lines on stdout and stderr as they come."""

    def __init__(self, process):
        self.process, self.lines = process, []

    def until(self, pattern):
        """Read lines up to the first that matches, and return the match."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no {pattern!r} in {self.lines}")

    def begun(self, count):
        """Return the process ids of workers by number, after so many have begun."""
        found = [self.until(r"^began (\d) (\d+)") for _ in range(count)]
        return {match[1]: int(match[2]) for match in found}

    def end(self):
        """Return the exit code, and take the lines that are left."""
        self.lines += self.process.stdout.read().splitlines()
        return self.process.wait()


@contextlib.contextmanager
def supervised(*modes, **options):
    command = [sys.executable, "-c", SUPERVISOR, WORKER, json.dumps(modes), json.dumps(options)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield Supervised(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_announces_once_and_a_signal_drains_every_worker(number):
    with supervised("plain", "plain", "plain") as it:
        it.until(r"^listening on 127\.0\.0\.1:9$")
        it.process.send_signal(number)
        assert it.end() == 0
    assert sum(line.startswith("listening on ") for line in it.lines) == 1
    assert {line.split()[1] for line in it.lines if line.startswith("drained")} == {"0", "1", "2"}


def test_a_worker_that_was_killed_is_started_again_and_the_other_goes_on():
    with supervised("plain", "plain", backoff_s=0.01) as it:
        before = it.begun(2)
        it.until("^listening on ")
        os.kill(before["1"], signal.SIGKILL)
        it.until(r"^worker 1 was ended by signal 9, starts again in 0\.0 s")
        after = it.begun(1)
        assert after["1"] != before["1"]
        it.process.terminate()
        assert it.end() == 0
    drained = {int(line.split()[2]) for line in it.lines if line.startswith("drained")}
    assert drained == {before["0"], after["1"]}


def test_restarts_are_bounded_and_their_pauses_grow():
    with supervised("dying", "plain", max_restarts=3, backoff_s=0.1) as it:
        it.until(r"^worker 0 ended with exit code 4 and is given up after 3 restarts")
        pauses = re.findall(r"starts again in (\S+) s", "\n".join(it.lines))
        assert pauses == ["0.1", "0.2", "0.4"]
        assert it.process.poll() is None  # the other still serves
        it.process.terminate()
        assert it.end() == 1


def test_it_ends_when_none_is_left():
    with supervised("dying", "dying", max_restarts=0) as it:
        assert it.end() == 1


def test_steady_service_forgets_failures():
    with supervised("dying", max_restarts=1, backoff_s=0.01, steady_s=0.0) as it:
        it.begun(5)
        assert not any("given up" in line for line in it.lines)


def test_a_worker_that_cannot_start_ends_all():
    with supervised("plain", "failing") as it:
        assert it.end() == 1
    assert any(
        line.startswith("error: worker 1 ended with exit code 3 before it listened")
        for line in it.lines
    )
    assert not any(line.startswith("listening on ") for line in it.lines)


def test_a_second_signal_kills():
    with supervised("plain", "stuck") as it:
        it.until("^listening on ")
        it.process.terminate()
        it.until("^drained 1")
        it.process.terminate()
        assert it.end() == 1


def test_workers_drain_when_their_supervisor_is_killed():
    with supervised("plain", "plain") as it:
        it.until("^listening on ")
        it.process.kill()
        it.end()  # the pipe ends when every worker has
    assert sum(line.startswith("drained") for line in it.lines) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("processes", 0),
        ("threads", -1),
        ("max_restarts", -1),
        ("backoff_s", -1.0),
        ("steady_s", float("inf")),
    ],
)
def test_limits_are_checked(name, value):
    with pytest.raises(ConfigError, match=name):
        WorkersConfig(**{name: value})
