"""MLServer, over gRPC (Open Inference Protocol)."""

import asyncio
import sys
from typing import Any

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.settings import ModelParameters  # type: ignore[import-not-found]
from mlserver.types import InferenceResponse  # type: ignore[import-not-found]

from fuserank.bench.peers.ranking import MAX_BATCH, MODEL, ROWS, SCORES, Ranking


class Ranker(MLModel):  # type: ignore[misc]
    """Ranks in this process."""

    async def load(self) -> bool:
        """Load the graph."""
        self._rank = Ranking()
        return True

    async def predict(self, payload: Any) -> Any:
        """Rank a batch."""
        vectors = NumpyCodec.decode_input(payload.inputs[0])
        scores, rows = self._rank(vectors.astype(np.float32, copy=False))
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                NumpyCodec.encode_output(SCORES, scores),
                NumpyCodec.encode_output(ROWS, rows),
            ],
        )


async def serve(port: int) -> None:
    """Serve until told to stop."""
    settings = Settings(
        host="127.0.0.1",
        grpc_port=port,
        http_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,  # in this process, which spares a hop
        debug=False,
        logging_settings=None,
    )
    model = ModelSettings(
        name=MODEL,
        implementation=Ranker,
        max_batch_size=MAX_BATCH,
        max_batch_time=0.001,
        parameters=ModelParameters(),
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
