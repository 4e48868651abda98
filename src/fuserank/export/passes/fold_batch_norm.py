"""A batch normalisation in inference becomes a constant factor and a constant shift."""

import numpy as np
import onnx_ir as ir

from fuserank.export.tensors import initializer

__all__ = ["FoldBatchNorm"]


class FoldBatchNorm(ir.passes.InPlacePass):
    """BatchNormalization(x) → x·γ/√(σ² + ε) + (β − μ·γ/√(σ² + ε)), which is affine.

    Requires:
        γ, β, μ and σ² are constants; x has its channels on axis 1.
    Leaves alone:
        A normalisation in training mode, which depends on the batch.
    Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 2.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such normalisation."""
        modified = False
        for node in model.graph:
            if node.op_type != "BatchNormalization":
                continue
            training = node.attributes.get("training_mode")
            tensors = [
                None if value is None else ir.convenience.get_const_tensor(value)
                for value in node.inputs[1:5]
            ]
            if (training is not None and training.as_int()) or None in tensors:
                continue
            gamma, beta, mean, variance = (t.numpy() for t in tensors if t is not None)
            epsilon = node.attributes.get("epsilon")
            added = 1e-5 if epsilon is None else epsilon.as_float()
            shape = node.inputs[0].shape if node.inputs[0] is not None else None
            tail = (1,) * (len(shape) - 2) if shape is not None else ()
            scale = (gamma / np.sqrt(variance + added)).reshape(-1, *tail)
            shift = beta.reshape(-1, *tail) - mean.reshape(-1, *tail) * scale
            name, tape = node.outputs[0].name, ir.tape.Tape()
            constants = [
                initializer(model.graph, f"{name}.{what}", array.astype(np.float32))
                for what, array in (("scale", scale), ("shift", shift))
            ]
            scaled = tape.op("Mul", [node.inputs[0], constants[0]])
            total = tape.op("Add", [scaled, constants[1]])
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs[:1], [total]
            )
            modified = True
        return ir.passes.PassResult(model, modified=modified)
