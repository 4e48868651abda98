"""Training on more interactions than it holds in memory: rates, and the peak of memory.

The command is ``python -m fuserank.bench.training training.json``. It makes a Parquet file of
interactions, brings it in order, divides it, and trains a ranker of ids alone on it, for an epoch
or for as long as it is given.
"""

import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cyclopts
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fuserank import console
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.schema import Field, Kind, Schema, Side
from fuserank.training.batches.store_writing import store_interactions
from fuserank.training.batches.stored_parts import divide_stored, with_sample
from fuserank.training.data.dataset_config import InteractionsConfig
from fuserank.training.data.features import Features, SideFeatures
from fuserank.training.data.splits import Parts
from fuserank.training.fitting.fit import fit
from fuserank.training.train_config import TrainConfig

__all__ = ["TrainingReport", "measure_training"]

_ROWS = 1 << 20
_JUDGED = 500
"""Users whose validation positives are ranked at the end of an epoch."""
_POPULARITY = 0.8
"""The power of an item's rank by which it is drawn less often."""
_ACTIVITY = 1.0
"""Standard deviation of the logarithm of how active users are."""


@dataclass(frozen=True, kw_only=True)
class TrainingReport(Stored):
    """What was measured.

    Attributes:
        command: that measured it.
        machine: where.
        versions: of the packages.
        n_users: users in all.
        n_items: items in all.
        rows: interactions of the file.
        kept: those left without repeated pairs.
        file_mib: size of the Parquet file.
        store_mib: size of the store that is made of it.
        stored_rows_per_s: rate of bringing the file in order.
        divided_rows_per_s: rate of dividing the store in three.
        batch_size: positives a step.
        dim: width of the ranker.
        steps: steps that were trained, the first of them not timed.
        steps_an_epoch: steps of a whole epoch; where as many were trained, it was judged as well.
        positives_per_s: rate of training, sampling included.
        peak_mib: the process's peak of resident memory after each phase, mapped files included.
        anonymous_mib: memory at the end that is no mapped file.
    """

    written_by: ClassVar[str] = "'python -m fuserank.bench.training'"

    command: str
    machine: Machine
    versions: dict[str, str]
    n_users: int
    n_items: int
    rows: int
    kept: int
    file_mib: float
    store_mib: float
    stored_rows_per_s: float
    divided_rows_per_s: float
    batch_size: int
    dim: int
    steps: int
    steps_an_epoch: int
    positives_per_s: float
    peak_mib: dict[str, float]
    anonymous_mib: float


class _Enough(Exception):  # noqa: N818  (it is no error)
    """Ends training when its time is over."""


def measure_training(
    directory: Path,
    *,
    rows: int,
    n_users: int,
    n_items: int,
    config: TrainConfig,
    seconds: float,
    command: str,
) -> TrainingReport:
    """Make a file, store it, divide it, and train.

    Args:
        directory: where the files go.
        rows: interactions.
        n_users: users.
        n_items: items.
        config: how to train.
        seconds: after which training ends, within the epoch if need be.
        command: that is being run.
    """
    users = [f"u{row}" for row in range(n_users)]
    items = [f"i{row}" for row in range(n_items)]
    peak = {"start": _peak_mib()}
    path = directory / "interactions.parquet"
    _write_file(path, users, items, rows)
    peak["file"] = _peak_mib()

    options = InteractionsConfig(path=path, user="user", item="item", timestamp="time")
    started = time.perf_counter()
    stored = store_interactions(options, users, items, directory / "store")
    stored_s = time.perf_counter() - started
    peak["store"] = _peak_mib()
    started = time.perf_counter()
    parts = divide_stored(stored, config.split, config.seed, directory / "parts")
    divided_s = time.perf_counter() - started
    peak["division"] = _peak_mib()

    ticks = _train(parts, users, items, config, seconds)
    peak["training"] = _peak_mib()
    return TrainingReport(
        command=command,
        machine=this_machine(),
        versions=installed_versions(),
        n_users=n_users,
        n_items=n_items,
        rows=rows,
        kept=len(stored),
        file_mib=path.stat().st_size / 2**20,
        store_mib=sum(file.stat().st_size for file in (directory / "store").iterdir()) / 2**20,
        stored_rows_per_s=rows / stored_s,
        divided_rows_per_s=len(stored) / divided_s,
        batch_size=config.batch_size,
        dim=config.dim,
        steps=len(ticks.times),
        steps_an_epoch=ticks.of,
        positives_per_s=config.batch_size
        * (len(ticks.times) - 1)
        / (ticks.times[-1] - ticks.times[0]),
        peak_mib=peak,
        anonymous_mib=_anonymous_mib(),
    )


class _Ticks:
    """When each step of training ended; raises when the time is over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds
        self.times: list[float] = []
        self.of = 0

    def __call__(self, done: int, of: int) -> None:
        self.times.append(time.perf_counter())
        self.of = of
        if self.times[-1] > self._end and 1 < done < of:  # two make one that is timed
            raise _Enough


def _train(
    parts: Parts, users: list[str], items: list[str], config: TrainConfig, seconds: float
) -> _Ticks:
    fields = (
        Field(name="user_id", side=Side.USER, kind=Kind.ID),
        Field(name="item_id", side=Side.ITEM, kind=Kind.ID),
    )
    tables: dict[Side, dict[str, list[object]]] = {
        Side.USER: {"user_id": list(users)},
        Side.ITEM: {"item_id": list(items)},
    }
    schema = Schema.fit(fields, tables, text_dim=1)
    features = Features(
        users=SideFeatures(
            ids=tuple(users), tensors=schema.encode(Side.USER, tables[Side.USER], len(users))
        ),
        items=SideFeatures(
            ids=tuple(items), tensors=schema.encode(Side.ITEM, tables[Side.ITEM], len(items))
        ),
    )
    judged = with_sample(parts, config.seed, _JUDGED)
    ticks = _Ticks(seconds)
    try:
        fit(
            features,
            schema,
            config,
            train=parts.train,
            validation=judged.validation,
            on_progress=ticks,
        )
    except _Enough:
        console.out.print(f"stopped after {len(ticks.times)} of {ticks.of} steps")
    return ticks


def _write_file(path: Path, users: list[str], items: list[str], rows: int) -> None:
    """Write interactions: few items are popular and few users active; times go up with noise."""
    schema = pa.schema([("user", pa.string()), ("item", pa.string()), ("time", pa.int64())])
    user_ids, item_ids = pa.array(users), pa.array(items)
    with pq.ParquetWriter(path, schema) as writer:
        for first, user, item, noise in _draws(len(users), len(items), rows):
            columns = [user_ids.take(pa.array(user)), item_ids.take(pa.array(item))]
            when = pa.array(first + np.arange(len(user)) + noise)
            writer.write_table(pa.table([*columns, when], schema=schema))


def _draws(
    n_users: int, n_items: int, rows: int
) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the first row's number, user rows, item rows and noise of the times, lot by lot."""
    rng = np.random.default_rng(0)
    active = np.cumsum(rng.lognormal(sigma=_ACTIVITY, size=n_users))
    popular = np.cumsum(np.arange(10, 10 + n_items) ** -_POPULARITY)
    for first in range(0, rows, _ROWS):
        count = min(_ROWS, rows - first)
        user = np.searchsorted(active, rng.random(count) * active[-1])
        item = np.searchsorted(popular, rng.random(count) * popular[-1])
        yield first, user, item, rng.integers(0, _ROWS, count)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _anonymous_mib() -> float:
    """Return resident memory that is no mapped file."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) / 1024


def main(
    out: Path,
    *,
    rows: int = 10_000_000,
    n_users: int = 200_000,
    n_items: int = 50_000,
    batch_size: int = 8192,
    dim: int = 32,
    seconds: float = 240.0,
) -> None:
    """Measure training on a file of interactions.

    Args:
        out: File to write the report to.
        rows: Interactions.
        n_users: Users.
        n_items: Items.
        batch_size: Positives a step.
        dim: Width of the ranker.
        seconds: Time for training, which ends within its first epoch if need be.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = measure_training(
            Path(directory),
            rows=rows,
            n_users=n_users,
            n_items=n_items,
            config=TrainConfig(model="bilinear", dim=dim, batch_size=batch_size, epochs=1),
            seconds=seconds,
            command=shlex.join(["python", "-m", "fuserank.bench.training", *sys.argv[1:]]),
        )
    report.save(out)
    console.out.print(
        f"{report.rows:,} rows, {report.file_mib:.0f} MiB: stored {report.stored_rows_per_s:,.0f} "
        f"rows/s, divided {report.divided_rows_per_s:,.0f} rows/s, trained "
        f"{report.positives_per_s:,.0f} positives/s over {report.steps} of "
        f"{report.steps_an_epoch} steps; peak {report.peak_mib['training']:.0f} MiB"
    )


if __name__ == "__main__":
    cyclopts.run(main)
