"""What an edge needs of whichever way it authenticates by (`router.auth.ways`): a judge of tokens."""

from __future__ import annotations

from typing import Protocol

from router.auth.bearer import NOBODY, Bearer
from router.auth.tokens import Claims


class Verifier(Protocol):
    """Who can tell whether a token is good."""

    def verify_at_once(self, token: str) -> Claims | None:
        """Return what the token says; None when it takes a while to tell.

        Raises:
            TokenExpired: when it did once.
            TokenRefused: when it proves nothing.
        """
        ...

    async def verify(self, token: str, bearer: Bearer = NOBODY) -> Claims:
        """Return what the token says, or what somebody else says of it.

        Raises:
            TokenExpired: when it did once.
            TokenRefused: when it proves nothing.
            KeysUnavailable: when that cannot be told now.
        """
        ...
