"""How long a session may last, and when its client is told of the end: what follows from what is left of a token. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

_TOLD_EXACTLY_BELOW_S: Final = 1.0
"""From here on whole seconds will do: nobody fetches a token to the millisecond."""


class Term(NamedTuple):
    """A session's time, in seconds: before the client is told that it ends, and from then to the end."""

    quiet_s: float
    notice_s: float


def first_term(valid_s: float, notice_s: float) -> Term:
    """Return the term of a session that begins with a token good for `valid_s`; one that ends soon is told so at once."""
    told_s = min(valid_s, notice_s)
    return Term(valid_s - told_s, told_s)


def next_term(valid_s: float, notice_s: float) -> Term:
    """Return the term that a newer token gives.

    The client is told after half of it at the earliest: one whose tokens live for less than the notice would otherwise be told
    as soon as it has sent one, fetch the next, and so on in a circle.
    """
    told_s = min(valid_s / 2, notice_s)
    return Term(valid_s - told_s, told_s)


def in_frame(seconds: float) -> float:
    """Return a time as a frame has it: in whole seconds, rounded down, unless it is less than one."""
    return int(seconds) if seconds >= _TOLD_EXACTLY_BELOW_S else round(max(0.0, seconds), 3)
