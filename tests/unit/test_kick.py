"""router.kick: what a back end may choose."""

from __future__ import annotations

import pytest

from router.errors import RuleBroken
from router.kick import Kick, check_kick


@pytest.mark.parametrize(
    ("field", "kick"),
    [
        ("code", Kick("a", 3999, "")),
        ("code", Kick("a", 5000, "")),
        ("code", Kick("a", 1000, "")),
        ("reason", Kick("a", 4502, "ü" * 62)),
        ("reason", Kick("a", 4502, "two\nlines")),
        ("reason", Kick("a", 4502, "\x85")),
        ("reason", Kick("a", 4502, "\udcff")),
        ("user", Kick("a b", 4502, "")),
        ("device", Kick("a", 4502, "", device="")),
        ("session", Kick("a", 4502, "", session="a,b")),
    ],
)
def test_what_breaks_a_rule_is_named(field: str, kick: Kick) -> None:
    """Before anybody is told."""
    with pytest.raises(RuleBroken) as caught:
        check_kick(kick)
    assert caught.value.field == field


def test_what_a_close_frame_holds_is_taken() -> None:
    """123 bytes, emoji included."""
    check_kick(Kick("a", 4502, "🙂" * 30 + "abc", device="phone", session="s"))
