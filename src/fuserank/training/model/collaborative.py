"""Collaborative factors: what interactions alone say of users and items, as dense vectors.

They are computed from the training part and nothing else, and can be a source like any vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, csr_matrix, diags_array

from fuserank.errors import SchemaError
from fuserank.schema import Field, FittedField, Kind, Schema, Side
from fuserank.training.batches.negatives import Unseen

if TYPE_CHECKING:
    from fuserank.training.data.features import Features
    from fuserank.training.data.interactions import Interactions
    from fuserank.training.train_config import TrainConfig

__all__ = [
    "COLLABORATIVE",
    "COLLABORATIVE_FIELD",
    "Factors",
    "collaborative_vectors",
    "ease_factors",
    "ease_weights",
    "graph_factors",
    "ials_factors",
    "likes_of",
    "with_vectors",
]

COLLABORATIVE_FIELD = "collaborative"
"""The name of an item's collaborative vector, and of the history of a user that is made of them."""

FloatArray = npt.NDArray[np.float32]

_BATCH = 4096
_LONGEST = 500
"""Events of a history that collaborative vectors look at: all, for nearly everyone."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Vectors whose inner products score: ⟨user, item⟩, or ⟨Σ of events, item⟩ for a history.

    Attributes:
        users: (n_users, dim) float32.
        items: (n_items, dim) float32, of items as candidates.
        events: (n_items, dim) float32, of items as what a user chose before.
    """

    users: FloatArray
    items: FloatArray
    events: FloatArray


def likes_of(interactions: Interactions, n_users: int, n_items: int) -> csr_array:
    """Return (n_users, n_items) float32, 1 where a user liked an item."""
    liked = interactions.positive
    pairs = (interactions.user[liked], interactions.item[liked])
    ones = np.ones(len(pairs[0]), dtype=np.float32)
    return csr_array((ones, pairs), shape=(n_users, n_items))


def ease_weights(likes: csr_array, penalty: float) -> npt.NDArray[np.float64]:
    """Return B (n_items, n_items), the linear model of every item on all others, diag(B) = 0.

    B minimises ‖X - XB‖² + λ‖B‖²: with P = (XᵀX + λI)⁻¹, B_ij = -P_ij / P_jj.

    Args:
        likes: X, (n_users, n_items), 1 where a user liked an item.
        penalty: λ.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8.
    """
    gram = (likes.T @ likes).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += penalty
    inverse = np.linalg.inv(gram)
    weights: npt.NDArray[np.float64] = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def ease_factors(likes: csr_array, dim: int, *, penalty: float = 300.0) -> Factors:
    """Return the best factors of rank `dim` for EASE's B ≈ events·itemsᵀ; `likes` as there.

    What it needs is one dense matrix of all pairs of items: for catalogues of some ten thousand.

    Source: Eckart and Young, "The Approximation of One Matrix by Another of Lower Rank",
    Psychometrika 1(3), 1936, for the truncated singular value decomposition.
    """
    left, sizes, right = np.linalg.svd(ease_weights(likes, penalty))
    root = np.sqrt(sizes[:dim])
    events = (left[:, :dim] * root).astype(np.float32)
    return Factors(
        users=likes @ events, items=(right[:dim].T * root).astype(np.float32), events=events
    )


def ials_factors(
    likes: csr_array,
    dim: int,
    *,
    weight: float = 3.0,
    penalty: float = 30.0,
    iterations: int = 15,
    seed: int = 0,
) -> Factors:
    """Return the factors of implicit alternating least squares.

    Args:
        likes: (n_users, n_items), 1 where a user liked an item.
        dim: width of a vector.
        weight: how much what was liked counts, where all that was not counts 1.
        penalty: λ, of the squared sizes of all vectors.
        iterations: passes over users and items.
        seed: of the first vectors.

    Source: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets",
    ICDM 2008.
    """
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # implicit has threads of its own, which these would hinder
        model = AlternatingLeastSquares(
            factors=dim,
            regularization=penalty,
            alpha=weight,
            iterations=iterations,
            random_state=seed,
        )
        model.fit(csr_matrix(likes), show_progress=False)
    items = np.asarray(model.item_factors, dtype=np.float32)
    return Factors(
        users=np.asarray(model.user_factors, dtype=np.float32), items=items, events=items
    )


def graph_factors(
    likes: csr_array,
    dim: int,
    *,
    layers: int = 2,
    penalty: float = 1e-4,
    learning_rate: float = 0.005,
    epochs: int = 60,
    seed: int = 0,
) -> Factors:
    """Return embeddings of users and items averaged over the layers of their graph, learned by BPR.

    e⁽⁰⁾ is learned, e⁽ˡ⁺¹⁾ = D^-½ A D^-½ e⁽ˡ⁾, and a vector is the mean of all e⁽ˡ⁾. Without
    layers it is matrix factorisation with BPR.

    Args:
        likes: (n_users, n_items), 1 where a user liked an item: the edges A.
        dim: width of a vector.
        layers: how far what neighbours are like is passed on.
        penalty: λ, of the squared sizes of the e⁽⁰⁾ of a triple.
        learning_rate: of Adam.
        epochs: passes over the likes.
        seed: of the first vectors and the negatives.

    Source: He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for
    Recommendation", SIGIR 2020, equations 3 to 8; Rendle et al., "BPR: Bayesian Personalized
    Ranking from Implicit Feedback", UAI 2009.
    """
    import keras
    import tensorflow as tf

    n_users, n_items = likes.shape
    user, item = likes.nonzero()
    edges = _normalised(likes).tocoo()
    graph = tf.sparse.reorder(
        tf.SparseTensor(
            np.stack([edges.row, edges.col], axis=1).astype(np.int64),
            edges.data.astype(np.float32),
            edges.shape,
        )
    )
    rng = np.random.default_rng(seed)
    table = tf.Variable(0.1 * rng.standard_normal((n_users + n_items, dim)).astype(np.float32))
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build([table])

    def propagated() -> Any:
        layer = total = tf.convert_to_tensor(table)
        for _ in range(layers):
            layer = tf.sparse.sparse_dense_matmul(graph, layer)
            total += layer
        return total / (layers + 1)

    @tf.function(reduce_retracing=True)
    def learn(rows: Any) -> None:
        with tf.GradientTape() as tape:
            final = propagated()
            users, liked, others = (tf.gather(final, rows[:, column]) for column in range(3))
            wins = tf.reduce_sum(users * (liked - others), axis=1)
            first = tf.gather(table, tf.reshape(rows, [-1]))
            loss = tf.reduce_mean(tf.nn.softplus(-wins))
            loss += penalty * tf.reduce_sum(first**2) / tf.cast(tf.shape(rows)[0], tf.float32)
        optimizer.apply(tape.gradient(loss, [table]), [table])

    unseen = Unseen(user, item, n_users=n_users, n_items=n_items)
    for _ in range(epochs):
        order = rng.permutation(len(user))
        for first in range(0, len(order), _BATCH):
            some = order[first : first + _BATCH]
            others = unseen.draw(user[some].astype(np.int64), 1, rng)[:, 0]
            learn(np.stack([user[some], n_users + item[some], n_users + others], axis=1))
    final = propagated().numpy()
    return Factors(users=final[:n_users], items=final[n_users:], events=final[n_users:])


def _normalised(likes: csr_array) -> csr_array:
    """Return D^-½ A D^-½ over users and items, (n_users + n_items) squared."""
    n_users, n_items = likes.shape
    user, item = likes.nonzero()
    rows = np.concatenate([user, n_users + item])
    columns = np.concatenate([n_users + item, user])
    size = n_users + n_items
    adjacency = csr_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    degrees = np.maximum(adjacency.sum(axis=1), 1.0)
    scale = diags_array(degrees**-0.5)
    return csr_array(scale @ adjacency @ scale)


COLLABORATIVE: Mapping[str, Callable[..., Factors]] = {
    "ease": ease_factors,
    "ials": ials_factors,
    "lightgcn": graph_factors,
}
"""What learns factors, by the name that a configuration gives."""


def collaborative_vectors(likes: csr_array, config: TrainConfig) -> FloatArray:
    """Return (n_items, 2·factors) float32: what an item is as an event, and as a candidate.

    They are scaled to numbers of variance 1, as other sources are.

    Args:
        likes: (n_users, n_items) of the training part.
        config: which factors, of which width.
    """
    found = COLLABORATIVE[config.collaborative](likes, min(config.factors, *likes.shape))
    scaled = [half / (half.std() or 1.0) for half in (found.events, found.items)]
    vectors: FloatArray = np.concatenate(scaled, axis=1, dtype=np.float32)
    return vectors


def with_vectors(
    schema: Schema, features: Features, vectors: FloatArray
) -> tuple[Schema, Features]:
    """Return schema and features with the collaborative fields beside the others.

    Args:
        schema: the fitted fields; where it has the collaborative ones, they stay as they are.
        features: of the other fields.
        vectors: (n_items, width) float32.

    Raises:
        SchemaError: a field of the data set has the name of a collaborative one.
    """
    item = Field(name=COLLABORATIVE_FIELD, side=Side.ITEM, kind=Kind.VECTOR)
    user = Field(
        name=COLLABORATIVE_FIELD,
        side=Side.USER,
        kind=Kind.HISTORY,
        of=COLLABORATIVE_FIELD,
        max_length=_LONGEST,
    )
    for field in (user, item):
        known = schema.find(field.side, field.name)
        if known is not None and known.field != field:
            raise SchemaError(
                f"{field.side} field {field.name!r}: found it in the data set, expected another "
                "name, because collaborative vectors go by this one"
            )
    others = [f for f in schema.fields if f.field.name != COLLABORATIVE_FIELD]
    added = [FittedField(field=field, dim=vectors.shape[1]) for field in (user, item)]
    items = replace(features.items, tensors={**features.items.tensors, item.tensor: vectors})
    return Schema((*others, *added)), replace(features, items=items)
