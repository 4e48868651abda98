"""Which bundles may be loaded, and how much of what comes candidates answer too."""

from dataclasses import dataclass
from pathlib import Path

from fuserank.errors import ConfigError

__all__ = ["BundlesConfig", "ShadowConfig"]


@dataclass(frozen=True, kw_only=True)
class BundlesConfig:
    """What may be loaded.

    Attributes:
        folder: folder whose bundles can be loaded while the server runs; None allows none.
        max_loaded: bundles kept at a time: the active one, the previous one and candidates. One
            more is there while a bundle is loaded, or while one that went ends its last calls.
    """

    folder: Path | None = None
    max_loaded: int = 3

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        if self.max_loaded < 3:
            raise ConfigError(
                f"bundles.max_loaded: found {self.max_loaded}, expected 3 or more: the active "
                "bundle, the previous one and a candidate"
            )


@dataclass(frozen=True, kw_only=True)
class ShadowConfig:
    """How much is compared.

    Attributes:
        share: share of requests that candidates answer again; 0 compares none.
        queue: requests that wait for it; what comes while as many wait is dropped.
    """

    share: float = 0.01
    queue: int = 64

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"shadow.share: found {self.share}, expected 0 to 1")
        if self.queue < 1:
            raise ConfigError(f"shadow.queue: found {self.queue}, expected 1 or more")
