"""Weights of matrix products become 8 or 4 bits, each block of a column with a scale of its own."""

from collections.abc import Collection
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.export.passes.products import is_product

__all__ = ["QuantizeBlocks"]

_MICROSOFT = "com.microsoft"
# The processor multiplies int8, to which it brings activations in the same blocks: with any other
# level it widens the weights instead, which is no faster than fp32.
_INT8_COMPUTE = 4
_LEAST = 1e-20


class QuantizeBlocks(ir.passes.InPlacePass):
    """MatMul(x, W) → MatMulNBits(x, W in blocks of a column).

    Requires:
        ONNX Runtime.
    Leaves alone:
        Products with anything but an initializer of two axes, and those that are named.
    """

    def __init__(self, bits: Literal[4, 8], block: int, keep: Collection[str] = ()) -> None:
        """Take how weights are stored.

        Args:
            bits: of a weight.
            block: rows that share a scale: 16, 32, 64, 128 or 256; fewer where there are fewer.
            keep: names of weights that stay as they are.
        """
        super().__init__()
        self._bits, self._block, self._keep = bits, block, frozenset(keep)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such node."""
        model.graph.opset_imports.setdefault(_MICROSOFT, 1)
        nodes = [node for node in model.graph if is_product(node, self._keep)]
        for node in nodes:
            x, weights = node.inputs
            assert weights is not None
            assert weights.const_value is not None
            rows, columns = weights.const_value.numpy().shape
            attributes: dict[str, int] = {
                "K": rows,
                "N": columns,
                "bits": self._bits,
                "block_size": self._block_of(rows),
                "accuracy_level": _INT8_COMPUTE,
            }
            tape = ir.tape.Tape()
            stored = self._stored(model.graph, weights)
            made = tape.op("MatMulNBits", [x, *stored], attributes, domain=_MICROSOFT)
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs, [made]
            )
            if not weights.uses():
                del model.graph.initializers[str(weights.name)]
        return ir.passes.PassResult(model, modified=bool(nodes))

    def _block_of(self, rows: int) -> int:
        return min(self._block, max(16, 1 << (rows - 1).bit_length()))

    def _stored(self, graph: ir.Graph, weights: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return codes and scales, which products of the same weights share."""
        names = f"{weights.name}_blocks", f"{weights.name}_block_scales"
        if names[0] not in graph.initializers:
            assert weights.const_value is not None
            matrix = weights.const_value.numpy()
            arrays = _blocks(matrix, self._bits, self._block_of(len(matrix)))
            for name, array in zip(names, arrays, strict=True):
                graph.register_initializer(ir.Value(name=name, const_value=ir.tensor(array)))
        return graph.initializers[names[0]], graph.initializers[names[1]]


def _blocks(
    matrix: npt.NDArray[np.float32], bits: int, block: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return (columns, blocks, bytes) codes and (columns · blocks) scales of a (rows, columns)."""
    n_blocks = -(-len(matrix) // block)
    padded = np.pad(matrix, ((0, n_blocks * block - len(matrix)), (0, 0)))
    values = padded.T.reshape(-1, n_blocks, block)
    half = 1 << (bits - 1)
    # The largest number of a block, sign and all, becomes the code that has no opposite.
    at = np.abs(values).argmax(axis=-1, keepdims=True)
    largest = np.take_along_axis(values, at, axis=-1)
    scales = np.where(np.abs(largest) < _LEAST, _LEAST, largest) / -half
    codes = np.clip(np.rint(values / scales) + half, 0, 2 * half - 1).astype(np.uint8)
    if bits == 4:
        codes = codes[..., ::2] | codes[..., 1::2] << 4
    return codes, scales.astype(np.float32).reshape(-1)
