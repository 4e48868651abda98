"""Files and directories that appear whole or not at all."""

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_file", "write_directory", "write_file"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def write_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes `target` when the block ends without an error.

    It stands beside the target, is flushed to disk, and takes the target's place in one step
    (Linux; elsewhere in two renames). After an error nothing of it remains and an older target
    is untouched. What an earlier, killed process left beside the target is removed.

    Raises:
        OSError: the parent cannot be written to.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in _stale(target):
        shutil.rmtree(stale, ignore_errors=True)
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        yield partial
        for file in sorted(partial.rglob("*")):
            _flush(file)
        _flush(partial)
        _replace(partial, target)
        _flush(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_file(target: Path, content: bytes | str) -> None:
    """Write a file beside its target, flush it, and rename it into place."""
    with open_file(target) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_file(target: Path) -> Iterator[BinaryIO]:
    """Yield a file beside its target that takes its place when the block ends without an error.

    After an error nothing of it remains and an older target is untouched. What an earlier, killed
    process left beside the target is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in _stale(target):
        stale.unlink(missing_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        _flush(partial)
        os.replace(partial, target)
        _flush(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _stale(target: Path) -> list[Path]:
    """Return what processes that are gone left beside a target."""
    partials = target.parent.glob(f".{target.name}.*.partial")
    return [partial for partial in partials if not _is_running(partial)]


def _replace(new: Path, target: Path) -> None:
    """Put a directory in the place of another; `new` then holds the old one, if there was one."""
    if not target.exists():
        new.rename(target)
        return
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if hasattr(libc, "renameat2") and not libc.renameat2(
            _AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE
        ):
            return
    old = new.with_suffix(".replaced")
    target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return  # Windows opens no directories
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_running(partial: Path) -> bool:
    """Whether the process that writes a partial directory is still there."""
    pid = partial.name.rsplit(".", 2)[1]
    if not pid.isdecimal():
        return True  # not one of ours
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
