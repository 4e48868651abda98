"""Dynamic int8 quantization of an encoder graph."""

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

__all__ = ["quantize_int8"]

# Measured with MiniLM-L6 on 1,682 film texts, 2 AVX-512 cores with VNNI, against fp32
# (cosine mean / least, texts per second, megabytes; fp32 itself: 1 / 1, 590, 90):
#   MatMul                                      .9941 / .986   1,090   67
#   MatMul, Attention                           .9929 / .984   1,350   59
#   MatMul, Attention, EmbedLayerNormalization  .9925 / .983   1,380   23
#   the last, one scale for a whole matrix      .9683 / .938   1,410   23
#   the last, unsigned weights                  .9919 / .984     790   23
# Signed weights have the faster kernels, and a scale for each channel is what keeps the quality.
# Embedding tables are most of the file and cost next to nothing to quantize. Gather stands for
# them in graphs where they do not fuse (RoBERTa, DistilBERT).
_OPERATORS = ["MatMul", "Attention", "EmbedLayerNormalization", "Gather"]


def quantize_int8(source: Path, path: Path) -> None:
    """Write a graph with int8 weights, which scales its activations as it runs.

    Args:
        source: the ONNX file of a graph, fp32, fused.
        path: the ONNX file to write; it may be the same.

    Source: onnxruntime.quantization, dynamic.
    """
    graph = onnx.load(source, load_external_data=False)
    # Says that shapes need not be prepared: the quantizer would log advice to the root logger.
    graph.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    prepared = source.with_suffix(".prepared")  # finds weights that stand beside the graph
    onnx.save_model(graph, prepared)
    quantize_dynamic(
        prepared,
        path,
        op_types_to_quantize=_OPERATORS,
        per_channel=True,
        reduce_range=False,
        weight_type=QuantType.QInt8,
        # Shape inference does not see through fused operators, so the type must be told.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    prepared.unlink()
