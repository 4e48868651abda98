"""The folder from which a server loads bundles: a name means a directory in it, no more."""

from pathlib import Path

from fuserank.errors import BundleError, RequestError

__all__ = ["check_name", "directory_of"]

_MAX_CHARS = 255
_MAX_QUOTED_CHARS = 100


def check_name(name: str) -> None:
    """Raise RequestError unless a name is that of one entry of a folder, and not a hidden one."""
    if not name or name.startswith(".") or len(name) > _MAX_CHARS or {*name} & {*"/\\:\0"}:
        raise RequestError(
            f"name: found {name[:_MAX_QUOTED_CHARS]!r}, expected the name of a directory in the "
            "server's folder of bundles, without slashes, colons or a dot in front",
            field="name",
        )


def directory_of(folder: Path, name: str) -> Path:
    """Return the directory of that name, links followed; they must not lead out of the folder.

    Raises:
        RequestError: a link that leads out of it.
        BundleError: the folder cannot be read.
    """
    try:
        root = folder.resolve(strict=True)
        found = (root / name).resolve()
    except (OSError, RuntimeError) as error:  # the latter: links in a circle
        raise BundleError(f"{folder}: the folder of bundles cannot be read: {error}") from error
    if root not in found.parents:
        raise RequestError(
            f"name: found {name!r}, a link to something that is not in the server's folder of "
            "bundles; copy the bundle into it",
            field="name",
        )
    return found
