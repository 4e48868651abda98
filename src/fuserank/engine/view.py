"""What one request reads of the catalogue, from beginning to end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuserank.bundle import Bundle
from fuserank.engine.attribute_index import AttributeIndex
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.encoder_config import TextRole
from fuserank.engine.live.current_users import CurrentUsers
from fuserank.engine.live.joined import JoinedIndex, JoinedScorer
from fuserank.engine.live.segment import Segment
from fuserank.engine.live.snapshot import Part, Snapshot
from fuserank.engine.results import Embeddings
from fuserank.engine.scoring import Eligibility, Scorer
from fuserank.engine.scoring.eligibility import full_words
from fuserank.engine.selection import Selector
from fuserank.engine.stored_columns import StoredColumns
from fuserank.engine.stored_users import StoredUsers
from fuserank.engine.user_inputs import UserInputs

__all__ = ["View", "Views"]


@dataclass(frozen=True, kw_only=True)
class View:
    """The items at one moment, and what scans, filters and selects them; it never changes.

    Attributes:
        items: those of the bundle, or a snapshot with live ones.
        n_items: how many there are.
        scorer: of all rows.
        eligibility: of the rows that hold an item.
        index: of their attributes.
        selector: chooses of them.
        inputs: of users, whose histories name them.
    """

    items: Catalogue | Snapshot
    n_items: int
    scorer: Scorer
    eligibility: Eligibility
    index: AttributeIndex | JoinedIndex
    selector: Selector
    inputs: UserInputs


class Views:
    """Makes the views of one bundle.

    Attributes:
        base: its items, as a part of snapshots.
        catalogue: its items.
    """

    def __init__(
        self,
        bundle: Bundle,
        catalogue: Catalogue,
        scorer: Scorer,
        encode: Callable[[Sequence[str], TextRole], Embeddings] | None,
    ) -> None:
        """Take what all views share.

        Args:
            bundle: gives the schema and the stored users.
            catalogue: its items.
            scorer: of its items.
            encode: the text encoder; None where the bundle has none.
        """
        self._schema, self._encode = bundle.schema, encode
        self._scorer, self.catalogue = scorer, catalogue
        self.users = StoredUsers(bundle)
        segment = Segment(
            n_items=len(catalogue),
            ids=catalogue.every_id,
            attributes_of=catalogue.attributes_of,
            states=catalogue.states,
            vectors=catalogue.vectors,
            scorer=scorer,
        )
        self.base = Part(
            segment=segment,
            first=0,
            words=full_words(len(catalogue)),
            index=AttributeIndex(
                len(catalogue), catalogue.attributes_of, StoredColumns.open(bundle).by_name()
            ),
        )

    def of_bundle(self) -> View:
        """Return the view of the bundle's items alone."""
        items = self.catalogue
        return View(
            items=items,
            n_items=len(items),
            scorer=self._scorer,
            eligibility=Eligibility(len(items)),
            index=self.base.index,
            selector=Selector(items, self.base.index),
            inputs=UserInputs(self._schema, items, self.users, self._encode),
        )

    def of(self, snapshot: Snapshot) -> View:
        """Return the view of a snapshot over the bundle's items."""
        alone = snapshot.parts[0].segment is self.base.segment and len(snapshot.parts) == 1
        index = self.base.index if alone else JoinedIndex(snapshot.parts)
        return View(
            items=snapshot,
            n_items=snapshot.n_items,
            scorer=self._scorer if alone else JoinedScorer(snapshot.parts),
            eligibility=Eligibility.of(snapshot.words()),
            index=index,
            selector=Selector(snapshot, index),
            inputs=UserInputs(
                self._schema, snapshot, CurrentUsers(self.users, snapshot), self._encode
            ),
        )
