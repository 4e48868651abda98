"""Opening the live items of a bundle."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from fuserank.bundle import Bundle, layout
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.encoder_config import TextRole
from fuserank.engine.live.item_inputs import ItemInputs
from fuserank.engine.live.live_items import LiveItems
from fuserank.engine.live.replay import Replay
from fuserank.engine.live.snapshot import Part, Snapshot
from fuserank.engine.results import Embeddings
from fuserank.engine.scorers import HostScorers

__all__ = ["open_live"]


def open_live(
    directory: Path,
    bundle: Bundle,
    catalogue: Catalogue,
    base: Part,
    encode: Callable[[Sequence[str], TextRole], Embeddings] | None,
    *,
    threads: int,
    show: Callable[[Snapshot], None],
) -> LiveItems:
    """Open the live items of a directory over a bundle.

    Args:
        directory: made where it is missing; other processes, and other bundles, may share it.
        bundle: the bundle.
        catalogue: its items.
        base: the same, as a part of snapshots.
        encode: its text encoder; None where it has none.
        threads: of a scan.
        show: is given each snapshot that takes the place of the last.

    Raises:
        JournalError: the journal is damaged or foreign.
    """
    replay = Replay(
        base,
        catalogue.row_of,
        ItemInputs(bundle, encode),
        HostScorers(bundle),
        fingerprint=_fingerprint(bundle),
        coded=bundle.manifest.codes is not None,
        threads=threads,
    )
    return LiveItems(directory, replay, show)


def _fingerprint(bundle: Bundle) -> str:
    """Return what changes whenever the same attributes may become other states."""
    graph = bundle.manifest.files[layout.GRAPHS["item"]].sha256
    joined = f"{bundle.manifest.space}\n{graph}"
    return "sha256:" + hashlib.sha256(joined.encode()).hexdigest()
