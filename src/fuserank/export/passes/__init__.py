"""Graph rewrites, one a file: each states what it needs, what it does and what it leaves alone."""

from fuserank.export.passes.split_concat_matmul import SplitConcatMatMul

__all__ = ["SplitConcatMatMul"]
