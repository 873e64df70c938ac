"""docs/logs.md and the code name the same events, with the same levels and keys."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "logs.md"

LEVELS: Final = {name: name for name in ("debug", "info", "warning", "error", "critical")} | {
    "exception": "error",
    "log": "any",
}
LOGGERS: Final = {"log", "_log"}


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a logger, with where it stands."""
    for path in (path for package in ("router", "edge") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                logger = node.func.value
                name = logger.id if isinstance(logger, ast.Name) else logger.attr if isinstance(logger, ast.Attribute) else ""
                if name in LOGGERS:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def _event(call: ast.Call) -> str:
    """Return the event of a call: its first text."""
    return next((each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)), "")


def _in_code() -> dict[str, tuple[str, frozenset[str]]]:
    """Return event → level and keys, as the code has them."""
    levels: dict[str, str] = {}
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for _, call in _calls():
        assert isinstance(call.func, ast.Attribute)
        levels[_event(call)] = LEVELS[call.func.attr]
        keys[_event(call)] |= {keyword.arg for keyword in call.keywords if keyword.arg}
    return {event: (level, frozenset(keys[event])) for event, level in levels.items()}


def _on_page() -> dict[str, tuple[str, frozenset[str]]]:
    """Return event → level and keys, as the page has them."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\| [^|]+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {event: (level, frozenset(re.findall(r"`(\w+)`", keys))) for event, level, keys in rows}


def test_the_page_has_every_event_and_no_other() -> None:
    """A new event, level or key needs its row in docs/logs.md; one that is gone takes its row with it."""
    assert _on_page() == _in_code()


def test_the_page_is_in_order() -> None:
    """Somebody looks an event up by its name."""
    assert list(_on_page()) == sorted(_on_page())


def test_every_event_is_a_fact_of_its_own_words() -> None:
    """A literal in snake_case, so that it can be found in the code and looked up; what varies is a key."""
    strange = [where for where, call in _calls() if not re.fullmatch(r"[a-z]+(_[a-z]+)*", _event(call))]
    assert strange == []
