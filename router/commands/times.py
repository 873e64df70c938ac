"""Times as people type and read them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from router.errors import RuleBroken

_AGE: Final = re.compile(r"([0-9]{1,9})([smhd])")
_AGE_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def read_time(text: str, option: str) -> int:
    """Return the Unix ms that somebody typed: as such a number, or as RFC 3339.

    Raises:
        RuleBroken: naming the option, when it is neither.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        rule = f"{text[:64]!r} is neither Unix ms nor a time with its offset, such as 2026-11-22T20:00:00+01:00"
        raise RuleBroken(option, rule)
    return round(moment.timestamp() * 1000)


def read_age_s(text: str, option: str) -> int:
    """Return the seconds of a span that somebody typed, as 90s, 10m, 2h or 7d.

    Raises:
        RuleBroken: naming the option, when it is none.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        raise RuleBroken(option, f"{text[:64]!r} is not an age like 90s, 10m, 2h or 7d")
    return int(match[1]) * _AGE_S[match[2]]


def local_time(unix_ms: int) -> str:
    """Return a time as this machine's clock on the wall has it, to the second."""
    return datetime.fromtimestamp(unix_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
