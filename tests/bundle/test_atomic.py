"""Directories and files appear whole or not at all."""

import os
import subprocess
import sys

import pytest

from fuserank.bundle.atomic import open_file, write_directory, write_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fill(target, text):
    with write_directory(target) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "file").write_text(text)


def fill_half(target, error):
    with write_directory(target) as partial:
        (partial / "file").write_text("half")
        raise error


def fill_half_a_file(target, error):
    with open_file(target) as file:
        file.write(b"half")
        raise error


@pytest.fixture
def dead_process():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_directory_appears_at_the_end_of_the_block(tmp_path):
    target = tmp_path / "parent" / "target"
    with write_directory(target) as partial:
        (partial / "file").write_text("x")
        assert not target.exists()
        assert partial.parent == target.parent  # a rename works within a file system only
    assert names(target) == ["file"]
    assert names(target.parent) == ["target"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        fill_half(tmp_path / "target", error)
    assert names(tmp_path) == []


def test_an_error_leaves_an_older_directory_untouched(tmp_path):
    fill(tmp_path / "target", "old")
    with pytest.raises(KeyboardInterrupt):
        fill_half(tmp_path / "target", KeyboardInterrupt)
    assert (tmp_path / "target" / "deep" / "file").read_text() == "old"
    assert names(tmp_path) == ["target"]


def test_an_older_directory_is_replaced_as_a_whole(tmp_path):
    fill(tmp_path / "target", "old")
    (tmp_path / "target" / "left over").write_text("x")
    fill(tmp_path / "target", "new")
    assert (tmp_path / "target" / "deep" / "file").read_text() == "new"
    assert names(tmp_path / "target") == ["deep"]
    assert names(tmp_path) == ["target"]


def test_replacement_does_without_the_exchange_of_linux(tmp_path, monkeypatch):
    fill(tmp_path / "target", "old")
    monkeypatch.setattr(sys, "platform", "darwin")
    fill(tmp_path / "target", "new")
    assert (tmp_path / "target" / "deep" / "file").read_text() == "new"
    assert names(tmp_path) == ["target"]


def test_a_reader_of_the_old_directory_keeps_its_open_file(tmp_path):
    fill(tmp_path / "target", "old")
    with (tmp_path / "target" / "deep" / "file").open() as file:
        fill(tmp_path / "target", "new")
        assert file.read() == "old"


def test_what_a_killed_process_left_is_removed(tmp_path, dead_process):
    (tmp_path / f".target.{dead_process}.partial").mkdir()
    (tmp_path / f".target.{dead_process}.partial" / "file").write_text("half")
    fill(tmp_path / "target", "new")
    assert names(tmp_path) == ["target"]


def test_what_a_living_process_writes_is_kept(tmp_path):
    living = tmp_path / f".target.{os.getppid()}.partial"
    living.mkdir()
    fill(tmp_path / "target", "new")
    assert living.is_dir()


def test_what_is_no_partial_directory_of_ours_is_kept(tmp_path):
    (tmp_path / ".target.notes.partial").mkdir()
    fill(tmp_path / "target", "new")
    assert names(tmp_path) == [".target.notes.partial", "target"]


@pytest.mark.parametrize("content", ["Léon", "Léon".encode()])
def test_a_file_is_replaced(tmp_path, content):
    target = tmp_path / "parent" / "file.json"
    write_file(target, "old")
    write_file(target, content)
    assert target.read_text(encoding="utf-8") == "Léon"
    assert names(target.parent) == ["file.json"]


def test_a_file_that_cannot_be_placed_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_file(tmp_path / "taken", "x")
    assert names(tmp_path) == ["taken"]


def test_a_file_that_is_written_in_parts_appears_whole(tmp_path, dead_process):
    (tmp_path / f".target.{dead_process}.partial").write_text("left behind")
    with open_file(tmp_path / "target") as file:
        file.write(b"a")
        file.write(b"b")
        assert not (tmp_path / "target").exists()
    assert names(tmp_path) == ["target"]
    with pytest.raises(KeyboardInterrupt):
        fill_half_a_file(tmp_path / "target", KeyboardInterrupt)
    assert (tmp_path / "target").read_bytes() == b"ab"
    assert names(tmp_path) == ["target"]
