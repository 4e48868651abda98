"""What the log looks like; the command line sets it up, libraries never do."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import IO

__all__ = ["JsonFormatter", "LogFormat", "log_to", "request_id"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the call that is being answered; every line that is logged meanwhile has it."""


class LogFormat(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and request_id, error if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if found := request_id.get():
            fields["request_id"] = found
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    """Time, level, message, and the request's id where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if not (found := request_id.get()):
            return line
        first, *rest = line.split("\n", 1)
        return "\n".join([f"{first} [{found}]", *rest])


@contextmanager
def log_to(form: LogFormat, stream: IO[str] | None = None) -> Iterator[None]:
    """Write all that is logged in a form, to stderr unless told otherwise, while the block runs."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if form is LogFormat.JSON
        else _TextFormatter("%(asctime)s %(levelname)s %(message)s")
    )
    root, ours = logging.getLogger(), logging.getLogger("fuserank")
    handlers, level = root.handlers[:], ours.level
    root.handlers[:] = [handler]
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        ours.setLevel(level)
