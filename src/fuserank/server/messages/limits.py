"""The most that a request may hold."""

from dataclasses import dataclass, fields

from fuserank.errors import ConfigError

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that a request may hold.

    Attributes:
        max_k: items asked for one user.
        max_batch: users of one batch.
        max_items: item ids in one list: to score, to exclude or to allow.
        max_fields: fields given of one user.
        max_values: entries of one field that is a list, such as a history, and of one predicate.
        max_texts: texts of one Encode request.
        max_text_chars: length of one text, id or category, in characters.
        max_predicates: predicates of one request.
        max_caps: caps of one request.
        max_candidates: items that diversity may choose from.
    """

    max_k: int = 1_000
    max_batch: int = 1_024
    max_items: int = 100_000
    max_fields: int = 256
    max_values: int = 10_000
    max_texts: int = 1_024
    max_text_chars: int = 20_000
    max_predicates: int = 32
    max_caps: int = 8
    max_candidates: int = 4_000

    def __post_init__(self) -> None:
        """Raise ConfigError where a limit is below 1."""
        for limit in fields(Limits):
            if (found := getattr(self, limit.name)) < 1:
                raise ConfigError(f"{limit.name}: found {found}, expected 1 or more")
