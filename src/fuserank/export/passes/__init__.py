"""Graph rewrites, one a file: each states what it needs, what it does and what it leaves alone."""

from fuserank.export.passes.decompose_gemm import DecomposeGemm
from fuserank.export.passes.fold_batch_norm import FoldBatchNorm
from fuserank.export.passes.narrow_floats import NarrowFloats
from fuserank.export.passes.quantize_blocks import QuantizeBlocks
from fuserank.export.passes.quantize_rows import QuantizeRows
from fuserank.export.passes.quantize_static import QuantizeStatic
from fuserank.export.passes.quantize_tables import QuantizeTables
from fuserank.export.passes.skip_mask import SkipMask
from fuserank.export.passes.split_attention import SplitAttention
from fuserank.export.passes.split_concat_matmul import SplitConcatMatMul
from fuserank.export.passes.split_embedding import SplitEmbedding
from fuserank.export.passes.split_gelu import SplitGelu
from fuserank.export.passes.split_skip_normalization import SplitSkipNormalization
from fuserank.export.passes.square_as_product import SquareAsProduct

__all__ = [
    "DecomposeGemm",
    "FoldBatchNorm",
    "NarrowFloats",
    "QuantizeBlocks",
    "QuantizeRows",
    "QuantizeStatic",
    "QuantizeTables",
    "SkipMask",
    "SplitAttention",
    "SplitConcatMatMul",
    "SplitEmbedding",
    "SplitGelu",
    "SplitSkipNormalization",
    "SquareAsProduct",
]
