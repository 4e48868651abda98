import numpy as np
import pytest

from fuserank.bench.limits import read_floor_ms, total


def test_every_value_is_read():
    values = np.arange(10_001, dtype=np.float32) % 7
    assert total(values) == values.sum()


@pytest.mark.parametrize("threads", [1, 3])
def test_one_time_a_pass(threads):
    states = {
        "item_state": np.ones((100, 8), np.float32),
        "item_constant": np.ones(100, np.float32),
    }
    times = read_floor_ms(states, threads=threads, passes=4)
    assert len(times) == 4
    assert min(times) > 0


def test_read_only_maps_are_read_in_place(tmp_path):
    np.save(tmp_path / "state.npy", np.ones((64, 4), np.float32))
    mapped = np.load(tmp_path / "state.npy", mmap_mode="r")
    assert len(read_floor_ms({"state": mapped}, threads=2, passes=1)) == 1
