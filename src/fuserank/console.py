"""What commands print: results to stdout, progress to stderr."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["err", "out", "print_json", "progress", "quiet", "steps"]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print a dataclass as one JSON document, and nothing else, on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain)).decode())
    sys.stdout.write("\n")


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; the function it yields takes the amount done since its last call."""
    with _bar() as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.update(task, advance=amount)
        bar.update(task, total=bar.tasks[0].completed)


@contextmanager
def steps(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr; the function it yields takes the steps done and the steps at most."""
    with _bar() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, most: bar.update(task, completed=done, total=most)
        bar.update(task, total=bar.tasks[0].completed)  # work may end early


@contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptor 2 nowhere: native libraries print there while they are imported."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _bar() -> Progress:
    columns = (TextColumn("{task.description:<28}"), BarColumn(30), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=err)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")
