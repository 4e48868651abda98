"""NVIDIA Triton by PyTriton, over gRPC (Open Inference Protocol)."""

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch  # type: ignore[import-not-found]
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # type: ignore[import-not-found]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]

from fuserank.bench.peers.ranking import MAX_BATCH, MODEL, ROWS, SCORES, VECTOR, Ranking

if __name__ == "__main__":
    port = int(sys.argv[1])
    rank = Ranking()

    @batch
    def infer(**inputs: Any) -> list[Any]:
        """Rank a batch."""
        return list(rank(inputs[VECTOR]))

    config = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=port,
        http_address="127.0.0.1",
        http_port=port + 1,
        metrics_port=port + 2,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=infer,
            inputs=[Tensor(name=VECTOR, dtype=np.float32, shape=(-1,))],
            outputs=[
                Tensor(name=SCORES, dtype=np.float32, shape=(-1,)),
                Tensor(name=ROWS, dtype=np.int64, shape=(-1,)),
            ],
            config=ModelConfig(
                max_batch_size=MAX_BATCH,
                batching=True,
                batcher=DynamicBatcher(max_queue_delay_microseconds=0),
            ),
        )
        triton.serve()
