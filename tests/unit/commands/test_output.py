"""router.commands.output: what stands on a person's screen."""

from __future__ import annotations

import pytest

from router.commands.output import duration, print_columns, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("häuser 🙂", "häuser 🙂"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb", r"a\nb"),
        ("\u202etxt", r"\u202etxt"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, shown: str) -> None:
    """Escape sequences, line ends and direction marks are shown, not obeyed."""
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0s"), (119, "119s"), (120, "2m"), (7_199, "120m"), (7_200, "2h"), (172_800, "2d")]
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    """Two of a unit make it the unit."""
    assert duration(seconds) == shown


def test_columns_are_as_wide_as_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns line up, and no line ends in spaces."""
    print_columns(("A", "LONG"), [("wide cell", "x"), ("y", "z\n")])
    assert capsys.readouterr().out == "A          LONG\nwide cell  x\ny          z\\n\n"
