"""Two processes train what one does; everything that needs processes is slow."""

import importlib
import json
from functools import partial

import numpy as np
import pytest

from fuserank.errors import ConfigError, DataError
from fuserank.training.batches.sampling import Sampler
from fuserank.training.data.splits import divide
from fuserank.training.fitting.fit import fit
from fuserank.training.fitting.workers import Workers, launch

TASK = """
import numpy as np
from fuserank.training.fitting.fit import fit

def train(arguments, out, workers):
    fitted = fit(**arguments, workers=workers)
    np.savez(out / f"{workers.index}.npz", *fitted.ranker.full.get_weights())
    if workers.is_first:
        (out / "losses").write_text(str([epoch.loss for epoch in fitted.epochs]))

def fail(workers):
    if workers.index == 1:
        raise ValueError("the disk is full")
    workers.of_first([1.0])  # waits for the other
"""


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A module that processes started afresh can import."""
    (tmp_path / "worker_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("worker_task")


@pytest.mark.e2e
@pytest.mark.parametrize(
    "options",
    [
        {"loss": "cross-entropy"},
        {"loss": "bpr", "negatives_from": "hard"},
        {"loss": "softmax", "batch_size": 191},  # the second batch holds one positive
    ],
)
def test_two_workers_train_what_one_process_does(
    task, features, schema, dataset, make_config, tmp_path, options
):
    config = make_config(epochs=1, **options)
    parts = divide(dataset, config.split, config.seed)
    arguments = {
        "features": features,
        "schema": schema,
        "config": config,
        "train": parts.train,
        "validation": parts.validation,
    }
    launch(2, partial(task.train, arguments, tmp_path))
    alone = fit(**arguments)
    named = list(zip(alone.ranker.full.weights, alone.ranker.full.get_weights(), strict=True))
    for index in range(2):
        with np.load(tmp_path / f"{index}.npz") as found:
            for number, (variable, weight) in enumerate(named):
                if options["loss"] != "cross-entropy" and "output/bias" in variable.path:
                    continue  # differences of logits do not depend on it: its gradient is noise
                np.testing.assert_allclose(found[f"arr_{number}"], weight, atol=1e-4)
    losses = json.loads((tmp_path / "losses").read_text())
    np.testing.assert_allclose(losses, [epoch.loss for epoch in alone.epochs], rtol=1e-5)


@pytest.mark.e2e
def test_a_worker_that_fails_ends_the_others(task):
    with pytest.raises(DataError, match=r"worker 1 of 2 failed: ValueError: the disk is full"):
        launch(2, task.fail)


def test_shares_make_up_the_batch(features, schema, dataset, make_config):
    sampler = Sampler(features, dataset.interactions, schema, make_config())
    batch = next(sampler.epoch(0))
    shares = [worker(index, 3).share(batch) for index in range(3)]
    for index, share in enumerate(shares):
        np.testing.assert_array_equal(share.labels, batch.labels[index::3])
        np.testing.assert_array_equal(share.weights, batch.weights[index::3])
        for name, tensor in batch.users.items():
            np.testing.assert_array_equal(share.users[name], tensor[index::3])
        for name, tensor in batch.items.items():
            np.testing.assert_array_equal(
                share.items[name][share.candidates], tensor[batch.candidates[index::3]]
            )


def worker(index, count):
    """Return one of several workers that has not joined the others."""
    found = Workers.__new__(Workers)
    found.index, found.count = index, count
    return found


@pytest.mark.parametrize("cluster", [None, "{}", "no JSON"])
def test_a_process_outside_of_a_cluster_is_refused(monkeypatch, cluster):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if cluster is not None:
        monkeypatch.setenv("TF_CONFIG", cluster)
    with pytest.raises(ConfigError, match="TF_CONFIG: expected the cluster of workers"):
        Workers()


def test_no_workers_are_refused():
    with pytest.raises(ConfigError, match="found 0, expected 1 or more"):
        launch(0, print)
