import threading

import pytest

from fuserank.engine.scoring.shares import Shares


def cut(first, last):
    return first, last


def test_one_pass_takes_every_thread_and_leaves_no_gap():
    shares = Shares(4)
    assert shares.run(cut, 1_000, 10) == [(0, 250), (250, 500), (500, 750), (750, 1_000)]
    assert shares.run(cut, 25, 10) == [(0, 12), (12, 25)]
    assert shares.run(cut, 5, 10) == [(0, 5)]
    shares.close()


def test_passes_at_the_same_time_divide_the_threads():
    shares = Shares(4)
    first_runs, second_ran = threading.Event(), threading.Event()

    def held(first, last):
        first_runs.set()
        assert second_ran.wait(20)
        return first, last

    found = []
    caller = threading.Thread(target=lambda: found.append(shares.run(held, 1_000, 1_000)))
    caller.start()
    assert first_runs.wait(20)
    assert shares.run(cut, 1_000, 10) == [(0, 500), (500, 1_000)]
    second_ran.set()
    caller.join()
    assert found == [[(0, 1_000)]]
    assert len(shares.run(cut, 1_000, 10)) == 4
    shares.close()


def test_a_pass_that_fails_gives_its_threads_back():
    shares = Shares(2)

    def broken(first, last):
        raise ValueError("broken")

    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            shares.run(broken, 100, 10)
    assert len(shares.run(cut, 100, 10)) == 2
    shares.close()
