"""The life of a session's token: how long it holds, when the client is told, and what newer ones wait to be checked.

    begin ──▶ quiet ── overdue ──▶ `expiring` ── overdue ──▶ over
                ▲                      │
                └──────── extend ◀─────┘ at any time

A newer token is checked one at a time, for each check costs something; of those that come meanwhile, the last one counts.
Whatever becomes of that, the token before holds until its own end.

Pure; part of `edge.session`, which says whether there is a session to go on.
"""

from __future__ import annotations

import math

from edge.actions import Actions, Await, Verify, tell
from edge.frames import Error, Expiring
from edge.term import Term, first_term, in_frame, next_term
from router.auth.tokens import TOKEN_MAX_CHARS


class TokenLife:
    """What a session's token still allows.

    Args:
        notice_s: how long before the end a client is told.

    Attributes:
        iat: when the token that holds was issued, Unix seconds.
        jti: its id; "" where it has none.
    """

    __slots__ = ("_ends_in_s", "_newer", "_notice_s", "iat", "jti")

    def __init__(self, notice_s: float) -> None:
        self._notice_s = notice_s
        self.iat = 0
        self.jti = ""
        # Until it begins, how long the token is good; from then on, how much of that is left when the present wait is over.
        self._ends_in_s = math.inf
        # A token to be asked about when the question about another is over; "" while there is none, None without a question.
        self._newer: str | None = None

    def is_of(self, iat: int, jti: str) -> None:
        """Remember which token holds from now on: it may be revoked."""
        self.iat, self.jti = iat, jti

    # -- how long it holds -------------------------------------------------------------------------------------------

    def good_for(self, valid_s: float) -> None:
        """The first token is good for so long."""
        self._ends_in_s = valid_s

    def begin(self) -> tuple[Await, tuple[Expiring, ...]]:
        """Return what is to be waited for, and what the client is told now: that the end is near, if it is."""
        return self._last(first_term(self._ends_in_s, self._notice_s))

    def extend(self, valid_s: float) -> tuple[Await, tuple[Expiring, ...]]:
        """A newer token is good for so long; return the same as `begin`."""
        return self._last(next_term(valid_s, self._notice_s))

    def overdue(self, late_s: float) -> Actions:
        """The wait is over, and has been for so long; nothing is returned where the token is, too."""
        left_s = self._ends_in_s - late_s
        if left_s <= 0:
            return ()
        wait, notice = self._last(Term(0.0, left_s))
        return wait, *map(tell, notice)

    def _last(self, term: Term) -> tuple[Await, tuple[Expiring, ...]]:
        if term.quiet_s > 0:
            self._ends_in_s = term.notice_s
            return Await(term.quiet_s), ()
        self._ends_in_s = 0.0
        return Await(term.notice_s), (Expiring(in_frame(term.notice_s)),)

    # -- newer ones --------------------------------------------------------------------------------------------------

    @property
    def is_asked(self) -> bool:
        """Whether a newer token is being checked."""
        return self._newer is not None

    def renew(self, token: str) -> Actions:
        """Have a newer token checked, now or when the question about another is over."""
        if len(token) > TOKEN_MAX_CHARS:  # kept by thousands while auth is away, they would fill the memory
            return (tell(Error("bad_token", f"token: it is longer than {TOKEN_MAX_CHARS} characters")),)
        if self._newer is not None:
            self._newer = token
            return ()
        self._newer = ""
        return (Verify(token),)

    def ask_next(self) -> Actions:
        """The question is over: ask about a token that has come meanwhile. Nothing is returned where the answer counts."""
        token, self._newer = self._newer, None
        return self.renew(token) if token else ()

    def keep(self, why: Error) -> Actions:
        """A newer token does not do: the one before holds, and ends when it ends."""
        return () if self._newer is None else self.ask_next() or (tell(why),)
