"""A smaller encoder beside the one that it was made of: its speed, and what it costs rankings.

``python -m fuserank.bench.smaller_encoder smaller.json --dataset dataset.toml --whole minilm
--smaller minilm-3 --runs run-42 run-43``. The rankers of the runs were trained with the whole one;
each ranks its validation users with the embeddings of either, so that nothing but the encoder
differs.
"""

import shlex
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import cyclopts
from cyclopts import Parameter

from fuserank import console
from fuserank.bench.encoding import (
    CATALOGUE,
    ONE,
    ONE_TEXT,
    EncodingRow,
    count_tokens,
    item_texts,
    time_systems,
)
from fuserank.bench.encoding_systems import System, ours
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.engine.encoder import TextEncoder, check_space
from fuserank.engine.providers import cores
from fuserank.export.gate import GateBudget, RankedWith, compare
from fuserank.export.trials import RankerData
from fuserank.training.artifact import TrainedRun
from fuserank.training.data.dataset import Dataset, load_dataset

__all__ = ["Ranked", "SmallerReport", "measure_smaller"]

_NAMES = ("smaller", "whole")

Encoder = tuple[Path, TextEncoder]
"""Its directory and itself."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """What one ranker makes of its validation users with either encoder.

    Attributes:
        run: directory of the ranker.
        model: its interaction model.
        seed: of its training.
        n_users: validation users.
        whole_ndcg: NDCG@10 with the encoder that it was trained with.
        smaller_ndcg: the same with the smaller one.
        loss: share of the former that is lost; negative where it is a gain.
        overlap_100: mean overlap of the hundred best items.
        item_cosine: mean cosine of the embeddings of item texts; None without any.
    """

    run: str
    model: str
    seed: int
    n_users: int
    whole_ndcg: float
    smaller_ndcg: float
    loss: float
    overlap_100: float
    item_cosine: float | None


@dataclass(frozen=True, kw_only=True)
class SmallerReport(Stored):
    """All of one run.

    Attributes:
        whole: name and precision of the encoder that the other one was made of.
        smaller: the same of that.
        threads: of either.
        n_texts: texts of the catalogue, each of them once.
        times_as_fast: by work, the whole one's time as a multiple of the smaller one's: the median
            over rounds in which they take turns.
        ranked: by each ranker.
        mean_loss: of NDCG@10, over the rankers.
        rows: a row for each piece of work and encoder.
        machine: where it was measured.
        versions: of the packages that matter.
        command: what to run to measure again.
    """

    whole: str
    smaller: str
    threads: int
    n_texts: int
    times_as_fast: dict[str, float]
    ranked: tuple[Ranked, ...]
    mean_loss: float
    rows: tuple[EncodingRow, ...]
    machine: Machine
    versions: dict[str, str]
    command: str

    written_by: ClassVar[str] = "fuserank.bench.smaller_encoder"


def measure_smaller(
    dataset: Path,
    *,
    whole: Path,
    smaller: Path,
    runs: list[Path],
    threads: int,
    command: str,
) -> SmallerReport:
    """Time both encoders on the texts about a data set's items, and rank with both.

    Args:
        dataset: the dataset.toml.
        whole: directory of the encoder that the rankers were trained with.
        smaller: directory of one that embeds as it does.
        runs: directories of trained rankers, 1 or more.
        threads: of either encoder.
        command: what the report says to run to measure again.

    Raises:
        SpaceMismatchError: a ranker was trained with another encoder.
        ExportError: a ranker was trained on other data.
        SchemaError: the encoders are of different widths.
    """
    machine = this_machine()
    encoders = [TextEncoder.load(path, threads=threads, cache_size=0) for path in (smaller, whole)]
    systems = [
        System(name, system.encode, system.encode_one)
        for name, system in zip(_NAMES, map(ours, encoders), strict=True)
    ]
    texts = item_texts(dataset, encoders[0].dim)
    rows: list[EncodingRow] = []
    for work, chosen in ((CATALOGUE, texts), (ONE, [ONE_TEXT])):
        rows += time_systems(work, chosen, systems, count_tokens(encoders[0], chosen).real)
    data = load_dataset(dataset)
    of_both = {"whole": (whole, encoders[1]), "smaller": (smaller, encoders[0])}
    ranked = tuple(_rank(run, data, **of_both) for run in runs)
    return SmallerReport(
        whole=_described(encoders[1]),
        smaller=_described(encoders[0]),
        threads=threads,
        n_texts=len(texts),
        times_as_fast={row.work: row.times_ours for row in rows if row.system == _NAMES[1]},
        ranked=ranked,
        mean_loss=statistics.mean(one.loss for one in ranked),
        rows=tuple(rows),
        machine=machine,
        versions=installed_versions(),
        command=command,
    )


def _described(encoder: TextEncoder) -> str:
    return f"{encoder.config.model} {encoder.config.precision}"


def _rank(directory: Path, dataset: Dataset, whole: Encoder, smaller: Encoder) -> Ranked:
    run = TrainedRun.load(directory)
    check_space(whole[1].space, run.encoder_space, str(whole[0]))
    data = RankerData(run, dataset)

    def rank(path: Path, encoder: TextEncoder) -> RankedWith:
        return data.rank(data.encode(encoder), encoder, path)

    report = compare(rank(*whole), rank(*smaller), GateBudget())
    return Ranked(
        run=directory.name,
        model=run.config.model,
        seed=run.config.seed,
        n_users=report.n_users,
        whole_ndcg=report.reference.ndcg,
        smaller_ndcg=report.optimized.ndcg,
        loss=report.ndcg_loss,
        overlap_100=report.overlap_100,
        item_cosine=None if report.item_texts is None else report.item_texts.mean,
    )


def main(
    out: Path,
    *,
    dataset: Path,
    whole: Path,
    smaller: Path,
    runs: Annotated[list[Path], Parameter(consume_multiple=True)],
    threads: int = 0,
) -> None:
    """Measure a smaller encoder beside the one that it was made of.

    Args:
        out: File to write the report to.
        dataset: The dataset.toml whose texts about items are embedded.
        whole: Directory of the encoder that the rankers were trained with.
        smaller: Directory of the smaller one.
        runs: Directories that 'fuserank train' wrote.
        threads: Threads of either; 0 takes one for each core.
    """
    report = measure_smaller(
        dataset,
        whole=whole,
        smaller=smaller,
        runs=runs,
        threads=threads or cores(),
        command=shlex.join(["python", "-m", "fuserank.bench.smaller_encoder", *sys.argv[1:]]),
    )
    report.save(out)
    for work, times in report.times_as_fast.items():
        console.out.print(f"{work}: {times:.2f} times as fast")
    for one in report.ranked:
        console.out.print(
            f"{one.run}: NDCG@10 {one.whole_ndcg:.4f}, {one.smaller_ndcg:.4f} with the smaller "
            f"one, {one.loss:.2%} lost; overlap of the hundred best {one.overlap_100:.3f}"
        )
    console.out.print(f"lost on average: {report.mean_loss:.2%}")


if __name__ == "__main__":
    cyclopts.run(main)
