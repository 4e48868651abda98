"""A server in processes of its own, and connections to it, for tests of what goes wrong."""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading

import grpc

from fuserank.server.client.client import Client
from fuserank.server.pb import recommender_pb2_grpc

RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "fuserank.v1.RecommenderService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
OPTIONS = ["--device=cpu", "--port=0", "--http.port=-1", "--grace-s=20"]
WAIT_S = 60.0


class Served:
    """A server process: its address, and what it says on stderr as it comes."""

    def __init__(self, bundle, processes, environment, options):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fuserank",
                "serve",
                bundle,
                *OPTIONS,
                *options,
                f"--processes={processes}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.lines, self._log = [], queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), "".join(self.words())
        self.address = line.removeprefix("listening on ").strip()
        with Client(self.address) as client:
            client.wait_until_ready(WAIT_S)
        self.workers = {}
        for _ in range(processes if processes > 1 else 0):
            self.wait_for_worker()

    def _read(self):
        for line in self.process.stderr:
            self._log.put(line)

    def until(self, pattern):
        while True:
            self.lines.append(self._log.get(timeout=WAIT_S))
            if found := re.search(pattern, self.lines[-1]):
                return found

    def wait_for_worker(self):
        """Take note of the next worker that serves."""
        found = self.until(r"worker (\d), process (\d+), serves")
        self.workers[int(found[1])] = int(found[2])

    def words(self):
        """Return all that it said, once it has ended."""
        self._reader.join(WAIT_S)
        while not self._log.empty():
            self.lines.append(self._log.get())
        return self.lines

    def kill(self):
        """End all its processes at once, whatever they are about."""
        self.process.kill()
        for worker in self.workers.values():
            os.kill(worker, signal.SIGKILL)
        self.words()  # ends when the last process that holds the pipe has ended

    def stop(self):
        self.process.terminate()
        return self.process.wait(WAIT_S)


@contextlib.contextmanager
def serving(bundle, processes, environment=(), options=()):
    served = Served(bundle, processes, dict(environment), options)
    try:
        yield served
    finally:
        served.process.kill()  # workers drain once their supervisor is gone
        served.process.wait()
        served.words()
        served.process.stdout.close()
        served.process.stderr.close()


def connect(address, *, retries=True):
    """Return a channel with a connection of its own, which channels share else."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
    ]
    if retries:
        options.append(("grpc.service_config", RETRIES))
    return grpc.insecure_channel(address, options)


def stub_of(channel):
    return recommender_pb2_grpc.RecommenderServiceStub(channel)
