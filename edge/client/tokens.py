"""Asking the application for a token, however long it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from edge.client.ends import cause

TOKEN_TIMEOUT_S: Final = 30.0

TokenSource = Callable[[], Awaitable[str]]
"""Returns a token. When there is none right now it raises OSError or returns an empty one, and is asked again; its other errors
end the iteration."""


class TokenMissing(Exception):
    """The token source has none now."""


async def ask(source: TokenSource, timeout_s: float) -> str:
    """Return a token.

    Raises:
        TokenMissing: when there is none, or none comes in time.
    """
    with anyio.move_on_after(timeout_s):
        try:
            token = await source()
        except OSError as exc:
            raise TokenMissing(cause(exc)) from exc
        if not token:  # which an edge would refuse for good
            raise TokenMissing("the token is empty")
        return token
    raise TokenMissing(f"none came within {timeout_s:.3g} s")
