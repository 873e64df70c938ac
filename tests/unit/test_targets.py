"""router.targets: which ids and targets are allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import RuleBroken
from router.targets import check_id, check_target, target_id

GOOD_IDS = ["a", "0", "alice", "a:b:c", "müller", "用户", "a/b", "a|b", "'", "-", "*", "x" * 128, "ü" * 128, "😀", "user:x"]
BAD_IDS = ["", "x" * 129, "a b", "a\tb", "a\n", "a,b", "a{b", "a}b", 'a"b', "a\\b", "\x00", "a\x7fb", "a\x85b", "a\u00a0b"]
BAD_IDS += ["a\u2028b", "a\u3000b", "\x1f", "a\x9fb", "a\ud800", "\udfffa"]


@pytest.mark.parametrize("ident", GOOD_IDS)
def test_good_id_comes_back_unchanged(ident: str) -> None:
    """An id is never escaped or folded."""
    assert check_id(ident, "id") == ident


@pytest.mark.parametrize("ident", BAD_IDS, ids=ascii)
def test_bad_id_is_refused(ident: str) -> None:
    """The error names the field and the rule."""
    with pytest.raises(RuleBroken, match=r"^id: .*is not an id") as caught:
        check_id(ident, "id")
    assert caught.value.field == "id"


@pytest.mark.parametrize("ident", GOOD_IDS)
def test_good_targets(ident: str) -> None:
    """Users and topics of any good id, and all."""
    for target in (f"user:{ident}", f"topic:{ident}"):
        assert check_target(target) == target
        assert target_id(target) == ident
    assert target_id(check_target("all")) == "all"


@pytest.mark.parametrize(
    "target", ["", "alice", "user", "user:", "topic:", "all:", "all:x", "All", "USER:a", "users:a", " user:a"]
)
def test_bad_targets(target: str) -> None:
    """Whatever is none of the three forms is refused, naming the field."""
    with pytest.raises(RuleBroken, match=r"^to: "):
        check_target(target)


@pytest.mark.parametrize("ident", BAD_IDS, ids=ascii)
def test_target_of_a_bad_id_is_refused(ident: str) -> None:
    """A target is as strict as an id."""
    with pytest.raises(RuleBroken):
        check_target(f"user:{ident}")


@given(st.text(max_size=140))
def test_checked_id_stands_anywhere_as_it_is(ident: str) -> None:
    """What passes is one word, breaks no line, ends no JSON string, and has no hash tag."""
    try:
        check_id(ident, "id")
    except RuleBroken:
        return
    assert ident.split() == [ident]
    assert ident.splitlines() == [ident]
    assert not set(ident) & set(',{}"\\')
    assert ident.isprintable() or all(ord(char) >= 0xA0 for char in ident if not char.isprintable())
