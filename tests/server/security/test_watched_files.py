import os
import time

from fuserank.server.security.watched_files import WatchedFiles

LONG_AGO = time.time() - 3600


def settle(*files):
    for file in files:
        os.utime(file, (LONG_AGO, LONG_AGO))


def test_a_change_is_told_once(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    watched = WatchedFiles([first, second])
    assert watched.contents == (b"1", b"2")
    assert not watched.changed()
    second.write_bytes(b"3")
    assert watched.changed()
    assert watched.contents == (b"1", b"3")
    assert not watched.changed()


def test_the_same_size_and_time_do_not_hide_a_change(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    settle(file)
    watched = WatchedFiles([file])
    file.write_bytes(b"new")
    settle(file)
    assert watched.changed()
    # At once: within the grain of the clock the stamps may all be as they were.
    for number in range(200):
        content = f"{number:03}".encode()
        file.write_bytes(content)
        assert watched.changed()
        assert watched.contents == (content,)


def test_to_write_the_same_again_is_no_change(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"same")
    watched = WatchedFiles([file])
    file.write_bytes(b"same")
    assert not watched.changed()


def test_a_file_that_goes_and_comes_back_changes_twice(tmp_path):
    file = tmp_path / "file"
    watched = WatchedFiles([file])
    assert watched.contents == (None,)
    assert not watched.changed()
    file.write_bytes(b"there")
    assert watched.changed()
    file.unlink()
    assert watched.changed()
    assert watched.contents == (None,)
    assert not watched.changed()


def test_a_link_that_is_turned_is_a_change(tmp_path):
    """As a cluster replaces mounted secrets."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode())
    link = tmp_path / "link"
    link.symlink_to("one")
    watched = WatchedFiles([link / "file"])
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(link)
    assert watched.changed()
    assert watched.contents == (b"two",)


def test_files_at_rest_are_not_read(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"1")
    settle(file)
    # The time of the last change of its times cannot be set, and is now.
    monkeypatch.setattr(time, "time", lambda: LONG_AGO + 7200)
    watched = WatchedFiles([file])
    monkeypatch.setattr(type(file), "read_bytes", lambda _: 1 / 0)
    assert not watched.changed()


def test_a_clock_that_goes_back_hides_nothing(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"1")
    monkeypatch.setattr(time, "time", lambda: LONG_AGO)
    watched = WatchedFiles([file])
    file.write_bytes(b"2")
    assert watched.changed()
