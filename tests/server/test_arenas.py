import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fuserank.server.arenas import share_arenas

THREADS = 8
BYTES = 100_000  # within an arena: what is much larger gets pages of its own

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_info"),
    reason="the C library is not glibc",
)


def allocate(report):
    """Allocate on several threads at once, and write down what glibc says of its arenas."""
    import threading

    libc, barrier = ctypes.CDLL(None), threading.Barrier(THREADS)
    libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.fclose.argtypes = [ctypes.c_void_p]

    def work():
        barrier.wait()  # all live at a time
        assert libc.malloc(BYTES)
        barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = libc.fopen(os.fsencode(report), b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)


def n_arenas(tmp_path, *, shared, **environment):
    """Return how many arenas a new process has after threads allocated."""
    report = tmp_path / "malloc.xml"
    left = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    subprocess.run(
        [sys.executable, __file__, str(report), "shared" if shared else ""],
        env=left | environment,
        check=True,
    )
    return len(re.findall(r"<heap nr=", report.read_text()))


def test_threads_share_two_arenas(tmp_path):
    assert n_arenas(tmp_path, shared=False) > 2
    assert n_arenas(tmp_path, shared=True) <= 2


def test_the_environment_has_the_last_word(tmp_path):
    assert n_arenas(tmp_path, shared=True, MALLOC_ARENA_MAX="4") in (3, 4)


if __name__ == "__main__":
    if sys.argv[2]:
        share_arenas()
    allocate(Path(sys.argv[1]))
