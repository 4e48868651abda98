"""Data parallelism: several processes share every batch and train the same ranker.

Every worker samples the same batches and keeps its share of the positives; gradients are averaged
over all of them, weighted by how much of the loss each worker's share makes up, so that the step
is the one that a single process would take with the whole batch. What layers hide at random
(`TrainConfig.source_dropout`) is drawn by each worker for itself.

Of ``tf.distribute.MultiWorkerMirroredStrategy`` only the cluster and its collective operations are
used: the strategy's `run` holds the all-reduce and nothing else, and variables are ordinary ones
outside of its scope. Inside it, Keras 3 would sum gradients itself, without weights, and a running
average of the weights, a loss scale, checkpoints and evaluation would all have to deal with
mirrored variables, for which Keras 3 supports custom loops in part only. Since every process
builds the same weights from the same seed and applies the same averaged gradients, they stay the
same without being mirrored. The gradient of an embedding table is sent whole.

Source: Chen et al., "Revisiting Distributed Synchronous SGD", ICLR 2016 workshop, section 2.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from fuserank.errors import ConfigError, DataError
from fuserank.training.batches.sampling import Batch

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["Workers", "launch"]

_CLUSTER = "TF_CONFIG"


class Workers:
    """The processes of a cluster, as one of them sees it.

    Attributes:
        index: this process, from 0.
        count: processes in all.
    """

    def __init__(self) -> None:
        """Join the cluster that ``TF_CONFIG`` describes; nothing of TensorFlow may have run before.

        Raises:
            ConfigError: there is no ``TF_CONFIG``, or it is not that of a worker.
        """
        try:
            cluster = json.loads(os.environ[_CLUSTER])
            self.index = int(cluster["task"]["index"])
            self.count = len(cluster["cluster"]["worker"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{_CLUSTER}: expected the cluster of workers as TensorFlow reads it, found: "
                f"{error!r}; start workers by fuserank.training.fitting.workers.launch"
            ) from error
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(
                implementation=tf.distribute.experimental.CommunicationImplementation.RING
            )
        )

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that judges and writes."""
        return self.index == 0

    def share(self, batch: Batch) -> Batch:
        """Return this worker's part of a batch: every `count`-th positive, and their items."""
        rows = slice(self.index, None, self.count)
        kept, candidates = np.unique(batch.candidates[rows], return_inverse=True)
        return replace(
            batch,
            users={name: tensor[rows] for name, tensor in batch.users.items()},
            items={name: tensor[kept] for name, tensor in batch.items.items()},
            candidates=candidates.reshape(batch.candidates[rows].shape),
            labels=batch.labels[rows],
            weights=batch.weights[rows],
            log_chances=batch.log_chances[rows],
            log_presence=batch.log_presence[kept],
        )

    def mean(self, tensors: Sequence[Any], weight: Any) -> list[Any]:
        """Return Σ_k w_k t_k / Σ_k w_k of each tensor over all workers k, the same to all of them.

        Every worker has to call it, with as many tensors of the same shapes.

        Args:
            tensors: of one float dtype; whatever they are where the weight is 0.
            weight: w of this worker, a scalar, 0 or more.
        """
        total, *sums = self._strategy.run(_weighted_sums, args=(list(tensors), weight))
        return [each / total for each in sums]

    def of_first(self, numbers: Sequence[float]) -> list[float]:
        """Return the numbers that the first worker has; every worker has to call it."""
        together = tf.function(self.mean)
        tensors = [tf.constant(number, tf.float64) for number in numbers]
        return [float(t) for t in together(tensors, tf.constant(float(self.is_first)))]


def launch(count: int, work: Callable[[Workers], None]) -> None:
    """Run a function in several processes of this machine that form a cluster; wait for all.

    Args:
        count: processes.
        work: what each does with its `Workers`; a function of a module, or a partial of one, since
            it is sent to processes that are started afresh.

    Raises:
        ConfigError: fewer than one process.
        DataError: a process failed; the others are ended, and the message is that of the first
            that failed.
    """
    if count < 1:
        raise ConfigError(f"workers: found {count}, expected 1 or more")
    addresses = _free_addresses(count)
    context = multiprocessing.get_context("spawn")
    started: dict[Connection, BaseProcess] = {}
    process: BaseProcess
    try:
        for index in range(count):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_run, args=(work, addresses, index, sender), daemon=True
            )
            process.start()
            sender.close()
            started[receiver] = process
        _wait(started)
    finally:
        for process in started.values():
            process.terminate()
            process.join()


def _wait(started: dict[Connection, BaseProcess]) -> None:
    """Return when every process has said that it is done; raise DataError when one has not."""
    running = list(started)
    while running:
        for receiver in wait(running):
            assert isinstance(receiver, Connection)
            running.remove(receiver)
            process = started[receiver]
            try:
                fault = receiver.recv()
            except EOFError:
                process.join()
                fault = f"it ended with code {process.exitcode}"
            if fault is not None:
                number = list(started).index(receiver)
                raise DataError(f"worker {number} of {len(started)} failed: {fault}")


def _run(
    work: Callable[[Workers], None], addresses: list[str], index: int, sender: Connection
) -> None:
    """Do the work of one process, and send what went wrong, or None."""
    os.environ[_CLUSTER] = json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    )
    try:
        work(Workers())
    except BaseException as error:
        sender.send(f"{type(error).__name__}: {error}")
        raise
    sender.send(None)


def _free_addresses(count: int) -> list[str]:
    """Return loopback addresses that are free, and differ because all are held at once."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def _weighted_sums(tensors: list[Any], weight: Any) -> list[Any]:
    """Return Σ_k w_k and Σ_k w_k t_k of each tensor, over all workers k."""
    # A copy, since all_reduce looks at the device that a tensor was made on, here.
    weight = tf.identity(tf.cast(weight, tensors[0].dtype))
    own = [tf.math.multiply_no_nan(tensor, weight) for tensor in tensors]
    replica = tf.distribute.get_replica_context()
    sums: list[Any] = replica.all_reduce(tf.distribute.ReduceOp.SUM, [weight, *own])
    return sums
