"""What a text encoder is fine-tuned on: who liked what, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fuserank.errors import DataError
from fuserank.schema import Kind, Schema, Side
from fuserank.training.data.features import fit_schema
from fuserank.training.data.splits import SplitConfig, split

if TYPE_CHECKING:
    from fuserank.training.data.dataset import Dataset

__all__ = ["Batch", "LikedPairs"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B users and a liked item of each.

    Attributes:
        texts: distinct texts.
        user_texts: (B, n) rows of `texts`, -1 where a user's side has fewer.
        item_texts: (B,) rows of `texts`.
        log_chances: (B,) float32: log q of the items.
        is_negative: (B, B) bool: whether user i did not like item j.
    """

    texts: list[str]
    user_texts: Rows
    item_texts: Rows
    log_chances: npt.NDArray[np.float32]
    is_negative: npt.NDArray[np.bool_]


class LikedPairs:
    """The pairs of a user and a liked item in the training part, and their texts."""

    def __init__(
        self,
        dataset: Dataset,
        config: SplitConfig,
        *,
        seed: int,
        query_prompt: str = "",
        passage_prompt: str = "",
    ) -> None:
        """Find the pairs.

        Args:
            dataset: the data.
            config: says what is divided off.
            seed: of the split, and of what is drawn.
            query_prompt: stands before what users say.
            passage_prompt: stands before the texts of items.

        Raises:
            DataError: the items have no texts, or no user likes two items that have.
        """
        self._rng = np.random.default_rng(seed)
        schema = fit_schema(dataset, text_dim=1)
        n_users, n_items = len(dataset.users), len(dataset.items)
        texts = schema.texts(Side.ITEM, dataset.items.columns, n_items)[_item_field(schema)]
        about = schema.texts(Side.USER, dataset.users.columns, n_users)
        own = [about[f.field.name] for f in schema.text_fields(Side.USER)]
        self._user_texts = [
            [query_prompt + column[user] for column in own if column[user]]
            for user in range(n_users)
        ]
        self._texts = [passage_prompt + text if text else text for text in texts]

        rows = split(dataset.interactions, config, seed).train
        known = dataset.interactions.select(rows)
        has_text = np.array([bool(text) for text in texts], dtype=np.bool_)
        known = known.select(known.positive & has_text[known.item])
        self._likes = known.histories(n_users)
        self._events = np.flatnonzero(self._likes.counts[self._likes.user] > 1)
        if not len(self._events):
            raise DataError(
                f"data set {dataset.name!r}: found no user who likes two items that have texts in "
                "the training part, expected some to fine-tune on; use the encoder as it is"
            )
        counts = np.bincount(self._likes.items, minlength=n_items)
        self._log_chance = np.log(np.maximum(counts, 1) / counts.sum()).astype(np.float32)
        self._liked = np.unique(self._likes.user * n_items + self._likes.items)
        self._n_items = n_items

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self._events)

    def draw(self, n: int, events_a_user: int) -> Batch:
        """Draw n pairs, with at most so many other liked items on the side of each user."""
        likes = self._likes
        events = self._rng.choice(self._events, n)
        users, items = likes.owner(events), likes.items[events]
        row_of: dict[str, int] = {}
        sides = [
            [
                row_of.setdefault(text, len(row_of))
                for text in self._side(user, event, events_a_user)
            ]
            for user, event in zip(users.tolist(), events.tolist(), strict=True)
        ]
        user_texts = np.full((len(sides), max(map(len, sides))), -1)
        for row, side in enumerate(sides):
            user_texts[row, : len(side)] = side
        item_texts = [row_of.setdefault(self._texts[item], len(row_of)) for item in items.tolist()]
        pair = users[:, None] * self._n_items + items
        return Batch(
            texts=list(row_of),
            user_texts=user_texts,
            item_texts=np.array(item_texts),
            log_chances=self._log_chance[items],
            is_negative=~np.isin(pair, self._liked),
        )

    def _side(self, user: int, event: int, n: int) -> list[str]:
        """Return the texts that a user is known by, those of a liked item left out."""
        first, end = self._likes.start[user : user + 2]
        others = np.delete(np.arange(first, end), event - first)
        drawn = self._rng.choice(others, min(n, len(others)), replace=False)
        liked = [self._texts[item] for item in self._likes.items[drawn].tolist()]
        return liked + self._user_texts[user]


def _item_field(schema: Schema) -> str:
    """Return the name of the items' text: the one that histories are of, or else the first."""
    names = [f.field.name for f in schema.text_fields(Side.ITEM)]
    if not names:
        raise DataError(
            "finetune: found no text field of the items, expected one; use the encoder as it is"
        )
    histories = [f.field.of for f in schema.fields if f.field.kind is Kind.HISTORY]
    return next((name for name in histories if name in names), names[0])
