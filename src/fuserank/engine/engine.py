"""The engine: a loaded bundle that recommends, scores and encodes."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Bundle, layout
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.encoder import TextEncoder, check_space
from fuserank.engine.encoder_config import TextRole
from fuserank.engine.providers import Device, cores, resolve_device
from fuserank.engine.results import (
    BundleInfo,
    Embeddings,
    FieldInfo,
    Recommendation,
    Scores,
    Timings,
)
from fuserank.engine.scorers import open_scorer
from fuserank.engine.scoring import Eligibility, TopK
from fuserank.engine.session import GraphSession
from fuserank.engine.stored_users import StoredUsers
from fuserank.engine.user_inputs import PreparedUsers, UserInputs
from fuserank.errors import RequestError
from fuserank.schema import Side

__all__ = ["Engine", "load"]

Array = npt.NDArray[Any]
Request = Mapping[str, object]


def load(
    path: str | Path,
    device: Device | str = Device.AUTO,
    *,
    threads: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> "Engine":
    """Check and load a bundle, and warm it up, so that the first request is as quick as the next.

    Args:
        path: the bundle's directory.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: threads of a scan and of the encoder; 0 takes one for each core.
        on_progress: called with the bytes that were checked since the last call.

    Raises:
        BundleError: the bundle is damaged, foreign or of another format version.
        ProviderError: CUDA was asked for and cannot be used.
    """
    resolved = resolve_device(device)
    engine = Engine(
        Bundle.open(Path(path), on_progress=on_progress), resolved, threads=threads or cores()
    )
    engine.warm()
    return engine


class Engine:
    """Answers requests from one bundle.

    A request names a user's fields: ``{"user_id": "42"}`` for a stored user, or whatever is known
    of a new one, such as ``{"profile": "likes heist films", "history": ["50", "172"]}``. Safe
    under concurrent callers, and the GIL is released wherever time is spent.

    Attributes:
        info: what was loaded.
    """

    def __init__(self, bundle: Bundle, device: Device = Device.CPU, *, threads: int = 1) -> None:
        """Load a bundle that was opened, on a resolved device; `load` does all of it."""
        manifest = bundle.manifest
        self._catalogue = Catalogue(bundle)
        self._users = StoredUsers(bundle)
        self._encoder: TextEncoder | None = None
        if manifest.encoder is not None:
            directory = bundle.file(layout.ENCODER)
            self._encoder = TextEncoder.load(directory, device, threads=threads)
            check_space(self._encoder.space, manifest.encoder.space, str(directory))
        # The user graph is small: handing parts of it to other threads costs more than it saves.
        self._user_graph = GraphSession(bundle.file(layout.GRAPHS["user"]), device, threads=1)
        self._scorer = open_scorer(bundle, self._catalogue, device, threads)
        self._eligibility = Eligibility(len(self._catalogue))
        self._inputs = UserInputs(
            bundle.schema,
            self._catalogue,
            self._users,
            self._encoder.encode if self._encoder else None,
        )
        self.info = _describe(bundle, device, len(self._users))

    def recommend(
        self,
        user: Request,
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        allow: Collection[str] | None = None,
        include_seen: bool = False,
    ) -> Recommendation:
        """Return the k best items of a user, out of the whole catalogue.

        Args:
            user: fields by name.
            k: items wanted; where fewer are eligible, all of those come.
            exclude: item ids never to return; ids the catalogue does not hold change nothing.
            allow: where given, the only item ids to return.
            include_seen: also return items that the user has met (stored or in the history).

        Raises:
            RequestError: k below 1, a field the bundle does not have, a value of the wrong type.
            UnknownItemError: a history that names an item the catalogue does not hold.
        """
        return self.recommend_many(
            [user], k, exclude=exclude, allow=allow, include_seen=include_seen
        )[0]

    def recommend_many(
        self,
        users: Sequence[Request],
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        allow: Collection[str] | None = None,
        include_seen: bool = False,
    ) -> list[Recommendation]:
        """Return the k best items of several users, who share one pass over the catalogue.

        Args, errors and meaning are those of `recommend`.
        """
        started = time.perf_counter()
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise RequestError(f"k: found {k!r}, expected a whole number of 1 or more", field="k")
        if not users:
            return []
        prepared, states, timings = self._user_states(users)
        excluded = self._catalogue.known_rows(exclude, "exclude")
        allowed = None if allow is None else self._catalogue.known_rows(allow, "allow")
        scan_started = time.perf_counter()
        words = self._eligibility.words(
            [
                (excluded if include_seen else np.concatenate([excluded, seen]), allowed)
                for seen in prepared.seen
            ]
        )
        best = self._scorer.top_k(states, words, k)
        ended = time.perf_counter()
        timings = replace(
            timings, scan_ms=(ended - scan_started) * 1e3, total_ms=(ended - started) * 1e3
        )
        return [
            self._recommendation(best, index, served_as, timings)
            for index, served_as in enumerate(prepared.served_as)
        ]

    def score(self, user: Request, item_ids: Sequence[str]) -> Scores:
        """Return the scores of named items for a user, in the order of the ids.

        Raises:
            RequestError: a field the bundle does not have, a value of the wrong type.
            UnknownItemError: an item id that the catalogue does not hold.
        """
        started = time.perf_counter()
        rows = self._catalogue.rows(item_ids, "item_ids")
        prepared, states, timings = self._user_states([user])
        scan_started = time.perf_counter()
        scores = self._scorer.score(states, rows)[0]
        ended = time.perf_counter()
        return Scores(
            item_ids=tuple(item_ids),
            scores=scores,
            probabilities=_sigmoid(scores),
            served_as=prepared.served_as[0],
            timings=replace(
                timings, scan_ms=(ended - scan_started) * 1e3, total_ms=(ended - started) * 1e3
            ),
        )

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
        return self._catalogue.attributes(self._catalogue.rows(item_ids, "item_ids"))

    def warm(self) -> None:
        """Run every stage once, so that nothing is compiled or allocated on a request."""
        if self._encoder is not None:
            self._encoder.warm()
        if len(self._catalogue) == 0:
            return
        self.recommend_many([{}, {}], k=1)
        self.recommend({}, k=10)
        self.score({}, self._catalogue.ids(np.zeros(1, dtype=np.int64)))

    def close(self) -> None:
        """Release threads; the engine is not used afterwards."""
        self._scorer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _user_states(
        self, users: Sequence[Request]
    ) -> tuple[PreparedUsers, dict[str, Array], Timings]:
        prepared = self._inputs.prepare(users)
        started = time.perf_counter()
        states = self._user_graph.run(prepared.tensors)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return prepared, states, replace(prepared.timings, user_graph_ms=elapsed_ms)

    def _recommendation(
        self, best: TopK, index: int, served_as: str, timings: Timings
    ) -> Recommendation:
        size = int(best.sizes[index])
        scores = best.scores[index, :size]
        return Recommendation(
            item_ids=self._catalogue.ids(best.rows[index, :size]),
            scores=scores,
            probabilities=_sigmoid(scores),
            plan="exact",
            served_as=served_as,
            timings=timings,
        )


def _describe(bundle: Bundle, device: Device, n_users: int) -> BundleInfo:
    manifest = bundle.manifest
    return BundleInfo(
        name=manifest.name,
        version=manifest.version,
        format_version=manifest.format_version,
        space=manifest.space,
        model=manifest.model,
        scorer=manifest.scorer.kind.value,
        n_items=manifest.n_items,
        n_users=n_users,
        title=manifest.title,
        threshold=manifest.threshold,
        encoder=manifest.encoder.model if manifest.encoder else None,
        precision=manifest.encoder.precision if manifest.encoder else None,
        device=device.value,
        user_fields=tuple(
            FieldInfo(name=f.field.name, kind=f.field.kind.value)
            for f in bundle.schema.side(Side.USER, Side.CONTEXT)
        ),
        degraded=manifest.encoder.degraded if manifest.encoder else (),
    )


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return 1 / (1 + e^-x) without overflow."""
    probabilities: npt.NDArray[np.float32] = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return probabilities
