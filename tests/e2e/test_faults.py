"""What goes wrong around a server of several processes, and what its callers see of it."""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading

import grpc
import numpy as np
import psutil
import pytest
from tests.e2e.serving import WAIT_S, connect, serving, stub_of

import fuserank
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle, synthetic_requests
from fuserank.errors import FuserankError
from fuserank.server.client.client import Client
from fuserank.server.messages.conversion import user_to_proto
from fuserank.server.pb import recommender_pb2 as pb

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ITEMS = SyntheticItems(n_items=5_000, width=16)
# A wall clock that is off by as many seconds as a file says, for every library of a process.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) {
    static volatile long *shared;
    if (!shared) {
        int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY);
        shared = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    }
    return *shared;
}
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += offset();
    return rc;
}
int gettimeofday(struct timeval *t, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int rc = real(t, zone);
    t->tv_sec += offset();
    return rc;
}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return synthetic_bundle(tmp_path_factory.mktemp("faults") / "bundle", ITEMS)


@pytest.fixture(scope="module")
def requests():
    return synthetic_requests(16, ITEMS)


def one(requests):
    return pb.RecommendRequest(user=user_to_proto(requests[0]), k=10)


def big(requests):
    """A batch whose reply is some 20 MB, more than sockets hold."""
    users = [user_to_proto(request) for request in requests] * 64
    return pb.RecommendBatchRequest(users=users, k=1000)


class Load:
    """Callers that ask one request over and over until told to stop."""

    def __init__(self, address, request, callers):
        self.answers, self.errors = [], []
        self._stop = threading.Event()
        self._address, self._request = address, request
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def _call(self):
        with connect(self._address) as channel:
            while not self._stop.is_set():
                try:
                    reply = stub_of(channel).Recommend(self._request, timeout=30)
                except grpc.RpcError as error:
                    with self._changed:
                        self.errors.append(error)
                        self._changed.notify_all()
                    return
                with self._changed:
                    self.answers.append(tuple(reply.recommendation.item_ids))
                    self._changed.notify_all()

    def wait_for_more(self, count):
        with self._changed:
            wanted = len(self.answers) + count
            self._changed.wait_for(lambda: self.errors or len(self.answers) >= wanted, WAIT_S)
            assert self.errors == []
            assert len(self.answers) >= wanted

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Proxy:
    """Passes one connection on; replies stop after `least` bytes until the gate is opened."""

    def __init__(self, address, least):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        host, port = address.rsplit(":", 1)
        self._target, self._least = (host, int(port)), least
        self.stalled, self.gate = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._pass_on)

    def _pass_on(self):
        near, _ = self._listener.accept()
        with near, socket.create_connection(self._target) as far:
            passed = 0
            with selectors.DefaultSelector() as selector:
                selector.register(near, selectors.EVENT_READ, far)
                selector.register(far, selectors.EVENT_READ, near)
                while True:
                    for key, _ in selector.select():
                        with contextlib.suppress(ConnectionError):
                            if data := key.fileobj.recv(65536):
                                key.data.sendall(data)
                                passed += len(data) if key.fileobj is far else 0
                                continue
                        return
                    if passed > self._least and not self.gate.is_set():
                        self.stalled.set()
                        assert self.gate.wait(WAIT_S)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self._thread.join()
        self._listener.close()


@contextlib.contextmanager
def stalled_call(address, request):
    """Yield a call in flight whose reply its reader does not take, and the proxy that holds it."""
    with Proxy(address, 100_000) as proxy, connect(proxy.address) as channel:
        call = stub_of(channel).RecommendBatch.future(request, timeout=WAIT_S)
        assert proxy.stalled.wait(WAIT_S)
        yield call, proxy
        proxy.gate.set()
        call.cancel()


def test_killed_workers_are_replaced_and_no_call_fails(bundle, requests):
    with fuserank.load(bundle, "cpu") as engine:
        expected = engine.recommend(requests[0], 10).item_ids
    with serving(bundle, 2) as served:
        with Load(served.address, one(requests), 4) as load:
            for index in (0, 1):  # so that every caller loses its connection at least once
                load.wait_for_more(100)
                os.kill(served.workers[index], signal.SIGKILL)
                served.until(f"worker {index} was ended by signal 9")
                served.wait_for_worker()
                load.wait_for_more(100)
        assert served.stop() == 0
    assert load.errors == []
    assert set(load.answers) == {expected}


def test_a_caller_that_is_killed_in_its_call_leaves_nothing_behind(bundle, requests, tmp_path):
    request = tmp_path / "request"
    request.write_bytes(big(requests).SerializeToString())
    with serving(bundle, 1) as served, Proxy(served.address, 100_000) as proxy:
        caller = """
import sys, grpc
from fuserank.server.pb import recommender_pb2 as pb, recommender_pb2_grpc
request = pb.RecommendBatchRequest.FromString(open(sys.argv[2], "rb").read())
channel = grpc.insecure_channel(sys.argv[1], [("grpc.max_receive_message_length", -1)])
recommender_pb2_grpc.RecommenderServiceStub(channel).RecommendBatch(request)
"""
        with subprocess.Popen([sys.executable, "-c", caller, proxy.address, request]) as killed:
            assert proxy.stalled.wait(WAIT_S)  # it has part of its reply
            killed.kill()
        proxy.gate.set()
        with Client(served.address) as client:
            assert len(client.recommend(requests[0], 10).item_ids) == 10
        assert served.stop() == 0  # within the grace, so that no call is still counted
        assert not any("Traceback" in line for line in served.words())


def test_a_slow_reader_keeps_nobody_waiting_and_gets_all_of_it(bundle, requests):
    with fuserank.load(bundle, "cpu") as engine:
        expected = [found.item_ids for found in engine.recommend_many(requests, 1000)]
    with serving(bundle, 1) as served, stalled_call(served.address, big(requests)) as stalled:
        call, proxy = stalled
        with Client(served.address) as client:
            for _ in range(20):
                assert client.recommend(requests[1], 10).item_ids == expected[1][:10]
        assert not call.done()
        proxy.gate.set()
        found = [tuple(one.item_ids) for one in call.result(WAIT_S).recommendations]
        assert found == expected * 64


def test_a_stream_that_is_not_read_holds_up_itself_alone_and_loses_nothing(bundle, requests):
    with fuserank.load(bundle, "cpu") as engine:
        expected = [found.item_ids for found in engine.recommend_many(requests, 1000)]
    users, taken = [user_to_proto(request) for request in requests], 0
    long = pb.Eligibility(exclude=["no such item" * 1_000])

    def messages(count):  # of 12 KB, more than transports hold, and their replies 20 KB
        nonlocal taken
        for number in range(count):
            taken += 1
            request = pb.RecommendRequest(user=users[number % 16], k=1000, eligibility=long)
            yield pb.RecommendStreamRequest(id=number, request=request)

    with (
        serving(bundle, 1) as served,
        connect(served.address) as channel,
        Client(served.address) as client,
    ):
        process = psutil.Process(served.process.pid)
        assert len(list(stub_of(channel).RecommendStream(messages(500)))) == 500
        before, taken = process.memory_full_info().uss, 0
        call = stub_of(channel).RecommendStream(messages(4_000))
        replies, seen = [next(call)], 0
        while taken > seen:  # until the server takes no more of it
            seen = taken
            for _ in range(50):
                assert client.recommend(requests[1], 10).item_ids == expected[1][:10]
        assert taken < 2_000
        assert process.memory_full_info().uss - before < 20 * 2**20  # all replies are 80 MB
        replies += call
    assert sorted(reply.id for reply in replies) == list(range(4_000))
    for reply in replies:
        assert tuple(reply.response.recommendation.item_ids) == expected[reply.id % 16]


def test_sigterm_lets_a_call_in_flight_finish(bundle, requests):
    users = [user_to_proto(request) for request in requests] * 16
    # To spread out thousands of candidates takes long, and the reply is short: of one that sockets
    # do not hold, the system may drop the rest where a client sends to a server that has closed.
    diversity = pb.Diversity(weight=0.5, candidates=4_000)
    slow = pb.RecommendBatchRequest(users=users, k=20, diversity=diversity)
    with serving(bundle, 2) as served, connect(served.address, retries=False) as channel:
        call = stub_of(channel).RecommendBatch.future(slow, timeout=WAIT_S)
        stub_of(channel).GetBundleInfo(pb.GetBundleInfoRequest())  # the batch came before it
        assert not call.done()
        served.process.terminate()
        wait_until_refused(served.address)
        assert served.process.poll() is None
        assert len(call.result(WAIT_S).recommendations) == 256
        assert served.process.wait(WAIT_S) == 0


def test_a_second_sigterm_does_not_wait(bundle, requests):
    with serving(bundle, 2) as served, stalled_call(served.address, big(requests)) as stalled:
        call, proxy = stalled
        served.process.terminate()
        wait_until_refused(served.address)
        served.process.terminate()
        assert served.process.wait(WAIT_S) == 1
        proxy.gate.set()
        with pytest.raises(grpc.RpcError) as raised:
            call.result(WAIT_S)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_workers_end_with_a_supervisor_that_is_killed(bundle, requests):
    with serving(bundle, 2) as served:
        served.process.kill()
        served.words()  # ends when the last process that holds the pipe has ended
        wait_until_refused(served.address)


def test_a_jump_of_the_clock_changes_nothing(bundle, requests, tmp_path):
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("needs a C compiler to make a clock that jumps")
    source, library, offset = (tmp_path / name for name in ("shim.c", "shim.so", "offset"))
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    clock = np.memmap(offset, dtype=np.int64, mode="w+", shape=1)
    environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}
    shown = [sys.executable, "-c", "import time; print(time.time())"]
    with serving(bundle, 2, environment) as served:
        clock[0] = 3_000_000_000
        found = subprocess.run(
            shown, env=os.environ | environment, check=True, capture_output=True, text=True
        )
        assert float(found.stdout) > 4e9  # else nothing would be tested
        with Load(served.address, one(requests), 4) as load:
            for days in (1, -2, 0):
                load.wait_for_more(100)
                clock[0] = days * 86_400
            load.wait_for_more(100)
        assert load.errors == []
        assert len(set(load.answers)) == 1
        clock[0] = 86_400
        os.kill(served.workers[1], signal.SIGKILL)  # restarts wait by no clock that jumps
        served.wait_for_worker()
        assert served.stop() == 0


def wait_until_refused(address):
    """Return once nobody listens."""
    host, port = address.rsplit(":", 1)
    for _ in range(10_000):
        try:
            socket.create_connection((host, int(port)), WAIT_S).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was in line when the socket was closed
            continue
    raise FuserankError(f"{address} is still listened on")
