"""Sources of a history that look at its events one by one.

A row of zeros is no event, and such rows stand in front: a history of any length gives the same
numbers however long the tensor is. All of it depends on the user alone, so that it is worked out
once a request.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from fuserank.training.model.adapters import ADAPTERS

__all__ = ["AttentiveHistory", "RecurrentHistory", "SelfAttentiveHistory"]

_REGISTER = keras.saving.register_keras_serializable(package="fuserank")

_HEADS = 2
_BLOCKS = 2


class _EventHistory(keras.layers.Layer):
    """Projects embeddings by an adapter A.

    Input (batch, length, width) float32; output (batch, dim) float32.
    """

    def __init__(self, dim: int, adapter: str = "linear", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.adapter = adapter
        self.projection = ADAPTERS[adapter](dim, "projection")

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "dim": self.dim, "adapter": self.adapter}


def _present(events: Any) -> Any:
    """Return (batch, length, 1): 1 for an event, 0 for a row of zeros."""
    said = ops.any(ops.not_equal(events, 0.0), axis=-1, keepdims=True)
    return ops.cast(said, events.dtype)


def _softmax_but(hidden: Any, logits: Any, axis: int) -> Any:
    """Return the softmax of the logits that are not hidden, 0 for those that are.

    In float32 whatever the logits are: float16 has no number as low as a hidden logit.
    """
    seen = ops.cast(logits, "float32") - 1e9 * ops.cast(hidden, "float32")
    return ops.cast(ops.softmax(seen, axis=axis), logits.dtype)


@_REGISTER
class AttentiveHistory(_EventHistory):
    """Attentive mean of past events: u = A(Σ_t α_t h_t), α = softmax_t(qᵀtanh(Wh_t)) over events.

    Without any event, u = A(0) is the learned vector of what is missing.

    Source: Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016,
    equations 5 to 7.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make A, W and q."""
        self.projection.build((input_shape[0], input_shape[2]))
        self.hidden = keras.layers.Dense(self.dim, activation="tanh", name="hidden")
        self.query = keras.layers.Dense(1, use_bias=False, name="query")
        self.hidden.build(input_shape)
        self.query.build((None, None, self.dim))

    def call(self, inputs: Any) -> Any:
        """Return (batch, dim)."""
        logits = self.query(self.hidden(inputs))
        weights = _softmax_but(1.0 - _present(inputs), logits, axis=1)
        return self.projection(ops.sum(weights * inputs, axis=1))


@_REGISTER
class RecurrentHistory(_EventHistory):
    """The last state of a gated recurrent unit over the events x_t = A(h_t).

    z = σ(W_z x_t + U_z s + b_z), r = σ(W_r x_t + U_r s + b_r),
    s ← (1 − z)⊙s + z⊙tanh(W x_t + b + r⊙(Us)).

    The state before the first event is learned: it stands for a user without any.

    Source: Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR
    2016, equations 2 to 5; r is applied after the product with U, so that the three products with
    s are one.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make A, all W, U and b, and the first state."""
        self.projection.build(input_shape)
        self.of_event = keras.layers.Dense(3 * self.dim, name="of_event")
        self.of_state = keras.layers.Dense(
            3 * self.dim, use_bias=False, kernel_initializer="orthogonal", name="of_state"
        )
        self.of_event.build((None, None, self.dim))
        self.of_state.build((None, self.dim))
        self.first = self.add_weight(shape=(1, self.dim), initializer="zeros", name="first")

    def call(self, inputs: Any) -> Any:
        """Return (batch, dim)."""
        # Step by step rather than in a loop of the graph, whose work would depend on the data.
        present, events = _present(inputs), self.of_event(self.projection(inputs))
        state = self.first
        for step in range(inputs.shape[1]):
            of_event = ops.split(events[:, step], 3, axis=-1)
            of_state = ops.split(self.of_state(state), 3, axis=-1)
            update, reset = (ops.sigmoid(of_event[gate] + of_state[gate]) for gate in (0, 1))
            new = ops.tanh(of_event[2] + reset * of_state[2])
            state = state + update * present[:, step] * (new - state)
        return state


@_REGISTER
class SelfAttentiveHistory(_EventHistory):
    """The last output of causal self-attention over the events x_t = A(h_t) + p_t.

    Two blocks x ← x + Attention(LN(x)), x ← x + W₂ relu(W₁LN(x)) with two heads, where an event
    attends to itself and to those before it; then LN of the last. Positions are counted from the
    most recent event. Without any event, a learned vector.

    Source: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, section III.
    """

    def __init__(self, dim: int, length: int, adapter: str = "linear", **kwargs: Any) -> None:
        super().__init__(dim, adapter, **kwargs)
        self.length = length
        self.blocks = [_Block(dim, name=f"block_{index}") for index in range(_BLOCKS)]
        self.norm = keras.layers.LayerNormalization(name="norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make A, the positions, the blocks and the vector of no event."""
        self.projection.build(input_shape)
        self.positions = self.add_weight(
            shape=(self.length, self.dim), initializer="uniform", name="positions"
        )
        for block in self.blocks:
            block.build((None, None, self.dim))
        self.norm.build((None, self.dim))
        self.nothing = self.add_weight(shape=(1, self.dim), initializer="zeros", name="nothing")

    def call(self, inputs: Any) -> Any:
        """Return (batch, dim)."""
        length = inputs.shape[1]
        present = _present(inputs)
        events = self.projection(inputs) + self.positions[-length:]
        later = np.triu(np.ones((1, length, length), dtype=np.float32), k=1)
        hidden = ops.cast(later, present.dtype) + (1.0 - present)[:, None, :, 0]
        for block in self.blocks[:-1]:
            events = block(events, events, hidden)
        # Of the last block, only the last output is read.
        found = self.norm(self.blocks[-1](events[:, -1:], events, hidden[:, -1:])[:, 0])
        known = ops.max(present, axis=1)
        return known * found + (1.0 - known) * self.nothing

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "length": self.length}


class _Block(keras.layers.Layer):
    """A block of self-attention and a perceptron, each added to what it reads."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.width = max(dim // _HEADS, 1)
        self.projections = [
            keras.layers.Dense(_HEADS * self.width, use_bias=False, name=name)
            for name in ("query", "key", "value")
        ]
        self.output_layer = keras.layers.Dense(dim, use_bias=False, name="output")
        self.first = keras.layers.Dense(dim, activation="relu", name="first")
        self.second = keras.layers.Dense(dim, name="second")
        self.norms = [keras.layers.LayerNormalization(name=f"norm_{n}") for n in range(2)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make all weights."""
        for layer in (*self.projections, self.first, self.second, *self.norms):
            layer.build(input_shape)
        self.output_layer.build((*input_shape[:-1], _HEADS * self.width))

    def call(self, queries: Any, events: Any, hidden: Any) -> Any:
        """Return (batch, n, dim): what the blocks make of n of the events.

        Args:
            queries: (batch, n, dim), the n events.
            events: (batch, length, dim), all events.
            hidden: (batch, n, length), 1 or more where a query must not look, else 0.
        """
        norm = self.norms[0]
        sides = (norm(queries), norm(events), norm(events))
        query, key, value = (
            self._heads(projection(side))
            for projection, side in zip(self.projections, sides, strict=True)
        )
        logits = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / self.width**0.5
        attention = _softmax_but(hidden[:, None], logits, axis=-1)
        attended = ops.transpose(ops.matmul(attention, value), (0, 2, 1, 3))
        joined = ops.reshape(attended, (-1, queries.shape[1], _HEADS * self.width))
        found = queries + self.output_layer(joined)
        return found + self.second(self.first(self.norms[1](found)))

    def _heads(self, tensor: Any) -> Any:
        """Return (batch, heads, n, width) of (batch, n, heads·width)."""
        split = ops.reshape(tensor, (-1, tensor.shape[1], _HEADS, self.width))
        return ops.transpose(split, (0, 2, 1, 3))
