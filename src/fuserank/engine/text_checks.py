"""What an encoder accepts as texts."""

from collections.abc import Sequence

from fuserank.errors import RequestError

__all__ = ["check_texts"]


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is no list of texts; the message says where, and never what.

    Raises:
        RequestError: a text is blank, not a string or not valid Unicode.
    """
    if isinstance(texts, str):
        raise RequestError("texts: found one string, expected a list of strings", field="texts")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise RequestError(
                f"texts[{index}]: found {type(text).__name__}, expected a string", field="texts"
            )
        if not text or text.isspace():
            raise RequestError(f"texts[{index}]: found a blank text; leave it out", field="texts")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"texts[{index}]: found a lone surrogate at position {error.start}, expected "
                "valid Unicode",
                field="texts",
            ) from None
