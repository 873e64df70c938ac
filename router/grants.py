"""Which topics a token lets its user hear: patterns, in which `*` stands for any characters, or none.

    news       that topic
    team.*     team.red, team.blue.goals …, but not team
    *          every topic

Pure. A topic's name may hold an asterisk itself, which only a pattern with one covers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

ANY: Final = "*"

_KEPT_PATTERNS: Final = 4_096
"""How many patterns are kept compiled: many users' tokens hold the same few."""


def covers(patterns: Sequence[str], topic: str) -> bool:
    """Tell whether one of the patterns covers the topic."""
    return any(topic == pattern or (ANY in pattern and _compiled(pattern).fullmatch(topic) is not None) for pattern in patterns)


@lru_cache(_KEPT_PATTERNS)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Of several in a row one does as well, and a try costs less; each takes as little as it can and never gives it back to
    # another, so that no pattern makes a topic of 128 characters cost more than their product.
    first, *parts = [re.escape(part) for part in re.split(r"\*+", pattern)]
    *inner, last = parts
    return re.compile(first + "".join(f"(?>.*?{part})" for part in inner) + ".*" + last, re.DOTALL)
