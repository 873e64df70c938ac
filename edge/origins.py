"""Which web pages may connect: the `Origin` that a browser sends with the upgrade, which a page cannot choose (RFC 6454).

A page of another site can have its visitor's browser open a WebSocket anywhere (RFC 6455, section 10.2). It would need a token
of the visitor's, and tokens are no cookies, so that a browser adds none unasked; an allow-list is the second lock. What is no
browser sends no origin, and needs none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

ANY: Final = "*"

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of one machine: a page that was opened by one of them connects to an edge by another."""


def is_allowed(origin: str | None, host: str, allowed: Sequence[str]) -> bool:
    """Tell whether a page may connect.

    Args:
        origin: the header; None where there is none.
        host: the header `Host`: how the client reached the edge.
        allowed: origins, in which a `*` stands for a part of a name, or `*` for every page. Where there are none, pages are
            that come from the edge's own host, whatever the port.
    """
    if origin is None:
        return True
    if not allowed:
        return _is_same_host(origin, host)
    said = origin.lower()
    return any(pattern.fullmatch(said) for pattern in _patterns(tuple(allowed)))


def _is_same_host(origin: str, host: str) -> bool:
    theirs, ours = _name_of(origin), _name_of(f"//{host}")
    return bool(ours) and (theirs == ours or {theirs, ours} <= _LOOPBACK)


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # such as a bracket that is not closed
        return ""


@lru_cache
def _patterns(allowed: tuple[str, ...]) -> list[re.Pattern[str]]:
    # A star is a part of a name, so that https://*.example.com lets no https://evil.net/.example.com in.
    return [
        re.compile(".*" if one == ANY else "[^/]+".join(map(re.escape, one.lower().rstrip("/").split("*")))) for one in allowed
    ]
