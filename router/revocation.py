"""What is revoked, and which tokens that concerns. Pure.

A revocation is known by its id:

    all           tokens of everybody that were issued before a time
    user:<id>     tokens of one user that were issued before a time
    jti:<jti>     one token, whenever it was issued

Issued is what the token says (`iat`, whole seconds of its issuer's clock); one that does not say it was issued at 0. It is
revoked where `iat < before`. So that one which is issued a moment later is good, `before` is the second that begins next, and
who revokes waits until it has (`router.revoke`). Times only grow: of two revocations of one id the later counts.

A revocation is kept until the longest token that it can concern is over. Then there is nothing left for it to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from router.errors import RuleBroken
from router.settings import Settings

ALL: Final = "all"
_USER: Final = "user:"
_JTI: Final = "jti:"

JTI_MAX_CHARS: Final = 256
"""Longest id of a token that can be revoked by it: a uuid has 36."""

MARGIN_S: Final = 60
"""How much longer a revocation is kept: the clocks of those who check tokens and of who removes revocations differ."""

_EXPIRES_MAX_S: Final = 253_402_300_799
"""The end of the year 9999, the last that a date in MongoDB's driver can say."""

_NOT_PLAIN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Revocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens that are good no more.

    Attributes:
        id: which, as above.
        before: Unix seconds; those issued before it.
        expires_at: Unix seconds; no token that it concerns lives longer.
        user: of one token, whose it is, if that is known. It spares whoever hears of it a search.
    """

    id: str
    before: int
    expires_at: int
    user: str = ""

    @property
    def of_one_token(self) -> bool:
        """Whether it is about one token: its bearer may come back with another."""
        return self.id.startswith(_JTI)

    @property
    def whose(self) -> str:
        """The user that it concerns; "" where it may be anybody."""
        return self.id.removeprefix(_USER) if self.id.startswith(_USER) else self.user

    def concerns(self, iat: int) -> bool:
        """Tell whether it concerns a token that was issued then, and that it names."""
        return iat < self.before or self.of_one_token


def ids_of(user: str, jti: str) -> tuple[str, ...]:
    """Return the ids of all revocations that name a token; a jti of "" is none."""
    return (ALL, _USER + user, _JTI + jti) if jti else (ALL, _USER + user)


def is_revoked(found: Iterable[Revocation], iat: int) -> bool:
    """Tell whether a token that was issued then is revoked by any of those that name it."""
    return any(one.concerns(iat) for one in found)


class Revocations:
    """Those that are known."""

    def __init__(self) -> None:
        self._known: dict[str, Revocation] = {}

    def __len__(self) -> int:
        return len(self._known)

    def add(self, one: Revocation) -> bool:
        """Take one in; tell whether it concerns anything that those before it do not."""
        had = self._known.get(one.id)
        if had is None:
            self._known[one.id] = one
            return True
        later = one.before > had.before
        if later or one.expires_at > had.expires_at:
            self._known[one.id] = Revocation(one.id, max(one.before, had.before), max(one.expires_at, had.expires_at))
        return later and not one.of_one_token

    def find(self, user: str, iat: int, jti: str) -> Revocation | None:
        """Return a revocation of a token, None of one that is good."""
        known = self._known
        if not known:
            return None
        named = (known.get(ident) for ident in ids_of(user, jti))
        return next((one for one in named if one is not None and one.concerns(iat)), None)

    def drop_over(self, now_s: float) -> None:
        """Forget those that concern no token any more."""
        for ident in [ident for ident, one in self._known.items() if one.expires_at <= now_s]:
            del self._known[ident]


# -- making one ------------------------------------------------------------------------------------------------------


def of_all(settings: Settings, now_s: float, before: int | None = None) -> Revocation:
    """Return the revocation of everybody's tokens issued before a time in Unix seconds; None is now.

    Raises:
        RuleBroken: when that is in the future.
    """
    return _of_many(ALL, settings, now_s, before)


def of_user(user: str, settings: Settings, now_s: float, before: int | None = None) -> Revocation:
    """Return the revocation of a user's tokens, the user's id being checked; else as `of_all`."""
    return _of_many(_USER + user, settings, now_s, before)


def of_jti(jti: str, settings: Settings, now_s: float) -> Revocation:
    """Return the revocation of the token with that id, of which nothing else is known.

    Raises:
        RuleBroken: when it is no such id.
    """
    before = _now(now_s)
    return Revocation(_JTI + _checked_jti(jti), before, _kept_until(before + _life_s(settings), settings))


def of_token(jti: str, user: str, expires_at: int, settings: Settings, now_s: float) -> Revocation:
    """Return the revocation of a token that says all this.

    Raises:
        RuleBroken: when it has no id, or none that can be revoked.
    """
    return Revocation(_JTI + _checked_jti(jti), _now(now_s), _kept_until(expires_at, settings), user)


def _of_many(ident: str, settings: Settings, now_s: float, before: int | None) -> Revocation:
    before = _now(now_s) if before is None else before
    if before > _now(now_s):
        raise RuleBroken("before", f"{before} is in the future: what will be issued cannot be revoked")
    if before < 0:
        raise RuleBroken("before", f"{before} is not a time in Unix seconds")
    # Not from `before` on: a token of that time may just have begun, by another clock.
    return Revocation(ident, before, _kept_until(_now(now_s) + _life_s(settings), settings))


def _now(now_s: float) -> int:
    """Return the second that begins next."""
    return int(now_s) + 1


def _life_s(settings: Settings) -> int:
    """Return how long a token may live: what auth gives at most, or what is said of another issuer's."""
    return int(settings.token_ttl_max_s if settings.auth_by == "pushway" else settings.revocation_keep_s)


def _kept_until(expires_at: int, settings: Settings) -> int:
    return min(expires_at + settings.token_leeway_s + MARGIN_S, _EXPIRES_MAX_S)


def _checked_jti(jti: str) -> str:
    if not jti:
        raise RuleBroken("jti", "the token has no id (jti), so it cannot be told from others: revoke its user")
    if len(jti) > JTI_MAX_CHARS or _NOT_PLAIN.search(jti):
        raise RuleBroken("jti", f"the id of a token has 1 to {JTI_MAX_CHARS} characters, none of them a control character")
    return jti
