"""From changes to snapshots."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fuserank.engine.live.change import Change
from fuserank.engine.live.item_inputs import ItemInputs, as_json, as_text
from fuserank.engine.live.item_states import ItemStates
from fuserank.engine.live.row_index import RowIndex
from fuserank.engine.live.segment import Delta, Segment, read_attributes
from fuserank.engine.live.segment_store import Content, Folded
from fuserank.engine.live.snapshot import Part, Snapshot
from fuserank.engine.scorers import HostScorers

__all__ = ["Replay"]

_NO_ROWS = np.empty(0, dtype=np.int64)


class Replay:
    """Makes the snapshots of one bundle: its items, a folded segment, and changes over them.

    Attributes:
        fingerprint: of what makes the states.
    """

    def __init__(
        self,
        base: Part,
        base_rows: Mapping[str, int],
        inputs: ItemInputs,
        scorers: HostScorers,
        *,
        fingerprint: str,
        coded: bool,
        threads: int,
    ) -> None:
        """Take what all snapshots share.

        Args:
            base: the items of the bundle.
            base_rows: their rows by id.
            inputs: makes states of attributes.
            scorers: scan them.
            fingerprint: of what makes the states.
            coded: whether folded items get int8 codes.
            threads: of a scan of folded items.
        """
        self._base, self._base_rows = base, base_rows
        self._inputs, self._scorers = inputs, scorers
        self._coded, self._threads = coded, threads
        self.fingerprint = fingerprint

    def changes(self, items: Mapping[str, Mapping[str, object]]) -> list[Change]:
        """Return what upserts items, with their states.

        Raises:
            RequestError: an id, attribute or value that cannot be taken; names item and field.
        """
        written = {item_id: as_json(item_id, given) for item_id, given in items.items()}
        known = {item_id: json.loads(text) for item_id, text in written.items()}
        return [
            Change(item_id=i, attributes=text, fingerprint=self.fingerprint, states=made)
            for (i, text), made in zip(
                written.items(), self._inputs.states(known).to_bytes(), strict=True
            )
        ]

    def delta(self) -> Delta:
        """Return a delta without items."""
        return Delta(lambda states: self._scorers.make(states, None, 1))

    def start(self, folded: Folded | None, deleted: Iterable[str]) -> Snapshot:
        """Return the snapshot of the bundle and a folded segment alone.

        Args:
            folded: the segment, if there is one.
            deleted: ids of the items that were deleted up to it.
        """
        base, rows = self._base, dict[str, int | None]()
        parts = [base] if base.segment.n_items else []
        if folded is not None and folded.ids:
            segment = Segment(
                n_items=len(folded.ids),
                ids=folded.ids,
                attributes_of=read_attributes(folded.attributes),
                states=folded.made.states,
                vectors=folded.made.vectors,
                scorer=self._scorers.make(folded.made.states, folded.codes, self._threads),
            )
            part = Part.place(segment, base.last if parts else 0)
            parts.append(part)
            rows |= {item_id: part.first + row for row, item_id in enumerate(folded.ids)}
        rows |= dict.fromkeys(deleted)
        hidden = [self._base_rows[item_id] for item_id in rows if item_id in self._base_rows]
        if hidden:
            parts[0] = base.without(hidden)
        return Snapshot(
            parts=tuple(parts or [base]),
            row_of=RowIndex(self._base_rows, rows),
            version=0,
            sequence=0 if folded is None else folded.up_to,
            n_items=sum(part.segment.n_items for part in parts) - len(hidden),
        )

    def replayed(
        self, snapshot: Snapshot, delta: Delta, parts: Iterable[Sequence[Change]]
    ) -> Snapshot:
        """Return a snapshot after what was changed since.

        Args:
            snapshot: holds all that the delta does.
            delta: takes up the new items; after an error it is as it was.
            parts: the changes, in order; of those of one part each is of another item.
        """
        n_items = len(delta)
        try:
            for changes in parts:
                snapshot = self._applied(snapshot, delta, changes)
        except BaseException:
            delta.cut(n_items)  # what is read again is put there again
            raise
        return snapshot

    def content(self, snapshot: Snapshot) -> Content:
        """Return the live items of a snapshot, for a segment."""
        live = self._live(snapshot)
        rows = [part.rows() for part in live]
        placed = [(p.segment, row) for p, mine in zip(live, rows, strict=True) for row in mine]
        return Content(
            ids=[segment.ids[row] for segment, row in placed],
            attributes=[as_text(segment.attributes_of(row)) for segment, row in placed],
            rows=np.concatenate(
                [_NO_ROWS, *(p.first + mine for p, mine in zip(live, rows, strict=True))]
            ),
            states=snapshot.states,
            vectors=snapshot.vectors,
            coded=self._coded,
            weights=self._scorers.weights,
        )

    def n_live(self, snapshot: Snapshot) -> int:
        """Return how many rows live items take."""
        return sum(part.segment.n_items for part in self._live(snapshot))

    def _live(self, snapshot: Snapshot) -> list[Part]:
        return [part for part in snapshot.parts if part.segment is not self._base.segment]

    def _applied(self, snapshot: Snapshot, delta: Delta, changes: Sequence[Change]) -> Snapshot:
        """Return the snapshot after some changes, of which each is of another item."""
        version = snapshot.version + 1
        before = [snapshot.row(change.item_id) for change in changes]
        gone = [row for row in before if row is not None]
        parts = [_without(part, gone) for part in snapshot.parts if part.segment.n_items]
        kept = [change for change in changes if change.attributes is not None]
        first = 0
        if kept:
            n_before = len(delta)
            delta.append(
                [change.item_id for change in kept],
                [change.attributes or "" for change in kept],
                self._states_of(kept),
            )
            if n_before:
                parts[-1] = parts[-1].grown(delta.segment())
            else:
                parts.append(Part.place(delta.segment(), parts[-1].last if parts else 0))
            first = parts[-1].first + n_before
        rows = iter(range(first, first + len(kept)))
        for change in changes:
            row = None if change.attributes is None else next(rows)
            snapshot.row_of.put(change.item_id, version, row)
        return replace(
            snapshot,
            parts=tuple(parts or [self._base]),
            version=version,
            sequence=changes[-1].sequence,
            n_items=snapshot.n_items + len(kept) - len(gone),
        )

    def _states_of(self, changes: Sequence[Change]) -> ItemStates:
        """Return what the journal has of this bundle's states, and make the others."""
        known = {
            change.item_id: change.states
            for change in changes
            if change.states is not None and change.fingerprint == self.fingerprint
        }
        missing = {
            change.item_id: json.loads(change.attributes or "{}")
            for change in changes
            if change.item_id not in known
        }
        if missing:
            made = self._inputs.states(missing, lenient=True).to_bytes()
            known |= zip(missing, made, strict=True)
        return ItemStates.from_bytes([known[change.item_id] for change in changes])


def _without(part: Part, rows: Sequence[int]) -> Part:
    mine = [row for row in rows if part.first <= row < part.last]
    return part.without(mine) if mine else part
