"""One line an event, as text or as JSON."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from proxy.worker import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves the proxy's logger as it was."""
    root = logging.getLogger("proxy")
    before = root.handlers[:], root.level, root.propagate
    yield
    root.handlers[:], root.level, root.propagate = before[0], before[1], before[2]


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    log = logging.getLogger("proxy.backends.shared")
    log.info("backend lost shard=%s", "s1")
    log.debug("not shown")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO backend lost shard=s1\n", captured.err)


def test_json_for_collectors(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    log = logging.getLogger("proxy.backends.shared")
    log.warning("first line\nsecond %s", "é")
    log.info("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time"))
    assert event == {"level": "warning", "logger": "proxy.backends.shared", "message": "first line\nsecond é"}


def test_a_worker_names_itself(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text", 3)
    logging.getLogger("proxy").info("serving")
    logs.configure("info", "json", 0)
    logging.getLogger("proxy").info("serving")
    text, event = capsys.readouterr().err.splitlines()
    assert text.endswith(" INFO worker=3 serving")
    assert json.loads(event)["worker"] == 0


def test_an_exception_stays_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError("no\nway")
    except ValueError:
        logging.getLogger("proxy").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event["message"] == "failed"
    assert event["exception"].endswith("ValueError: no\nway")


def test_the_time_is_utc_with_its_own_milliseconds() -> None:
    record = logging.LogRecord("proxy", logging.INFO, __file__, 1, "x", (), None)
    record.created, record.msecs = 1700000000.007, 7.0
    assert json.loads(logs.JsonFormatter().format(record))["time"] == "2023-11-14T22:13:20.007Z"


def test_configured_again_it_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.configure("info", "text")
    logging.getLogger("proxy").info("once")
    assert capsys.readouterr().err.count("once") == 1
    assert not logging.getLogger("proxy").propagate
