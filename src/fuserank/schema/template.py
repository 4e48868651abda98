"""Text templates: words with placeholders for columns."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fuserank.errors import SchemaError

__all__ = ["TextTemplate"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_]\w*")
_PART = re.compile(r"[^.;|]*[.;|]?\s*")


@dataclass(frozen=True)
class TextTemplate:
    """Words with ``{column}`` placeholders.

    A sentence (up to ``.``, ``;`` or ``|``) is left out when none of its placeholders has a
    value, and a placeholder without a value leaves no brackets behind. Several values are joined
    by commas.

    >>> film = TextTemplate("{title} ({year}). {genres}. By {director}.")
    >>> film.render({"title": "Alien", "year": 1979, "genres": ["Horror", "Sci-Fi"]})
    'Alien (1979). Horror, Sci-Fi.'
    >>> film.columns
    ('title', 'year', 'genres', 'director')
    >>> film.render({"title": "Alien"})
    'Alien.'

    Raises:
        SchemaError: a placeholder is not a plain column name, or a brace stands alone.
    """

    pattern: str

    def __post_init__(self) -> None:
        """Raise SchemaError where a placeholder is malformed."""
        for name in _PLACEHOLDER.findall(self.pattern):
            if not _NAME.fullmatch(name):
                raise SchemaError(
                    f"template {self.pattern!r}: found placeholder {{{name}}}, "
                    "expected {column} with the plain name of a column"
                )
        if "{" in (rest := _PLACEHOLDER.sub("", self.pattern)) or "}" in rest:
            raise SchemaError(f"template {self.pattern!r}: a brace without its partner")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the template names, each once, in order."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.pattern)))

    def render(self, row: Mapping[str, object]) -> str:
        """Fill the template; an empty string where no placeholder has a value."""
        parts = []
        for part in _PART.findall(self.pattern):
            names = _PLACEHOLDER.findall(part)
            values = {name: _words(row.get(name)) for name in names}
            if names and not any(values.values()):
                continue
            filled = _PLACEHOLDER.sub(lambda match, v=values: v[match.group(1)], part)  # type: ignore[misc]
            parts.append(filled)
        if self.columns and not any(_words(row.get(name)) for name in self.columns):
            return ""
        text = re.sub(r"\(\s*\)|\[\s*\]", "", "".join(parts))
        return re.sub(r"\s+([.,;])", r"\1", re.sub(r"\s{2,}", " ", text)).strip()


def _words(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124  (a missing number is NaN)
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(str(entry) for entry in value)
    return str(value)
