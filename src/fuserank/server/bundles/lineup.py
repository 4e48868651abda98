"""Which of several bundles does what, and what that becomes by a promotion or a rollback.

One process goes by it, and so do several that must agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fuserank.errors import BundleStateError, UnknownVersionError
from fuserank.server.bundles.loaded import Role

__all__ = ["Lineup"]

_MAX_QUOTED_CHARS = 100


class _HasVersion(Protocol):
    @property
    def version(self) -> str: ...


T = TypeVar("T", bound=_HasVersion)


@dataclass(frozen=True, kw_only=True)
class Lineup(Generic[T]):
    """Bundles by role.

    Attributes:
        active: answers every request that names no version.
        previous: was active before; None where nothing can be rolled back.
        candidates: wait for their promotion, the oldest first.
    """

    active: T
    previous: T | None = None
    candidates: tuple[T, ...] = ()

    def __iter__(self) -> Iterator[T]:
        yield self.active
        if self.previous is not None:
            yield self.previous
        yield from self.candidates

    def role(self, one: T) -> Role:
        """Return what one of them does."""
        if one is self.active:
            return Role.ACTIVE
        return Role.PREVIOUS if one is self.previous else Role.CANDIDATE

    def find(self, version: str, field: str) -> T:
        """Return the one of a version.

        Args:
            version: as `BundleInfo` has it.
            field: what a caller gave the version as.

        Raises:
            UnknownVersionError: there is none.
        """
        for one in self:
            if one.version == version:
                return one
        raise UnknownVersionError(
            f"{field}: found {version[:_MAX_QUOTED_CHARS]!r}, which is not the version of a bundle "
            "that is loaded; load it, or leave the version out",
            field=field,
        )

    def joined(self, fresh: T, most: int) -> "Lineup[T]":
        """Return it with one more candidate, for which the oldest goes if it would be too many.

        Args:
            fresh: the candidate.
            most: how many there may be, of all roles.
        """
        candidates = (*self.candidates, fresh)
        others = len(list(self)) - len(self.candidates)
        excess = max(others + len(candidates) - most, 0)
        return Lineup(
            active=self.active, previous=self.previous, candidates=candidates[excess:] or (fresh,)
        )

    def promoted(self, one: T) -> "Lineup[T]":
        """Return it with one of them active, and the active one the previous.

        The previous one before goes. Where it is active already, nothing changes.
        """
        if one is self.active:
            return self
        others = tuple(candidate for candidate in self.candidates if candidate is not one)
        return Lineup(active=one, previous=self.active, candidates=others)

    def rolled_back(self) -> "Lineup[T]":
        """Return it with the previous one active again, and the active one a candidate.

        Raises:
            BundleStateError: there is no previous one.
        """
        if self.previous is None:
            raise BundleStateError(
                "there is no previous bundle to return to; promote a loaded version instead"
            )
        return Lineup(active=self.previous, candidates=(*self.candidates, self.active))
