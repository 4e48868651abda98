"""Reading a TOML file that a person wrote."""

import tomllib
from pathlib import Path
from typing import Any

from fuserank.errors import FuserankError

__all__ = ["read_toml"]


def read_toml(path: Path, expected: str, error_type: type[FuserankError]) -> dict[str, Any]:
    """Return what a TOML file holds.

    Args:
        path: the file.
        expected: what the file is, for errors.
        error_type: of the error that is raised where it is missing or malformed.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error_type(f"{path}: found no such file, expected {expected}") from None
    except UnicodeDecodeError:
        raise error_type(f"{path}: found bytes that are not UTF-8; save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, OSError) as error:
        raise error_type(f"{path}: expected a TOML file, found: {error}") from error
