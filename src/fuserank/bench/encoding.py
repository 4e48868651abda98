"""Texts to embeddings, from strings: a catalogue, mixed lengths and one short text, beside peers.

The command is ``python -m fuserank.bench.encoding encoding.json --dataset dataset.toml --encoder
minilm --model all-MiniLM-L6-v2``. Peers run that are installed; the others are named.
"""

import os
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cyclopts
import numpy as np
import numpy.typing as npt

from fuserank import console
from fuserank.bench.encoding_systems import (
    REFERENCE,
    System,
    naive,
    ours,
    peers,
    sentence_transformers,
    token_lengths,
)
from fuserank.bench.report import Machine, Stored, installed_versions, this_machine
from fuserank.engine.encoder import TextEncoder
from fuserank.engine.providers import Device, cores, resolve_device
from fuserank.engine.text_graph import TokenCounts
from fuserank.errors import DataError
from fuserank.schema import Side

__all__ = [
    "CATALOGUE",
    "MIXED",
    "ONE",
    "ONE_TEXT",
    "WORKS",
    "EncodingReport",
    "EncodingRow",
    "count_tokens",
    "item_texts",
    "measure_encoding",
    "time_systems",
]

FloatArray = npt.NDArray[np.float32]

CATALOGUE, MIXED, ONE = WORKS = ("catalogue", "mixed lengths", "one short text")
"""All texts about items · texts of 8 to 256 tokens · a request."""

ONE_TEXT = "a quiet heist film with an old safecracker"
_MIXED_TEXTS, _MIXED_TOKENS = 128, (8, 256)
_ROUNDS = {CATALOGUE: 5, MIXED: 5, ONE: 20}
_CALLS = 40
"""Of one text, in a round."""
_REST_S = 0.05
"""Between systems: thread pools go on spinning for a while, on cores that the next one needs."""
_LEAST_COSINE = 0.9


@dataclass(frozen=True, kw_only=True)
class EncodingRow:
    """One system at one piece of work.

    Attributes:
        work: one of `WORKS`.
        system: what ran.
        median_ms: of a pass over all texts of the work.
        best_ms: of its quickest pass: nearest to what the machine does when nobody shares it.
        texts_per_s: at the median.
        tokens_per_s: of texts, not of padding, at the median.
        times_ours: the median, over rounds, of a pass as a multiple of this package's own in the
            same round: a machine that is shared is quicker in some rounds than in others.
        mean_cosine: of its embeddings to those of the reference library; None without that.
    """

    work: str
    system: str
    median_ms: float
    best_ms: float
    texts_per_s: float
    tokens_per_s: float
    times_ours: float
    mean_cosine: float | None


@dataclass(frozen=True, kw_only=True)
class EncodingReport(Stored):
    """All of one run.

    Attributes:
        model: name of the encoder.
        precision: of its weights.
        threads: of every system.
        n_texts: texts of the catalogue, each of them once.
        padding_waste: by work, the share of padding in what the graph ran for this package.
        machine: where it was measured.
        versions: of the packages that matter.
        command: what to run to measure again.
        not_installed: peers that did not run.
        rows: a row for each piece of work and system.
    """

    model: str
    precision: str
    threads: int
    n_texts: int
    padding_waste: dict[str, float]
    machine: Machine
    versions: dict[str, str]
    command: str
    not_installed: tuple[str, ...]
    rows: tuple[EncodingRow, ...]

    written_by: ClassVar[str] = "fuserank.bench.encoding"


def measure_encoding(
    dataset: Path,
    encoder: Path,
    model: Path | None,
    *,
    threads: int,
    command: str,
    device: Device = Device.CPU,
) -> EncodingReport:
    """Measure an encoder on the texts about a data set's items.

    Systems take turns, so that a busy moment hits all, and begin each round with a rest.

    Args:
        dataset: the dataset.toml.
        encoder: directory of an exported encoder.
        model: folder of the model that it was exported from; None measures no peer.
        threads: of every system.
        command: what the report says to run to measure again.
        device: of this package's encoder and of the reference library's; peers of the CPU alone run
            on the CPU alone.

    Raises:
        ProviderError: the device is not there.
        DataError: a peer embeds as another model would.
    """
    machine = this_machine()
    resolved = resolve_device(device)
    loaded = TextEncoder.load(encoder, resolved, threads=threads, cache_size=0)
    loaded.warm()
    texts = item_texts(dataset, loaded.dim)
    works = {CATALOGUE: texts, MIXED: _mixed_texts(texts, encoder, loaded), ONE: [ONE_TEXT]}
    systems = [ours(loaded)]
    missing: list[str] = []
    if resolved is not Device.CPU:
        systems += [] if model is None else [sentence_transformers(model, "torch", threads, "cuda")]
    else:
        systems.append(naive(encoder, loaded.config, threads))
    if model is not None and resolved is Device.CPU:
        found, missing = peers(model, encoder, loaded.config, texts, threads)
        systems += found
    rows: list[EncodingRow] = []
    waste = {}
    for work, chosen in works.items():
        ran = count_tokens(loaded, chosen)
        waste[work] = ran.padding_waste
        with console.progress(work, 1) as advance:
            rows += time_systems(work, chosen, systems, ran.real)
            advance(1)
    return EncodingReport(
        model=loaded.config.model,
        precision=loaded.config.precision,
        threads=threads,
        n_texts=len(texts),
        padding_waste=waste,
        machine=machine,
        versions=installed_versions(),
        command=command,
        not_installed=tuple(missing),
        rows=tuple(rows),
    )


def count_tokens(encoder: TextEncoder, texts: list[str]) -> TokenCounts:
    """Return the tokens that run when an encoder, which keeps nothing, embeds some texts."""
    before = encoder.token_counts()
    encoder.encode(texts)
    after = encoder.token_counts()
    return TokenCounts(after.real - before.real, after.padded - before.padded)


def time_systems(
    work: str, texts: list[str], systems: Sequence[System], n_tokens: int
) -> list[EncodingRow]:
    """Time systems in turns, and return a row of each; the first one is this package's own.

    Args:
        work: one of `WORKS`.
        texts: what a pass embeds.
        systems: 1 or more, of different names.
        n_tokens: of the texts, without padding.

    Raises:
        DataError: a system embeds as another model than the reference would.
    """
    calls = _CALLS if work == ONE else 1
    # Not timed: this is where memory is taken and kernels are chosen for a shape.
    vectors = {s.name: (s.encode_one if work == ONE else s.encode)(texts) for s in systems}
    timings: dict[str, list[float]] = {system.name: [] for system in systems}
    for _ in range(_ROUNDS[work]):
        for system in systems:
            encode = system.encode_one if work == ONE else system.encode
            time.sleep(_REST_S)
            passes = []
            for _ in range(calls):
                started = time.perf_counter()
                encode(texts)
                passes.append((time.perf_counter() - started) * 1e3)
            timings[system.name].append(statistics.median(passes))
    own = timings[systems[0].name]
    return [
        EncodingRow(
            work=work,
            system=name,
            median_ms=(median_ms := statistics.median(mine)),
            best_ms=min(mine),
            texts_per_s=len(texts) / median_ms * 1e3,
            tokens_per_s=n_tokens / median_ms * 1e3,
            times_ours=statistics.median(a / b for a, b in zip(mine, own, strict=True)),
            mean_cosine=_cosine(name, vectors),
        )
        for name, mine in timings.items()
    ]


def _cosine(name: str, vectors: Mapping[str, FloatArray]) -> float | None:
    if (reference := vectors.get(REFERENCE)) is None:
        return None
    found = vectors[name]
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
    mean = float(((found * reference).sum(axis=1) / norms).mean())
    if not mean >= _LEAST_COSINE:
        raise DataError(
            f"{name}: found a mean cosine of {mean:.3f} to {REFERENCE}, expected "
            f"{_LEAST_COSINE} or more; it is not the same model"
        )
    return mean


def item_texts(dataset: Path, dim: int) -> list[str]:
    """Return what is written about the items of a data set, each text once.

    Args:
        dataset: the dataset.toml.
        dim: width of the embeddings that its texts will have.
    """
    from fuserank.training.data.dataset import load_dataset
    from fuserank.training.data.features import fit_schema

    loaded = load_dataset(dataset)
    schema = fit_schema(loaded, dim)
    columns = schema.texts(Side.ITEM, loaded.items.columns, len(loaded.items.ids))
    return list(dict.fromkeys(text for column in columns.values() for text in column if text))


def _mixed_texts(texts: list[str], directory: Path, encoder: TextEncoder) -> list[str]:
    """Make texts whose lengths are spread evenly, of words that are one token each."""
    words = sorted({word.strip("().,") for text in texts for word in text.split()} - {""})
    special = 2  # the first and the last token of a text
    lengths = token_lengths(directory, encoder.config, words)
    short = [word for word, n in zip(words, lengths, strict=True) if n == special + 1]
    rng = np.random.default_rng(0)
    least, most = _MIXED_TOKENS
    wanted = rng.integers(least, most + 1, _MIXED_TEXTS) - special
    return [" ".join(rng.choice(short, n)) for n in wanted]


def main(
    out: Path,
    *,
    dataset: Path,
    encoder: Path,
    model: Path | None = None,
    threads: int = 0,
    device: Device = Device.CPU,
) -> None:
    """Measure a text encoder.

    Args:
        out: File to write the report to.
        dataset: The dataset.toml whose texts about items are embedded.
        encoder: Directory that 'fuserank export encoder' wrote.
        model: Folder of the model that it was exported from, for peers.
        threads: Threads of every system; 0 takes one for each core.
        device: Where the graph runs; on cuda beside PyTorch there, which was not yet done.
    """
    os.environ.setdefault("USE_TF", "0")  # transformers would import it for the peers
    report = measure_encoding(
        dataset,
        encoder,
        model,
        threads=threads or cores(),
        device=device,
        command=shlex.join(["python", "-m", "fuserank.bench.encoding", *sys.argv[1:]]),
    )
    report.save(out)
    for row in report.rows:
        cosine = "" if row.mean_cosine is None else f", cosine {row.mean_cosine:.4f}"
        console.out.print(
            f"{row.work}: {row.system} {row.median_ms:.2f} ms (best {row.best_ms:.2f}), "
            f"{row.tokens_per_s:,.0f} tokens/s, {row.times_ours:.2f} times ours{cosine}"
        )
    for work, share in report.padding_waste.items():
        console.out.print(f"{work}: {share:.2%} of what ran is padding")
    if report.not_installed:
        console.out.print(f"not installed: {', '.join(report.not_installed)}")


if __name__ == "__main__":
    cyclopts.run(main)
