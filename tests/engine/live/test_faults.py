"""Live items when processes die, disks fill and several processes share a directory."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fuserank.engine.engine import load
from fuserank.engine.live import live_items
from fuserank.engine.live.segment_store import SegmentStore
from fuserank.engine.live.snapshot import Part
from fuserank.errors import JournalError, JournalWriteError

DIM = 4
TIMEOUT_S = 60

WRITER = """
import sys
from fuserank.engine.engine import load

bundle, directory, name = sys.argv[1:4]
engine = load(bundle, device="cpu", live=directory, threads=1)
print("ready", flush=True)
number = 0
while True:
    ids = [f"{name}{number}a", f"{name}{number}b"]
    engine.upsert({i: {"vector": [number, 1, 2, 3], "title": i} for i in ids})
    print(*ids, flush=True)
    if number % 7 == 3:
        engine.delete([f"{name}{number - 1}a"])
        print("deleted", f"{name}{number - 1}a", flush=True)
    if number % 10 == 9:
        engine.fold()
    number += 1
"""

LIMITED = """
import resource, sys
from fuserank.engine.engine import load
from fuserank.errors import JournalWriteError

bundle, directory = sys.argv[1:3]
engine = load(bundle, device="cpu", live=directory, threads=1)
engine.upsert({"before": {"vector": [1, 2, 3, 4]}})
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
refused = 0
for number in range(400):
    try:
        engine.upsert({f"{number}": {"vector": [1, 2, 3, 4], "text": "x" * 2000}})
    except JournalWriteError:
        refused += 1
        n_items = engine.info.n_items
        assert len(engine.recommend({}, k=10_000)) == n_items
        assert f"{number}" not in engine.recommend({}, k=10_000).item_ids
assert refused > 100, refused
try:
    engine.fold()
    print("folded")
except OSError as error:
    print("no room to fold")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert engine.upsert({"after": {"vector": [1, 2, 3, 4]}}) == 1
assert {"before", "after"} <= set(engine.recommend({}, k=10_000).item_ids)
print("left", engine.info.n_items)
engine.close()
"""


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "src")},
    )


def an_item(seed):
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32).tolist()
    return {"title": f"New {seed}", "vector": vector}


def ids_of(engine):
    return set(engine.recommend({"user_id": "u5"}, k=100_000, include_seen=True).item_ids)


def until(condition):
    """Wait until something is so; it is looked at every 10 ms."""
    waited = threading.Event()
    for _ in range(100 * TIMEOUT_S):
        if condition():
            return
        waited.wait(0.01)
    raise AssertionError("it did not become so")


@pytest.fixture
def open_live(tiny_bundle, tmp_path):
    opened = []

    def begin():
        engine = load(tiny_bundle.path, device="cpu", live=tmp_path / "live", threads=1)
        opened.append(engine)
        return engine

    yield begin
    for engine in opened:
        engine.close()


def test_every_acknowledged_item_is_there_after_kill_9(tiny_bundle, tmp_path, open_live):
    """Two processes write and fold; each is killed in the middle of it, one after the other."""
    directory = tmp_path / "live"
    writers = [start(WRITER, tiny_bundle.path, directory, name) for name in ("p", "q")]
    acknowledged, deleted = set(), set()
    for writer in writers:
        for _ in range(25):
            words = writer.stdout.readline().split()
            if words[:1] == ["deleted"]:
                deleted.add(words[1])
            elif words != ["ready"]:
                acknowledged.update(words)
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate(timeout=TIMEOUT_S)
        assert writer.returncode == -signal.SIGKILL
        lines = rest.splitlines(keepends=True)
        for line in lines:
            if not line.endswith("\n"):
                continue
            words = line.split()
            if words[0] == "deleted":
                deleted.add(words[1])
            elif words != ["ready"]:
                acknowledged.update(words)
    assert len(acknowledged) > 40
    engine = open_live()
    found = ids_of(engine)
    # A deletion may have been committed and not yet printed.
    missing = acknowledged - deleted - found
    assert all(item_id.endswith("a") for item_id in missing)
    assert len(missing) <= len(writers)
    assert not deleted & found
    # What was sent together is there together.
    alone = {i for i in found if i[0] in "pq" and i.endswith("a") and i[:-1] + "b" not in found}
    assert not alone
    assert not list((directory / "segments").glob("*.partial")) or engine.fold()


def test_full_disk_refuses_changes_and_nothing_else(tiny_bundle, tmp_path, open_live):
    child = start(LIMITED, tiny_bundle.path, tmp_path / "live")
    out, _ = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == 0
    n_items = int(out.split()[-1])
    engine = open_live()
    assert engine.info.n_items == n_items
    assert {"before", "after"} <= ids_of(engine)


def test_processes_see_each_others_items(tiny_bundle, tmp_path, open_live):
    engine = open_live()
    other = start(WRITER, tiny_bundle.path, tmp_path / "live", "p")
    try:
        assert other.stdout.readline() == "ready\n"
        until(lambda: {"p0a", "p5b"} <= ids_of(engine))
        until(lambda: "p2a" not in ids_of(engine))  # which it deletes
    finally:
        other.kill()
        other.communicate()


def test_engines_take_over_what_another_one_folds(open_live):
    first, second = open_live(), open_live()
    first.upsert({f"n{i}": an_item(i) for i in range(50)})
    first.delete(["i7", "n3"])
    assert first.fold()
    until(lambda: second._live._folded_up_to == first._live._folded_up_to > 0)
    second.upsert({"late": an_item(1)})
    until(lambda: "late" in ids_of(first))
    assert ids_of(first) == ids_of(second)
    np.testing.assert_array_equal(first.recommend({}, 300).scores, second.recommend({}, 300).scores)
    # Each has one segment of its own mapped, and the directory holds no other.
    assert len(list((first._live._journal.directory / "segments").iterdir())) == 1


def test_many_changes_are_folded_without_being_asked(open_live, monkeypatch):
    monkeypatch.setattr(live_items, "_POLL_S", 0.01)
    engine = open_live()
    engine._live._fold_at = 20
    engine.upsert({f"n{i}": an_item(i) for i in range(30)})
    until(lambda: engine._live._folded_up_to == 30)
    assert engine.info.n_items == 180


def test_an_item_that_is_replaced_again_and_again_is_folded_too(open_live, monkeypatch):
    monkeypatch.setattr(live_items, "_POLL_S", 0.01)
    engine = open_live()
    engine._live._fold_at = 20
    for edition in range(30):
        engine.upsert({"a": an_item(edition)})
    until(lambda: engine._live._folded_up_to >= 20)
    assert engine.info.n_items == 151


def test_nothing_new_is_folded_without_a_write(open_live, monkeypatch):
    engine = open_live()
    engine.upsert({"a": an_item(1)})
    assert engine.fold()
    monkeypatch.setattr(SegmentStore, "write", None)
    assert engine.fold()


def test_only_one_folds_at_a_time(open_live):
    first, second = open_live(), open_live()
    first.upsert({"a": an_item(1)})
    with first._live._fold_lock.tried() as mine:
        assert mine
        assert not second.fold()
    assert second.fold()


def test_scans_go_on_while_items_are_folded(open_live):
    """Results are the same before, during and after, whatever the parts are."""
    engine = open_live()
    engine.upsert({f"n{i}": an_item(i) for i in range(200)})
    engine.delete([f"i{i}" for i in range(50)])
    asked = {"user": {"user_id": "u5"}, "k": 1000, "exclude": ["odd"]}
    expected = engine.recommend(**asked)
    stop, failures, n_done = threading.Event(), [], [0]

    def scan():
        while not stop.is_set():
            found = engine.recommend(**asked)
            n_done[0] += 1
            if found.item_ids != expected.item_ids or (found.scores != expected.scores).any():
                failures.append(found)

    scanning = threading.Thread(target=scan)
    scanning.start()
    for edition in range(10):
        engine.upsert({"odd": an_item(edition)})
        assert engine.fold()
    until(lambda: n_done[0] > 20)
    stop.set()
    scanning.join()
    assert not failures


@pytest.mark.parametrize("step", ["write", "digest", "rename", "take over", "clean"])
def test_a_crash_between_the_steps_of_a_fold_loses_nothing(open_live, monkeypatch, step):
    engine = open_live()
    engine.upsert({f"n{i}": an_item(i) for i in range(20)})
    assert engine.fold()
    engine.upsert({f"n{i}": an_item(i + 100) for i in range(10)} | {"late": an_item(7)})
    engine.delete(["n15", "i3"])
    expected = engine.recommend({}, k=1000)
    place = {
        "write": "fuserank.engine.live.segment_store._write_strings",
        "digest": "fuserank.engine.live.segment_store.digest",
        "rename": "fuserank.bundle.atomic._replace",
        "take over": "fuserank.engine.live.live_items.LiveItems._rebuild",
        "clean": "fuserank.engine.live.segment_store.SegmentStore.clean",
    }[step]

    class PowerCutError(BaseException):
        pass

    def cut(*_, **__):
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(place, cut)
        with pytest.raises(PowerCutError):
            engine.fold()
    for opened in (engine, open_live()):
        found = opened.recommend({}, k=1000)
        assert found.item_ids == expected.item_ids
        np.testing.assert_array_equal(found.scores, expected.scores)
    assert engine.fold()
    assert engine.recommend({}, k=1000).item_ids == expected.item_ids


def test_a_segment_that_is_damaged_is_made_again(open_live):
    engine = open_live()
    engine.upsert({f"n{i}": an_item(i) for i in range(20)})
    engine.fold()
    engine.close()
    expected = engine.recommend({}, k=1000)
    (segment,) = (engine._live._journal.directory / "segments").iterdir()
    states = segment / "states" / "item_state.npy"
    content = bytearray(states.read_bytes())
    content[200] ^= 0xFF
    states.write_bytes(content)
    again = open_live()
    assert again._live._folded_up_to == 0
    np.testing.assert_array_equal(again.recommend({}, k=1000).scores, expected.scores)
    assert again.fold()
    assert again._live._folded_up_to == 20


def test_a_segment_of_another_journal_is_not_used(open_live, tmp_path):
    engine = open_live()
    engine.upsert({f"n{i}": an_item(i) for i in range(20)})
    engine.fold()
    engine.close()
    kept = tmp_path / "kept"
    shutil.move(tmp_path / "live" / "segments", kept)
    shutil.rmtree(tmp_path / "live")
    fresh = open_live()
    fresh.upsert({f"m{i}": an_item(i) for i in range(30)})
    fresh.close()
    shutil.move(kept, tmp_path / "live" / "segments")
    again = open_live()
    assert "n3" not in ids_of(again)
    assert len(ids_of(again)) == 180


def test_segments_above_an_older_journal_are_removed(open_live):
    engine = open_live()
    engine.upsert({"a": an_item(1)})
    store = engine._live._segments
    path = store.write(50, engine._live._replay.content(engine._live.refresh()))
    engine.close()
    again = open_live()
    assert not path.exists()
    assert "a" in ids_of(again)


def test_no_room_for_a_segment_leaves_items_as_they_are(open_live, monkeypatch, caplog):
    engine = open_live()
    engine.upsert({"a": an_item(1)})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SegmentStore, "write", full)
    monkeypatch.setattr(live_items, "_POLL_S", 0.01)
    engine._live._fold_at = 1
    until(lambda: engine._live._fold_at > 1)
    assert "No space left" in caplog.text
    assert "a" in ids_of(engine)
    engine.upsert({"b": an_item(2)})
    assert {"a", "b"} <= ids_of(engine)


def test_damage_while_serving_is_an_error_and_the_last_state_stays(open_live, caplog):
    engine, other = open_live(), open_live()
    engine.upsert({"a": an_item(1)})
    other._live._journal._writer.execute(
        "INSERT OR REPLACE INTO items VALUES (9, 'b', '{}', x'00', NULL, NULL, NULL)"
    )
    until(lambda: "change 9 is not what was written" in caplog.text)
    assert "a" in ids_of(engine)
    assert "b" not in ids_of(engine)
    with pytest.raises(JournalError, match="change 9"):
        engine.delete(["a"])


def test_a_change_that_fails_to_be_read_is_read_once_it_can_be(open_live, monkeypatch):
    engine = open_live()
    engine.upsert({"a": an_item(1)})
    with monkeypatch.context() as patched:

        def fail(*_):
            raise MemoryError

        patched.setattr(Part, "grown", fail)
        with pytest.raises(MemoryError):
            engine.upsert({"b": an_item(2), "a": an_item(3)})
        assert "b" not in ids_of(engine)
    engine.upsert({"c": an_item(4)})
    assert {"a", "b", "c"} <= ids_of(engine)
    found = engine.recommend({}, k=1000).item_ids
    assert len(found) == len(set(found)) == engine.info.n_items == 153


def test_clocks_that_jump_change_nothing(open_live, monkeypatch):
    times = iter([2e9, 1.0, 3e9, 0.0, 1e9] * 10_000)
    monkeypatch.setattr("time.time", lambda: next(times))
    monkeypatch.setattr("time.time_ns", lambda: int(next(times) * 1e9))
    first, second = open_live(), open_live()
    for edition in range(5):
        first.upsert({"a": {"title": f"{edition}"}})
        second.upsert({"b": {"title": f"{edition}"}})
        first.fold()
    until(lambda: first.catalogue_version == second.catalogue_version == 10)
    for engine in (first, second):
        titles = [entry["title"] for entry in engine.attributes(["a", "b"])]
        assert titles == ["4", "4"]


def test_no_room_is_an_error_that_names_the_file(open_live):
    engine = open_live()
    writer = engine._live._journal._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalWriteError, match=r"journal.sqlite3: .* full .*make room"):
        engine.upsert({"a": an_item(1) | {"text": "x" * 50_000}})
    assert "a" not in ids_of(engine)
