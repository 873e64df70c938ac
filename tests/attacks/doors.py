"""What of Pushway an attacker reaches besides the edge: streams, the API, tokens auth would sign, a trap of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol


class Signs(Protocol):
    """Makes tokens as auth does."""

    def __call__(self, user: str, **claims: object) -> str:
        """Return a token of a user, signed with auth's own key; claims replace the usual ones, None takes one out."""


class Doors(NamedTuple):
    """What else there is.

    Attributes:
        append: appends an entry to `in`, as a producer would.
        append_fast: likewise to `fast`.
        dead: returns how many dead letters there have ever been.
        api_port: of the API, on the edge's own host.
        api_key: one that may do everything.
        sign: makes tokens, for whom auth would make them.
        forgeries: tokens that nobody may come in with.
        trap_url: an address of the attacker's, which nobody is to ask.
    """

    append: Callable[[Mapping[str, str]], Awaitable[None]]
    append_fast: Callable[[Mapping[str, str]], Awaitable[None]]
    dead: Callable[[], Awaitable[int]]
    api_port: int
    api_key: str
    sign: Signs
    forgeries: tuple[str, ...]
    trap_url: str
