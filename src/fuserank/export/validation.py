"""What a trained ranker makes of its validation users, by the graphs that will serve."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import graph_bytes
from fuserank.engine.scoring import GenericScorer
from fuserank.engine.session import GraphSession
from fuserank.export.factorise import Factorised
from fuserank.export.gate import RankedWith
from fuserank.schema import Kind, Schema, Side, pack_history
from fuserank.training.artifact import TrainedRun
from fuserank.training.data.dataset import Dataset
from fuserank.training.data.features import Features
from fuserank.training.data.histories import Histories
from fuserank.training.data.interactions import Interactions
from fuserank.training.evaluation.list_metrics import ndcg, top_items
from fuserank.training.evaluation.metrics import roc_auc
from fuserank.training.train import divided

__all__ = ["ValidationUsers"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]

_USERS = 1000
_LONGEST = 100
"""Items of a ranking that are compared."""
_LOT = 64
"""Users ranked at once."""
_TILE = 4096
"""Items a run of the item or joint graph."""


@dataclass(frozen=True, kw_only=True)
class ValidationUsers:
    """Users by whom encoders are compared, as the split of a trained run says.

    Attributes:
        users: (n_users,) their rows, ascending.
        seen: what they met in training: never ranked.
        likes: what they liked in training: their histories.
        held_out: their validation interactions.
    """

    users: Rows
    seen: Interactions
    likes: Histories
    held_out: Interactions

    @classmethod
    def of_run(cls, run: TrainedRun, dataset: Dataset) -> Self:
        """Take the users with validation interactions, a thousand of them at most.

        Raises:
            DataError: the split leaves a part without a positive interaction.
        """
        parts = divided(dataset, run.config)
        users = np.unique(parts.validation.user).astype(np.int64)
        # Always the same ones, so that reports of one run compare.
        users = np.sort(np.random.default_rng(0).permutation(users)[:_USERS])
        return cls(
            users=users,
            seen=parts.train.of_users(users),
            likes=parts.train.histories(len(dataset.users.ids)),
            held_out=parts.validation.of_users(users),
        )

    def rank(
        self,
        parts: Factorised,
        schema: Schema,
        features: Features,
        encoder: TextEncoder,
        directory: Path,
    ) -> RankedWith:
        """Rank the catalogue for every user with the embeddings of one encoder.

        Args:
            parts: the ranker, factorised.
            schema: its fields.
            features: tensors of both tables, texts encoded by the encoder.
            encoder: the encoder.
            directory: of the encoder.
        """
        with TemporaryDirectory() as folder:
            score = _Scores(parts, features, Path(folder))
            lots = [
                self._judge(users, score(self._inputs(users, schema, features)))
                for users in self._lots()
            ]
        top, gains, labels, observed = map(np.concatenate, zip(*lots, strict=True))
        auc = roc_auc(labels, observed)
        return RankedWith(
            precision=encoder.config.precision,
            space=encoder.space,
            size_bytes=graph_bytes(directory),
            top=top,
            ndcg=gains,
            auc=None if np.isnan(auc) else auc,
            item_texts=_texts(Side.ITEM, schema, features.items.tensors, encoder.dim),
            user_texts=_texts(Side.USER, schema, features.users.tensors, encoder.dim),
        )

    def _lots(self) -> Iterator[Rows]:
        for first in range(0, len(self.users), _LOT):
            yield self.users[first : first + _LOT]

    def _judge(self, users: Rows, scores: npt.NDArray[np.float32]) -> tuple[Array, ...]:
        """Return the lists of some users, NDCG@10 of those who liked something, and pairs.

        Of the pairs, labels and scores.
        """
        pairs = self.held_out.of_users(users)
        seen = _mask(users, self.seen.of_users(users), scores.shape[1])
        liked = _mask(users, pairs.select(pairs.positive), scores.shape[1])
        top = top_items(scores, ~seen, _LONGEST)
        observed = scores[np.searchsorted(users, pairs.user), pairs.item]
        judged = liked.any(axis=1)
        return top, ndcg(top[judged, :10], liked[judged]), pairs.positive, observed

    def _inputs(self, users: Rows, schema: Schema, features: Features) -> Mapping[str, Array]:
        """Return the user graph's inputs, the histories made of what training knew."""
        inputs = {name: tensor[users] for name, tensor in features.users.tensors.items()}
        for fitted in schema.side(Side.USER):
            if fitted.field.kind is Kind.HISTORY:
                vectors = features.history_vectors(fitted.field)
                length = fitted.field.max_length
                events = [vectors[self.likes.latest(int(user), length)] for user in users]
                inputs[fitted.field.tensor] = pack_history(events, fitted)
        return inputs


class _Scores:
    """Scores of users with the whole catalogue, by the parts of a ranker."""

    def __init__(self, parts: Factorised, features: Features, folder: Path) -> None:
        """Compute the item states; graphs are written to a folder to be loaded."""
        graphs = {}
        for name in ("user", "item", "joint"):
            path = folder / f"{name}.onnx"
            path.write_bytes(getattr(parts, name).SerializeToString())
            graphs[name] = GraphSession(path)
        tensors, n_items = features.items.tensors, len(features.items)
        made = [
            graphs["item"].run({name: array[rows] for name, array in tensors.items()})
            for rows in (slice(first, first + _TILE) for first in range(0, n_items, _TILE))
        ]
        states = {name: np.concatenate([part[name] for part in made]) for name in made[0]}
        self._user_graph = graphs["user"]
        self._scorer = GenericScorer(graphs["joint"], states)

    def __call__(self, users: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        """Return (n_users, n_items) logits."""
        states, n_items = self._user_graph.run(users), self._scorer.n_items
        tiles = [
            self._scorer.score(states, np.arange(first, min(first + _TILE, n_items)))
            for first in range(0, n_items, _TILE)
        ]
        return np.concatenate(tiles, axis=1)


def _mask(users: Rows, interactions: Interactions, n_items: int) -> npt.NDArray[np.bool_]:
    """Return (n_users, n_items): whether their interactions hold the pair; users ascend."""
    found = np.zeros((len(users), n_items), dtype=np.bool_)
    found[np.searchsorted(users, interactions.user), interactions.item] = True
    return found


def _texts(
    side: Side, schema: Schema, tensors: Mapping[str, Array], dim: int
) -> npt.NDArray[np.float32]:
    """Return (n, dim) float32: the embeddings of all texts of a side, field after field."""
    vectors = [tensors[field.field.tensor] for field in schema.text_fields(side)]
    return np.concatenate([np.zeros((0, dim), np.float32), *vectors])
