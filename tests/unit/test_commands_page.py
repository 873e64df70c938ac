"""docs/commands.md: every command is on it, and what it shows can be typed."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from router.commands import COMMANDS
from router.doctor.examination import GROUPS

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")

TYPED: Final = sorted(set(re.findall(r"^\$ (pushway [^\n]+)$|`(pushway (?!<)[a-z]+ [^`]+)`", PAGE, re.MULTILINE)))


def _command(words: list[str]) -> Any:  # noqa: ANN401 - click's commands
    """Return the command that these words begin with, its options included."""
    module, function, _ = COMMANDS[words[0]]
    group = getattr(import_module(f"router.commands.{module}"), "app", None)
    if group is not None:
        return typer.main.get_command(group).commands[words[1]]  # type: ignore[attr-defined]
    single = typer.Typer(add_completion=False)
    single.command()(getattr(import_module(f"router.commands.{module}"), function))
    return typer.main.get_command(single)


def test_readme_links_it() -> None:
    """Whoever looks for a command finds them all."""
    assert "(docs/commands.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_has_a_section() -> None:
    """And no section is of a command that there is not."""
    sections = [name for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE) for name in heading.split(", ")]
    assert sorted(sections) == sorted(COMMANDS)


@pytest.mark.parametrize("line", [found for pair in TYPED for found in pair if found])
def test_what_it_shows_can_be_typed(line: str) -> None:
    """Each line is taken by the command's own parser."""
    _, *words = shlex.split(line)
    command = _command(words)
    arguments = words[2 if words[0] in {"dead", "keys"} else 1 :]
    command.make_context(command.name or "", arguments, resilient_parsing=False)


def test_every_group_of_the_doctor_is_explained() -> None:
    """In the table, in the order in which they are told."""
    rows = re.findall(r"^\| (\w+) \| ", PAGE.partition("| group | asks |")[2], re.MULTILINE)
    assert rows == list(GROUPS)
