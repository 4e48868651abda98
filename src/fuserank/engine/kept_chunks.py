"""Embeddings of finished chunks on disk, from which a run that was killed goes on."""

from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fuserank.bundle.atomic import write_file

__all__ = ["KeptChunks"]

FloatArray = npt.NDArray[np.float32]


class KeptChunks:
    """Files of embeddings, named for the texts and the space that they are of.

    A name says all that a chunk depends on, so that a file is never one of other texts, and a file
    appears whole or not at all.
    """

    def __init__(self, directory: Path, space: str) -> None:
        """Keep chunks in a directory, which is made when the first is written.

        Args:
            directory: for these files alone; whoever named it removes it.
            space: fingerprint of the embedding space.
        """
        self._directory = directory
        self._space = space

    def read(self, texts: Sequence[str], vectors: FloatArray) -> bool:
        """Fill (n, dim) vectors with those of a chunk; False where it was not finished."""
        try:
            found = np.load(self._path(texts), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False  # never written, or damaged since: made again either way
        if found.shape != vectors.shape or found.dtype != vectors.dtype:
            return False
        vectors[:] = found
        return True

    def write(self, texts: Sequence[str], vectors: FloatArray) -> None:
        """Write the (n, dim) vectors of a chunk; they are on disk when this returns.

        Raises:
            OSError: the directory cannot be written to.
        """
        content = BytesIO()
        np.save(content, vectors, allow_pickle=False)
        write_file(self._path(texts), content.getvalue())

    def _path(self, texts: Sequence[str]) -> Path:
        whole = sha256(self._space.encode())
        for text in texts:
            encoded = text.encode()
            # With its length, so that texts that end elsewhere are other texts.
            whole.update(len(encoded).to_bytes(8, "little") + encoded)
        return self._directory / f"{whole.hexdigest()}.npy"
