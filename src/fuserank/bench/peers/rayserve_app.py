"""Ray Serve, over gRPC (Open Inference Protocol)."""

import signal
import sys
from typing import Any

import numpy as np
import ray  # type: ignore[import-not-found]
from ray import serve
from ray.serve.config import gRPCOptions  # type: ignore[import-not-found]

from fuserank.bench.peers.ranking import MAX_BATCH, ROWS, SCORES, Ranking

_SERVICER = "fuserank.bench.peers.rayserve_messages.add_servicer"


@serve.deployment(num_replicas=1, max_ongoing_requests=1024)
class Ranker:
    """Answers ModelInfer."""

    def __init__(self) -> None:
        """Load the graph."""
        from fuserank.bench.peers import rayserve_messages  # noqa: F401 - names its messages

        self._rank = Ranking()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.0)
    async def _batch(self, vectors: list[Any]) -> list[Any]:
        return list(zip(*self._rank(np.concatenate(vectors)), strict=True))

    async def ModelInfer(self, request: Any) -> Any:  # noqa: N802 - the name of the RPC
        """Rank for one user."""
        from fuserank.server.pb import grpc_service_pb2 as pb

        vector = np.frombuffer(request.raw_input_contents[0], dtype=np.float32)
        scores, rows = await self._batch(vector.reshape(1, -1))
        output = pb.ModelInferResponse.InferOutputTensor
        return pb.ModelInferResponse(
            model_name=request.model_name,
            outputs=[
                output(name=SCORES, datatype="FP32", shape=[1, len(scores)]),
                output(name=ROWS, datatype="INT64", shape=[1, len(rows)]),
            ],
            raw_output_contents=[scores.tobytes(), rows.tobytes()],
        )


if __name__ == "__main__":
    ray.init(include_dashboard=False, logging_level="error", log_to_driver=False)
    grpc_options = gRPCOptions(port=int(sys.argv[1]), grpc_servicer_functions=[_SERVICER])
    serve.start(
        grpc_options=grpc_options, http_options={"host": "127.0.0.1", "port": int(sys.argv[1]) + 1}
    )
    serve.run(Ranker.bind())  # type: ignore[attr-defined]
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
