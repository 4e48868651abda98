import io
import json
import logging
from datetime import UTC, datetime

import pytest

from fuserank.server.monitoring.logs import LogFormat, log_to, request_id

logger = logging.getLogger("fuserank.server.some")


def logged(form, log):
    stream = io.StringIO()
    with log_to(form, stream):
        log()
    return stream.getvalue()


def test_a_line_is_one_json_object():
    before = datetime.now(UTC)
    line = logged(LogFormat.JSON, lambda: logger.warning("took %d s\nand\t%s", 3, "é"))
    assert line.count("\n") == 1
    found = json.loads(line)
    assert found | {"time": None} == {
        "time": None,
        "level": "WARNING",
        "logger": "fuserank.server.some",
        "message": "took 3 s\nand\té",
    }
    time = datetime.fromisoformat(found["time"])
    assert abs(time - before).total_seconds() < 60
    assert time.utcoffset().total_seconds() == 0


@pytest.mark.parametrize("form", LogFormat)
def test_a_request_is_named_while_it_is_answered(form):
    def log():
        logger.info("before")
        token = request_id.set("r-1")
        logger.info("meanwhile")
        request_id.reset(token)
        logger.info("after")

    before, meanwhile, after = logged(form, log).splitlines()
    assert "r-1" in meanwhile
    assert "r-1" not in before + after
    if form is LogFormat.JSON:
        assert json.loads(meanwhile)["request_id"] == "r-1"
        assert "request_id" not in json.loads(before)


@pytest.mark.parametrize("form", LogFormat)
def test_a_traceback_comes_along(form):
    def log():
        try:
            raise KeyError("k")
        except KeyError:
            logger.exception("failed")

    text = logged(form, log)
    assert "Traceback (most recent call last)" in text
    assert text.count("failed") == 1
    if form is LogFormat.JSON:
        assert json.loads(text)["error"].endswith("KeyError: 'k'")


def test_what_is_below_the_level_is_left_out():
    def log():
        logger.debug("no")
        logging.getLogger("elsewhere").info("no")
        logger.info("yes")
        logging.getLogger("elsewhere").warning("yes")

    lines = logged(LogFormat.TEXT, log).splitlines()
    assert len(lines) == 2
    assert all(line.endswith(" yes") for line in lines)


def test_the_log_is_as_before_afterwards():
    root = logging.getLogger()
    handlers = list(root.handlers)
    logged(LogFormat.JSON, lambda: None)
    assert root.handlers == handlers


def test_importing_the_library_adds_no_handler():
    import fuserank.server.main  # noqa: F401 - what is imported is what is looked at

    ours = [name for name in logging.root.manager.loggerDict if name.startswith("fuserank")]
    assert ours
    assert all(not logging.getLogger(name).handlers for name in ours)
