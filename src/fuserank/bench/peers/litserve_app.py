"""LitServe, over HTTP."""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]
import numpy as np

from fuserank.bench.peers.ranking import MAX_BATCH, Ranking


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Takes {"vector": […]}, returns {"scores": […], "rows": […]}."""

    def setup(self, device: str) -> None:
        """Load the graph."""
        self._rank = Ranking()

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Return the vector."""
        return np.array(request["vector"], dtype=np.float32)

    def predict(self, vectors: Any) -> Any:
        """Rank a batch."""
        return self._rank(np.stack(vectors))

    def unbatch(self, output: Any) -> Any:
        """Return each user's part."""
        return list(zip(*output, strict=True))

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return the reply."""
        scores, rows = output
        return {"scores": scores.tolist(), "rows": rows.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=MAX_BATCH, batch_timeout=0.0), accelerator="cpu")
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False
    )
