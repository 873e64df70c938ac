"""router.logs: one line a fact, and nothing secret in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from router import logs
from router.settings import Settings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is global: give it back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def _configure(**values: object) -> None:
    logs.configure(Settings.model_validate(values), "edge")


def test_json_line_carries_fact_service_level_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON line is one object with event, service, level, timestamp and the ids given."""
    _configure(log_format="json")
    structlog.get_logger().info("route_dropped", node="edge-1.k3f9")
    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "route_dropped", "node": "edge-1.k3f9", "service": "edge", "level": "info"}


def test_console_line_is_plain_text_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Into a file or pipe the console format writes no escape sequences."""
    _configure()
    structlog.get_logger().info("route_dropped", node="edge-1.k3f9")
    text = capsys.readouterr().err
    assert "route_dropped" in text
    assert "\x1b" not in text


def test_lower_levels_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """A line below log_level is not written."""
    _configure(log_level="warning")
    structlog.get_logger().info("route_dropped")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_libraries_are_heard_from_warning_on(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A library's INFO is dropped; its WARNING is one line in our form, with service and logger."""
    _configure(log_format=form)
    library = logging.getLogger("httpx")
    library.info("GET /secret")
    library.warning("pool %s", "exhausted")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    for part in ("pool exhausted", "httpx", "edge"):
        assert part in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_traceback_shows_no_local_variables(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback names files and lines, never the values that were in hand."""
    _configure(log_format=form)
    api_key = "s3cr" + "et-in-a-local"
    try:
        _ = [][len(api_key)]
    except IndexError:
        structlog.get_logger().exception("service_crashed")
    text = capsys.readouterr().err
    assert "IndexError" in text
    assert api_key not in text
