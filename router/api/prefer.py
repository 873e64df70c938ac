"""The header Prefer, of which `wait` is understood: `Prefer: wait=5` (RFC 7240, section 4.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_PREFERENCE: Final = re.compile(
    r'\s*([^\s=;,"]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*))?\s*(?:;(?:"(?:[^"\\]|\\.)*"|[^",])*)?'
)
"""A preference: name, value, parameters; behind it comes a comma, or the end."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def read_wait(headers: Iterable[str], most_s: int) -> int:
    """Return how many seconds a request prefers to wait, at most `most_s`; 0 where it does not say.

    The first `wait` counts (section 2), and what cannot be read is no preference: a server is free to ignore any.
    """
    for header in headers:
        for name, value in _preferences(header):
            if name == "wait":
                return min(int(value), most_s) if _SECONDS.fullmatch(value) else 0
    return 0


def _preferences(header: str) -> Iterable[tuple[str, str]]:
    at = 0
    while found := _PREFERENCE.match(header, at):
        yield found[1].lower(), (found[2] or "").strip('"')
        at = found.end()
        if header[at : at + 1] != ",":
            return
        at += 1
