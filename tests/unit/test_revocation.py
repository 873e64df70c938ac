"""router.revocation: which tokens are revoked, and for how long that is remembered."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import RuleBroken
from router.revocation import (
    JTI_MAX_CHARS,
    MARGIN_S,
    Revocation,
    Revocations,
    ids_of,
    is_revoked,
    of_all,
    of_jti,
    of_token,
    of_user,
)
from router.settings import Settings

SETTINGS = Settings(token_ttl_max_s=1_000, token_leeway_s=5)
NOW_S = 100.25
LATER = 10**9


def known(*found: Revocation) -> Revocations:
    """Return what knows these."""
    revocations = Revocations()
    for one in found:
        assert revocations.add(one)
    return revocations


def test_what_was_issued_before_is_revoked_and_nothing_later() -> None:
    """Of that user; a token issued within this very second is, one of the next second is good."""
    revocations = known(of_user("alice", SETTINGS, NOW_S))
    assert [revocations.find("alice", iat, "t") is not None for iat in (0, 99, 100, 101, 102)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert revocations.find("bob", 0, "t") is None


def test_everybody_s_tokens() -> None:
    """Whoever it is."""
    revocations = known(of_all(SETTINGS, NOW_S, before=50))
    assert revocations.find("alice", 49, "") is not None
    assert revocations.find("alice", 50, "") is None


def test_one_token_is_revoked_whenever_it_was_issued() -> None:
    """By a clock ahead of this one, too; no other token is, and none that has no id."""
    revocations = known(of_jti("t1", SETTINGS, NOW_S))
    assert revocations.find("alice", LATER, "t1") is not None
    assert revocations.find("alice", 0, "t2") is None
    assert revocations.find("alice", 0, "") is None


def test_ids_do_not_meet() -> None:
    """A user may be called all, and a token like a user."""
    revocations = known(of_user("all", SETTINGS, NOW_S), of_jti("user:bob", SETTINGS, NOW_S))
    assert revocations.find("bob", 0, "x") is None
    assert revocations.find("carol", 0, "all") is None
    assert revocations.find("all", 0, "") is not None


def test_the_later_time_counts() -> None:
    """In whatever order they are heard; hearing again what is known is no news."""
    early, late = of_user("alice", SETTINGS, NOW_S, 50), of_user("alice", SETTINGS, NOW_S, 80)
    revocations = known(early)
    assert revocations.add(late)
    assert not revocations.add(early)
    assert not revocations.add(late)
    assert revocations.find("alice", 79, "") is not None
    assert len(revocations) == 1


def test_a_token_that_is_revoked_twice_is_no_news() -> None:
    """Its sessions have been closed."""
    revocations = known(of_jti("t1", SETTINGS, NOW_S))
    assert not revocations.add(of_jti("t1", SETTINGS, NOW_S + 10))


def test_it_is_kept_for_as_long_as_a_token_can_live() -> None:
    """What auth gives at most, or this token's own end; the leeway and what clocks differ by on top."""
    margin = 5 + MARGIN_S
    assert of_user("alice", SETTINGS, NOW_S, 3).expires_at == 101 + 1_000 + margin
    assert of_token("t1", "alice", 500, SETTINGS, NOW_S).expires_at == 500 + margin
    foreign = SETTINGS.model_copy(update={"auth_by": "jwt", "revocation_keep_s": 9_000})
    assert of_all(foreign, NOW_S).expires_at == 101 + 9_000 + margin
    assert of_token("t1", "alice", 253_402_300_799, foreign, NOW_S).expires_at == 253_402_300_799


def test_what_is_over_is_forgotten() -> None:
    """And nothing else; an end that is told later counts."""
    first = Revocation("user:alice", 10, 100)
    revocations = known(first, Revocation("user:bob", 10, 200))
    revocations.drop_over(99)
    assert len(revocations) == 2
    revocations.add(Revocation("user:alice", 5, 300))
    revocations.drop_over(250)
    assert revocations.find("alice", 9, "") is not None
    assert revocations.find("bob", 9, "") is None


@pytest.mark.parametrize("before", [102, LATER, -1])
def test_a_time_in_the_future_is_refused(before: int) -> None:
    """It would keep out those who log in anew; and a time before all time is a mistake."""
    with pytest.raises(RuleBroken, match=r"^before: "):
        of_user("alice", SETTINGS, NOW_S, before)


@pytest.mark.parametrize("jti", ["", "x" * (JTI_MAX_CHARS + 1), "a\nb", "\ud800"])
def test_ids_of_tokens_that_cannot_be_revoked(jti: str) -> None:
    """There is none, or it would not fit where it is kept."""
    with pytest.raises(RuleBroken, match=r"^jti: "):
        of_jti(jti, SETTINGS, NOW_S)


def test_whose_it_is() -> None:
    """Known of a user's, and of a token where somebody said it; else it may be anybody."""
    assert of_user("a:b", SETTINGS, NOW_S).whose == "a:b"
    assert of_token("t", "alice", 500, SETTINGS, NOW_S).whose == "alice"
    assert [of_jti("user:x", SETTINGS, NOW_S).whose, of_all(SETTINGS, NOW_S).whose] == ["", ""]


@given(
    st.lists(
        st.builds(
            Revocation,
            st.sampled_from(["all", "user:a", "user:b", "jti:t", "jti:u"]),
            st.integers(0, 5),
            st.just(LATER),
            st.sampled_from(["", "a"]),
        )
    ),
    st.sampled_from("abc"),
    st.integers(0, 5),
    st.sampled_from(["", "t", "u", "v"]),
)
def test_the_list_says_what_its_entries_say(found: list[Revocation], user: str, iat: int, jti: str) -> None:
    """In memory, and of the documents that stand, which auth asks; and it is told on the wire as it is."""
    revocations = Revocations()
    for one in found:
        revocations.add(msgspec.json.decode(msgspec.json.encode(one), type=Revocation))
    named = [one for one in found if one.id in ids_of(user, jti)]
    assert (revocations.find(user, iat, jti) is not None) == is_revoked(named, iat)
