"""From texts to embeddings: a few at once, or many in lanes that let the few pass."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from fuserank.engine.kept_chunks import KeptChunks
from fuserank.engine.text_graph import TextGraph
from fuserank.engine.turns import Turns

__all__ = ["OnRows", "RunTimes", "TextRunner"]

FloatArray = npt.NDArray[np.float32]
RowArray = npt.NDArray[np.intp]
OnRows = Callable[[RowArray], None]

# Texts that are tokenized and sorted together: enough for batches of even length, and the tokens
# of a large catalogue never stand in memory at once. A run that is killed loses as many at most.
_TEXTS_PER_CHUNK = 4096


class RunTimes(NamedTuple):
    """Milliseconds in which nothing but tokenizing went on, and the others."""

    tokenize_ms: float
    encode_ms: float


class TextRunner:
    """A tokenizer and a graph; thread-safe."""

    def __init__(self, tokenizer: Tokenizer, graph: TextGraph) -> None:
        """Take both, the tokenizer set to cut texts and not to pad them."""
        self._tokenizer = tokenizer
        self._graph = graph
        self._turns = Turns(graph.lanes)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the tokens of each text, on as many cores as are free."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def run_few(self, texts: list[str], vectors: FloatArray) -> RunTimes:
        """Embed texts that someone waits for, before any work in bulk.

        Args:
            texts: n of them, 1 or more.
            vectors: (n, dim), to be filled.
        """
        started = perf_counter()
        with self._turns.urgent() as alone:
            tokens = self.tokenize(texts)
            tokenized = perf_counter()
            batches = self._graph.batches(tokens)
            if len(batches) == 1:
                rows = batches[0]
                vectors[rows] = self._graph.run([tokens[row] for row in rows], alone=alone)
            else:
                with _workers(min(self._graph.lanes, len(batches))) as pool:
                    for _ in self._run(pool, tokens, batches, vectors):
                        pass
        return RunTimes(1e3 * (tokenized - started), 1e3 * (perf_counter() - tokenized))

    def run_many(
        self, texts: list[str], vectors: FloatArray, on_rows: OnRows, keep: KeptChunks | None
    ) -> RunTimes:
        """Embed texts chunk by chunk, the next one being tokenized while one runs.

        What a chunk becomes depends on its texts alone, not on threads or on what ran before.

        Args:
            texts: n of them.
            vectors: (n, dim), to be filled.
            on_rows: called with rows that were filled, in this thread.
            keep: has the chunks that an earlier run finished, and is given those of this one.

        Raises:
            OSError: a chunk cannot be kept.
        """
        started = perf_counter()
        waited = 0.0
        chunks = []
        for start in range(0, len(texts), _TEXTS_PER_CHUNK):
            rows = slice(start, min(start + _TEXTS_PER_CHUNK, len(texts)))
            if keep is not None and keep.read(texts[rows], vectors[rows]):
                on_rows(np.arange(rows.start, rows.stop))
            else:
                chunks.append(rows)
        with _workers(self._graph.lanes) as pool:
            coming = [pool.submit(self.tokenize, texts[rows]) for rows in chunks[:1]]
            for number, rows in enumerate(chunks, start=1):
                asked = perf_counter()
                tokens = coming.pop().result()
                waited += perf_counter() - asked
                # Ahead of the batches in the pool's queue: it is done long before they are.
                coming += [pool.submit(self.tokenize, texts[r]) for r in chunks[number:][:1]]
                batches = self._graph.batches(tokens)
                for done in self._run(pool, tokens, batches, vectors[rows], self._turns.bulk):
                    on_rows(done + rows.start)
                if keep is not None:
                    keep.write(texts[rows], vectors[rows])
        return RunTimes(1e3 * waited, 1e3 * (perf_counter() - started - waited))

    def _run(
        self,
        pool: Executor,
        tokens: list[list[int]],
        batches: list[RowArray],
        vectors: FloatArray,
        turn: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Iterator[RowArray]:
        """Run batches in the lanes of a pool, and yield the rows of each that is done."""

        def run(rows: RowArray) -> RowArray:
            with turn():
                vectors[rows] = self._graph.run([tokens[row] for row in rows])
            return rows

        for future in as_completed([pool.submit(run, rows) for rows in batches]):
            yield future.result()


@contextmanager
def _workers(n_threads: int) -> Iterator[Executor]:
    """Yield a pool; what is still waiting when the block ends early is dropped."""
    pool = ThreadPoolExecutor(n_threads, "fuserank-texts")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
