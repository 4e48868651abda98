"""The engine: a loaded bundle that recommends, scores and encodes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from fuserank.bundle import Bundle, layout
from fuserank.engine.answering import Answerer
from fuserank.engine.caps import Cap
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.description import describe
from fuserank.engine.diversity import Diversity
from fuserank.engine.encoder import TextEncoder, check_space
from fuserank.engine.encoder_config import TextRole
from fuserank.engine.filters import ItemFilter, check_filters
from fuserank.engine.live.live_items import LiveItems
from fuserank.engine.live.opening import open_live
from fuserank.engine.live.snapshot import Snapshot
from fuserank.engine.predicates import Predicate, check_where
from fuserank.engine.providers import Device, cores, resolve_device
from fuserank.engine.results import (
    BundleInfo,
    Embeddings,
    Item,
    Plan,
    Recommendation,
    Scores,
)
from fuserank.engine.scorers import open_scorer
from fuserank.engine.selection import Selection
from fuserank.engine.session import GraphSession
from fuserank.engine.text_graph import TokenCounts
from fuserank.engine.vector_cache import CacheInfo
from fuserank.engine.view import Views
from fuserank.errors import BundleStateError, RequestError

__all__ = ["Engine", "TextStats", "load"]

Request = Mapping[str, object]


class TextStats(NamedTuple):
    """Counters of the text encoder: how often its cache answered, and the tokens that ran."""

    cache: CacheInfo
    tokens: TokenCounts


def load(
    path: str | Path,
    device: Device | str = Device.AUTO,
    *,
    live: str | Path | None = None,
    threads: int = 0,
    shared: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> "Engine":
    """Check and load a bundle, and warm it up, so that the first request is as quick as the next.

    Args:
        path: the bundle's directory.
        device: ``auto``, ``cpu`` or ``cuda``.
        live: directory of the items that come and change while the bundle is served; made where
            it is missing, and shared by any number of processes. Without one the catalogue stays
            as it is.
        threads: threads of a scan and of the encoder; 0 takes one for each core.
        shared: other processes load the same bundle: its int8 codes are scanned where they are
            mapped, once for all of them, and not copied. That may make scans slower.
        on_progress: called with the bytes that were checked since the last call.

    Raises:
        BundleError: the bundle is damaged, foreign or of another format version.
        JournalError: the directory of live items is damaged or foreign.
        ProviderError: CUDA was asked for and cannot be used.
    """
    resolved = resolve_device(device)
    bundle = Bundle.open(Path(path), on_progress=on_progress)
    engine = Engine(bundle, resolved, live=live, threads=threads or cores(), shared=shared)
    try:
        engine.warm()
    except BaseException:
        engine.close()
        raise
    return engine


class Engine:
    """Answers requests from one bundle.

    A request names a user's fields: ``{"user_id": "42"}`` for a stored user, or whatever is known
    of a new one, such as ``{"profile": "likes heist films", "history": ["50", "172"]}``. Safe
    under concurrent callers, and the GIL is released wherever time is spent.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device = Device.CPU,
        *,
        live: str | Path | None = None,
        threads: int = 1,
        shared: bool = False,
    ) -> None:
        """Load a bundle that was opened, on a resolved device; `load` does all of it."""
        manifest = bundle.manifest
        catalogue = Catalogue(bundle)
        self._encoder: TextEncoder | None = None
        if manifest.encoder is not None:
            directory = bundle.file(layout.ENCODER)
            self._encoder = TextEncoder.load(directory, device, threads=threads)
            check_space(self._encoder.space, manifest.encoder.space, str(directory))
        # The user graph is small: handing parts of it to other threads costs more than it saves.
        user_graph = GraphSession(bundle.file(layout.GRAPHS["user"]), device, threads=1)
        self._answerer = Answerer(user_graph)
        self._scorer = open_scorer(bundle, catalogue, device, threads, shared=shared)
        encode = self._encoder.encode if self._encoder else None
        self._views = Views(bundle, catalogue, self._scorer, encode)
        self._info = describe(bundle, device, len(self._views.users))
        # A request reads it once: what it sees then does not change until it is answered.
        self._view = self._views.of_bundle()
        self._live: LiveItems | None = None
        if live is not None:
            base = self._views.base
            self._live = open_live(
                Path(live), bundle, catalogue, base, encode, threads=threads, show=self._show
            )

    @property
    def info(self) -> BundleInfo:
        """What was loaded; its items are counted as they are now."""
        n_items = self._view.n_items
        if self._info.n_items != n_items:
            self._info = replace(self._info, n_items=n_items)
        return self._info

    @property
    def catalogue_version(self) -> int:
        """A number that grows whenever items come, change or go; 0 of the bundle's items alone."""
        items = self._view.items
        return items.sequence if isinstance(items, Snapshot) else 0

    def recommend(
        self,
        user: Request,
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        allow: Collection[str] | None = None,
        include_seen: bool = False,
        where: Sequence[Predicate] = (),
        caps: Sequence[Cap] = (),
        diversity: Diversity | None = None,
        plan: Plan | str = Plan.EXACT,
    ) -> Recommendation:
        """Return the k best items of a user, out of the whole catalogue.

        Args:
            user: fields by name.
            k: items wanted; where fewer are eligible, all of those come.
            exclude: item ids never to return; ids the catalogue does not hold change nothing.
            allow: where given, the only item ids to return.
            include_seen: also return items that the user has met (stored or in the history).
            where: what must be true of an item's attributes; all of it.
            caps: at most how many items of one value of an attribute; all of them hold.
            diversity: how far the items are to be unlike one another.
            plan: how the catalogue is ranked; the reply says how it was.

        Raises:
            RequestError: k below 1, a field the bundle does not have, an attribute that no item
                has, a value of the wrong type.
            UnknownItemError: a history that names an item the catalogue does not hold.
        """
        return self.recommend_many(
            [user],
            k,
            exclude=exclude,
            allow=allow,
            include_seen=include_seen,
            where=where,
            caps=caps,
            diversity=diversity,
            plan=plan,
        )[0]

    def recommend_many(
        self,
        users: Sequence[Request],
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        allow: Collection[str] | None = None,
        include_seen: bool = False,
        filters: Sequence[ItemFilter] | None = None,
        where: Sequence[Predicate] = (),
        caps: Sequence[Cap] = (),
        diversity: Diversity | None = None,
        plan: Plan | str = Plan.EXACT,
    ) -> list[Recommendation]:
        """Return the k best items of several users, who share one pass over the catalogue.

        Args, errors and meaning are those of `recommend`. Where users differ in what `exclude`,
        `allow` and `include_seen` are to be, `filters` say it in their place: one for each user.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise RequestError(f"k: found {k!r}, expected a whole number of 1 or more", field="k")
        selection = Selection(k=k, caps=caps, diversity=diversity)
        wanted = _plan(plan)
        check_where(where)
        for_all = ItemFilter(exclude=exclude, allow=allow, include_seen=include_seen)
        if filters is None:
            filters = [for_all] * len(users)
        else:
            check_filters(filters, len(users), for_all)
        if not users:
            return []
        return self._answerer.recommend(
            self._view, users, selection, filters=filters, where=where, plan=wanted
        )

    def score(self, user: Request, item_ids: Sequence[str]) -> Scores:
        """Return the scores of named items for a user, in the order of the ids.

        Raises:
            RequestError: a field the bundle does not have, a value of the wrong type.
            UnknownItemError: an item id that the catalogue does not hold.
        """
        return self._answerer.score(self._view, user, item_ids)

    def encode(self, texts: Sequence[str], role: TextRole = TextRole.PASSAGE) -> Embeddings:
        """Return the embeddings of texts, as the bundle's encoder makes them.

        Args:
            texts: none of them blank.
            role: whether they are about items, or queries as users' texts are.

        Raises:
            RequestError: an empty text, something that is no text, or a bundle without encoder.
        """
        if self._encoder is None:
            raise RequestError("texts: this bundle has no text encoder", field="texts")
        return self._encoder.encode(texts, role)

    def attributes(self, item_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the attributes of items, such as their titles.

        Raises:
            UnknownItemError: an item id that the catalogue does not hold.
        """
        items = self._view.items
        return items.attributes(items.rows(item_ids, "item_ids"))

    def item(self, item_id: str) -> Item:
        """Return one item as the catalogue holds it now.

        Raises:
            UnknownItemError: the catalogue does not hold it.
        """
        items = self._view.items
        rows = items.rows([item_id], "item_id")
        is_live = isinstance(items, Snapshot) and items.is_live(item_id)
        return Item(item_id=item_id, attributes=items.attributes(rows)[0], live=is_live)

    def upsert(self, items: Mapping[str, Mapping[str, object]]) -> int:
        """Add items to the catalogue, or replace those it holds.

        When it returns they are on disk, and recommended by this engine; other engines on the same
        directory recommend them within a second. Either all are taken or none.

        Args:
            items: attributes by item id, named as the columns of the item table were: what the
                bundle's fields read of items, and whatever else is to come back with them.

        Returns:
            How many there were.

        Raises:
            RequestError: an id, attribute or value that cannot be taken; names item and field.
            BundleStateError: the engine was loaded without a directory for live items.
            JournalWriteError: there is no room, or the directory cannot be written to.
        """
        return self._editable().upsert(items)

    def delete(self, item_ids: Collection[str]) -> int:
        """Take items out of the catalogue, at once; ids that it does not hold are ignored.

        Returns:
            How many it held.

        Raises:
            RequestError: not a list of ids.
            BundleStateError: the engine was loaded without a directory for live items.
            JournalWriteError: there is no room, or the directory cannot be written to.
        """
        return self._editable().delete(item_ids)

    def fold(self) -> bool:
        """Write all live items into one segment, so that scans and the next start are quicker.

        The engine does so itself once there are many. Requests and changes go on.

        Returns:
            Whether it was done; it is not while another thread or process is at it.

        Raises:
            BundleStateError: the engine was loaded without a directory for live items.
            OSError: there is no room.
        """
        return self._editable().fold()

    def text_stats(self) -> TextStats | None:
        """Return what the text encoder has done since it was loaded; None without an encoder."""
        if self._encoder is None:
            return None
        return TextStats(cache=self._encoder.cache_info(), tokens=self._encoder.token_counts())

    def user_ids(self, limit: int) -> tuple[str, ...]:
        """Return the ids of the first stored users, in the order of the user table."""
        return self._views.users.ids(limit)

    def warm(self) -> None:
        """Run every stage once, so that nothing is compiled or allocated on a request."""
        if self._encoder is not None:
            self._encoder.warm()
        if self._view.n_items == 0:
            return
        self.recommend_many([{}, {}], k=1)
        best = self.recommend({}, k=10)
        self.score({}, best.item_ids)

    def close(self) -> None:
        """Release threads; the engine is not used afterwards."""
        if self._live is not None:
            self._live.close()
        self._view.scorer.close()
        self._scorer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show(self, snapshot: Snapshot) -> None:
        view = self._views.of(snapshot)
        if len(snapshot.parts) > 1 and len(self._view.items) == len(self._views.catalogue):
            # What scans new items may run elsewhere than what scans the bundle's: not on a request
            # for the first time.
            self._answerer.warm(view)
        self._view = view

    def _editable(self) -> LiveItems:
        if self._live is None:
            raise BundleStateError(
                "items: this engine was loaded without a directory for live items; give one to "
                "`fuserank.load(…, live=…)`, or to `fuserank serve --live`"
            )
        return self._live


def _plan(plan: object) -> Plan:
    if plan not in tuple(Plan):
        known = ", ".join(repr(known.value) for known in Plan)
        raise RequestError(f"plan: found {plan!r}, expected one of {known}", field="plan")
    return Plan(str(plan))
