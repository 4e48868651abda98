"""A graph written in another precision."""

from collections.abc import Collection, Sequence
from pathlib import Path

from fuserank.engine.encoder_config import Precision
from fuserank.errors import ConfigError
from fuserank.export.precision.activations import Batch
from fuserank.export.precision.bfloat import write_bf16
from fuserank.export.precision.half import write_fp16
from fuserank.export.precision.int8 import write_int8
from fuserank.export.precision.int8_dynamic import write_int8_dynamic
from fuserank.export.precision.products import products
from fuserank.export.precision.weight_only import write_w4, write_w8

__all__ = ["write_precision"]

_WRITERS = {
    Precision.INT8_DYNAMIC: write_int8_dynamic,
    Precision.W8: write_w8,
    Precision.W4: write_w4,
    Precision.FP16: write_fp16,
    Precision.BF16: write_bf16,
}

# Measured with MiniLM-L6 on 1,681 film texts of 13.5 tokens on average by `TextEncoder`, one thread
# with AVX-512 VNNI on a shared machine: best of five interleaved rounds of all six, ORT 1.31.
#                cosine mean / least   texts per second   megabytes
#   fp32              1 / 1                 338                90
#   fp16              1 / 1                 337                45
#   w8            .9991 / .9982             493                24
#   int8          .9976 / .9949             823                24
#   int8-batch    .9928 / .9841             943                23
#   w4            .9717 / .9569             366                19
# With one scale for a whole table of embeddings, int8 is at .9974 and w8 at .9988. Blocks of 256
# for w8, one product alone: 1.37 ms for 1.51 with 1,536 rows, 2.14 for 1.91 with 384.


def write_precision(
    source: Path,
    path: Path,
    precision: Precision,
    keep: Collection[str] = (),
    batches: Sequence[Batch] = (),
) -> None:
    """Write a graph in another precision.

    Args:
        source: the ONNX file of a graph, fp32, fused; weights may stand beside it.
        path: the ONNX file to write, which holds its weights; it may be the same.
        precision: any but fp32, which `source` is.
        keep: names of weights that stay fp32, of those that `products` returns, such as the
            first few of `sensitivity`.
        batches: tokens of texts such as it will read, by which int8 chooses its scales; each of
            them texts of one length.

    Raises:
        ConfigError: fp32, fp16 or bf16 that is to keep something, a name in `keep` that no product
            has, or int8 without batches.
    """
    if precision is not Precision.INT8 and precision not in _WRITERS:
        expected = ", ".join((Precision.INT8, *_WRITERS))
        raise ConfigError(f"precision: found {precision}, expected one of {expected}")
    if keep and (unknown := sorted(set(keep) - set(products(source)))):
        raise ConfigError(
            f"{source}: found no product with weights named {unknown[0]!r} to keep; "
            "fuserank.export.precision.products lists the names"
        )
    if precision is Precision.INT8:
        write_int8(source, path, keep, batches)
    else:
        _WRITERS[precision](source, path, keep)
