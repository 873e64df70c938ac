"""Times as people type and read them."""

from __future__ import annotations

from datetime import datetime

from router.errors import RuleBroken


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


def local_time(unix_ms: int) -> str:
    """Return a time as this machine's clock on the wall has it, to the second."""
    return datetime.fromtimestamp(unix_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
