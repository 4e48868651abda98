"""What is known of a bundle that a server has loaded."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from fuserank.engine.results import BundleInfo

__all__ = ["Held", "Loaded", "Role", "Servable"]


class Role(StrEnum):
    """What a loaded bundle does."""

    ACTIVE = "active"
    """Answers every request that names no version."""
    PREVIOUS = "previous"
    """Served before the active one, and is kept for a rollback."""
    CANDIDATE = "candidate"
    """Waits for its promotion; answers requests that name its version."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A bundle that is loaded, as it was when it was asked about.

    Attributes:
        info: what it holds.
        role: what it does.
        serial: number of the load, from 1; two loads of one version differ in it.
    """

    info: BundleInfo
    role: Role
    serial: int


class _HasInfo(Protocol):
    @property
    def info(self) -> BundleInfo: ...


class Servable(Protocol):
    """What can be held: an engine, and whatever stands before it."""

    @property
    def engine(self) -> _HasInfo:
        """The engine; its `info` says what was loaded."""

    def close(self) -> None:
        """Wait for what runs, and let go of all. Called once, on a thread."""


S = TypeVar("S", bound=Servable)


class Held(Generic[S]):
    """A loaded bundle and how many requests are being answered with it."""

    def __init__(self, served: S, serial: int) -> None:
        self.served, self.serial = served, serial
        self.info = served.engine.info
        self.leases = 0

    @property
    def version(self) -> str:
        """Which bundle it is."""
        return self.info.version
