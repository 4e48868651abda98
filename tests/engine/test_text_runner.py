"""The order in which batches run, with a graph that waits until it is told to go on."""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import pytest

from fuserank.engine.text_runner import TextRunner

SOON = 10


class Encoding:
    def __init__(self, text):
        self.ids = [int(text)]


class Tokenizer:
    def encode_batch_fast(self, texts):
        return [Encoding(text) for text in texts]


class Graph:
    """Embeds a text that is a number as that number; each text is a batch."""

    def __init__(self, lanes):
        self.lanes = lanes
        self.started = SimpleQueue()
        self.go_on = SimpleQueue()

    def batches(self, tokens):
        return [np.array([row]) for row in range(len(tokens))]

    def run(self, tokens, *, alone=False):
        self.started.put(tokens[0][0])
        outcome = self.go_on.get(timeout=SOON)
        if isinstance(outcome, Exception):
            raise outcome
        return np.array(tokens, np.float32)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def many(runner, n_texts, vectors):
    runner.run_many([str(n) for n in range(n_texts)], vectors, lambda rows: None, None)


def test_a_few_texts_pass_many_after_the_batch_that_runs(pool):
    graph = Graph(lanes=1)
    runner = TextRunner(Tokenizer(), graph)
    bulk, urgent = np.zeros((3, 1), np.float32), np.zeros((1, 1), np.float32)
    working = pool.submit(many, runner, 3, bulk)
    assert graph.started.get(timeout=SOON) == 0
    asked = pool.submit(runner.run_few, ["7"], urgent)
    assert graph.started.get(timeout=SOON) == 7, "it does not even wait for that batch"
    graph.go_on.put(None)
    graph.go_on.put(None)
    asked.result(SOON)
    assert urgent[0] == 7
    for _ in range(2):
        graph.go_on.put(None)
    working.result(SOON)
    np.testing.assert_array_equal(bulk[:, 0], [0, 1, 2])


def test_many_texts_wait_while_a_few_run(pool):
    graph = Graph(lanes=1)
    runner = TextRunner(Tokenizer(), graph)
    with runner._turns.urgent():
        working = pool.submit(many, runner, 2, np.zeros((2, 1), np.float32))
        with ThreadPoolExecutor(1) as other:
            vectors = np.zeros((1, 1), np.float32)
            graph.go_on.put(None)
            other.submit(runner.run_few, ["7"], vectors).result(SOON)
        assert graph.started.get(timeout=SOON) == 7
        assert graph.started.empty()
    for _ in range(2):
        graph.go_on.put(None)
    working.result(SOON)


def test_batches_share_the_lanes(pool):
    graph = Graph(lanes=2)
    runner = TextRunner(Tokenizer(), graph)
    working = pool.submit(many, runner, 5, np.zeros((5, 1), np.float32))
    assert {graph.started.get(timeout=SOON) for _ in range(2)} == {0, 1}
    assert graph.started.empty()
    for _ in range(5):
        graph.go_on.put(None)
    working.result(SOON)


def test_a_failure_reaches_the_caller_and_ends_the_rest(pool):
    graph = Graph(lanes=1)
    runner = TextRunner(Tokenizer(), graph)
    graph.go_on.put(None)
    graph.go_on.put(ValueError("broken"))
    graph.go_on.put(None)
    with pytest.raises(ValueError, match="broken"):
        many(runner, 50, np.zeros((50, 1), np.float32))
    vectors = np.zeros((1, 1), np.float32)
    while not graph.go_on.empty():
        graph.go_on.get()
    graph.go_on.put(None)
    runner.run_few(["3"], vectors)
    assert vectors[0] == 3
