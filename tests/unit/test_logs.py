"""router.logs: one line a fact, and nothing secret in it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

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
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def _configure(**values: object) -> logs.Logs:
    return logs.configure(Settings.model_validate(values), "edge")


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


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


def test_level_changes_reach_loggers_that_live(capsys: pytest.CaptureFixture[str]) -> None:
    """A step down lets debug through, also for a logger bound before; back as set, it is silent again. Both are told."""
    control = _configure(log_format="json")
    bound = structlog.get_logger().bind(shard=0)
    bound.debug("before")
    control.say_more()
    bound.debug("during")
    control.say_as_set()
    bound.debug("after")
    assert [line["event"] for line in _lines(capsys)] == ["log_level_changed", "during", "log_level_changed"]


def test_more_than_all_is_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Below debug there is nothing, and asking again does no harm; each change is seen even by who hears errors only."""
    control = _configure(log_format="json", log_level="error")
    for _ in range(4):
        control.say_more()
    control.say_as_set()
    assert [line["to"] for line in _lines(capsys)] == ["warning", "info", "debug", "debug", "error"]


def test_libraries_stay_as_they_are_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    """What MongoDB's driver tells at DEBUG is every document it sends."""
    _configure(log_format="json", log_level="debug").say_more()
    capsys.readouterr()
    logging.getLogger("pymongo.command").debug("insert %s", {"frame": "hello"})
    assert _lines(capsys) == []


def test_repeated_lines_are_counted_and_the_number_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Of one kind so many lines, then one with the number of the others, the place and the level."""
    control = _configure(log_format="json", log_repeats_max=2)
    for user in range(50):
        structlog.get_logger().error("route_refused", user=str(user), shard=3)
    structlog.get_logger().error("route_refused", user="one", shard=4)
    control.tell_suppressed(at_end=True)
    *lines, last = _lines(capsys)
    assert [line["user"] for line in lines] == ["0", "1", "one"]
    assert {key: last[key] for key in ("event", "of", "shard", "count", "level")} == {
        "event": "lines_suppressed",
        "of": "route_refused",
        "shard": "3",
        "count": 48,
        "level": "error",
    }


def test_a_library_that_repeats_itself_is_counted_by_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Another text every time is the same kind, because it comes from the same line of code."""
    control = _configure(log_format="json", log_repeats_max=1)
    for request in range(10):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request %s", request)
    control.tell_suppressed(at_end=True)
    first, last = _lines(capsys)
    assert (first["event"], first["logger"]) == ("Invalid HTTP request 0", "uvicorn.error")
    assert (last["of"], last["count"]) == ("uvicorn.error", 9)


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_redacted_whoever_logs_them(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In our lines, a library's, their tracebacks and Python's warnings."""
    _configure(log_format=form, api_key="canary-key", redis_url="redis://:canary-pass@127.0.0.1/0")
    try:
        raise ConnectionError("redis://:canary-pass@127.0.0.1/0 said canary-key")  # noqa: TRY301 - it is to be caught here
    except ConnectionError:
        structlog.get_logger().exception("service_crashed", url="redis://:canary-pass@127.0.0.1/0")
        logging.getLogger("redis").exception("lost %s", "canary-pass")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("canary-key is deprecated", stacklevel=1)
    text = capsys.readouterr().err
    assert text.count("ConnectionError: redis://***@127.0.0.1/0 said ***") == 2
    assert "py.warnings" in text
    assert "canary" not in text


def test_a_warning_of_python_is_a_line_like_others(capsys: pytest.CaptureFixture[str]) -> None:
    """Not two bare lines among JSON."""
    _configure(log_format="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = _lines(capsys)
    assert line["logger"] == "py.warnings"


@pytest.mark.parametrize("library", ["uvicorn", "uvicorn.error", "uvicorn.access", "websockets.server", "httpx", "asyncio"])
def test_a_token_in_an_address_is_redacted_in_every_log(
    library: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever library tells of a request, in its text or among its arguments; ours never do."""
    _configure(log_format="json")
    # A server that ran in this process before may have silenced it.
    monkeypatch.setattr(logging.getLogger(library), "propagate", True)
    for address in ("/v1/connect?token=canary", "/v1/connect?since=1&token=canary-1.2_3~&x=1", "/?to=%2F%3Ftoken%3Dcanary"):
        logging.getLogger(library).warning("GET %s HTTP/1.1", address)
        logging.getLogger(library).error("cannot read %r", address)
    text = capsys.readouterr().err
    assert text.count("***") == 6
    assert "canary" not in text
