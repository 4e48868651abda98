"""One change of a live item, and the digests by which damage to it is found."""

from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["Change", "digests_of", "row_of"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """The last that was said of an item.

    Attributes:
        item_id: of the item.
        attributes: its attributes, as JSON; None says that it was deleted.
        fingerprint: of what made the states; None where there are none.
        states: what it made; None where there are none, or where they were damaged.
        sequence: number of the change; 0 until it is committed.
    """

    item_id: str
    attributes: str | None
    fingerprint: str | None = None
    states: bytes | None = None
    sequence: int = 0


def row_of(change: Change, sequence: int) -> tuple[object, ...]:
    """Return what the journal keeps of a change with a number, in the order of its columns."""
    placed = Change(
        item_id=change.item_id,
        attributes=change.attributes,
        fingerprint=change.fingerprint,
        states=change.states,
        sequence=sequence,
    )
    digest, states_digest = digests_of(placed)
    return (
        sequence,
        change.item_id,
        change.attributes,
        digest,
        change.fingerprint,
        change.states,
        states_digest,
    )


def digests_of(change: Change) -> tuple[bytes, bytes]:
    """Return the digests of what was said of an item, and of that with its states."""
    whole = blake2b(digest_size=16)
    whole.update(b"%d" % change.sequence)
    for text in (change.item_id, change.attributes):
        encoded = b"" if text is None else b"+" + text.encode()
        # With its length, so that texts that end elsewhere are other texts.
        whole.update(b":%d:" % len(encoded) + encoded)
    states = blake2b(whole.digest(), digest_size=16)
    states.update((change.fingerprint or "").encode() + b":")
    states.update(change.states or b"")
    return whole.digest(), states.digest()
