"""What a verdict looks like: tables for people, JSON for programs, and a picture that a browser can show."""

from __future__ import annotations

import json
from io import StringIO
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.chaos.checker import check
from tests.chaos.history import (
    Accepted,
    Appended,
    Began,
    Came,
    Event,
    FaultBegan,
    FaultEnded,
    Got,
    History,
    Joined,
    Opened,
)
from tests.chaos.report import as_json, minutes_text, tables
from tests.chaos.series import behind, connected, deliveries
from tests.chaos.timeline import draw

TARGET, PHONE = "user:ann", "ann/phone"
ACCEPTED = [Accepted(TARGET, 11, "m11", 0.0), Accepted(TARGET, 12, "<m&12>", 0.0)]


@pytest.fixture
def history() -> History:
    """Return a run in which one edge was killed, one message came late, and another never."""
    events: list[Event] = [
        Joined(0.0, PHONE, "client"),
        Came(0.0, PHONE),
        Began(0.0, PHONE, TARGET, 0),
        Opened(0.1, PHONE, "s", "edge-1.x", None, None),
        FaultBegan(1.0, "1 kill edge-1", "kill-edge", "edge-1", ""),
        Appended(1.5, "p", "m11", TARGET, "1-0"),
        Appended(1.6, "p", "<m&12>", TARGET, "2-0"),
        FaultEnded(3.0, "1 kill edge-1"),
        Got(4.0, PHONE, 11, "m11", TARGET),
    ]
    return History.of_events(events)


def test_tables(history: History) -> None:
    """The tables tell how long a fault was felt, and what is wrong, whatever is in an id."""
    file = StringIO()
    Console(width=140, file=file).print(tables(check(history, ACCEPTED)))
    text = file.getvalue()
    assert "kill-edge" in text
    assert "3.00 s" in text
    assert "<m&12>" in text


def test_json(history: History) -> None:
    """The JSON has every kind of wrong, found or not, and every fault."""
    report = json.loads(json.dumps(as_json(check(history, ACCEPTED))))
    assert report["green"] is False
    assert report["counts"]["lost"] == 1
    assert report["counts"]["gap"] == 0
    assert report["faults"][0]["max_s"] == 3.0
    assert report["felt"][0]["max_after_s"] == 1.0


def test_picture(history: History) -> None:
    """The picture is well-formed, says what is wrong, and has a row for each process that something was done to."""
    root = ElementTree.fromstring(draw(history, check(history, ACCEPTED), "seed 7 & 2 minutes"))  # noqa: S314 - it is ours
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"edge-1", "lost: 1", "Pushway under fire: seed 7 & 2 minutes"} <= texts


def test_empty_picture() -> None:
    """A run in which nothing happened can be drawn."""
    history = History.of_events([])
    assert draw(history, check(history, []), "nothing").startswith("<svg")


def test_series(history: History) -> None:
    """Deliveries are counted in their second, devices for as long as they are connected, or behind."""
    assert deliveries(history, 4.0, 1.0) == [0, 0, 0, 0, 1]
    assert connected(history, 4.0, 1.0) == [1, 1, 1, 1, 1]
    assert behind({PHONE: [(1.5, 3.2)]}, 4.0, 1.0) == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(("minutes", "text"), [(1.0, "1 minute"), (2.0, "2 minutes"), (0.1, "0.1 minutes")])
def test_minutes_are_said_as_people_do(minutes: float, text: str) -> None:
    """One of them is one."""
    assert minutes_text(minutes) == text
