"""Ids and targets: which are allowed, and how a target is written.

The rule for ids is the same for users, topics, devices, nodes and messages, and is what lets an id stand in a Redis key,
in a payload line and in JSON exactly as it is: nothing is ever escaped behind this check.
"""

from __future__ import annotations

import re

from router.errors import RuleBroken

ID_MAX_CHARS = 128

# \s is Unicode white space, which takes in U+001C to U+001F and U+0085; the next two ranges are the other control characters.
# The last are halves of surrogate pairs, which JSON can escape one by one and UTF-8 cannot write.
_ID = re.compile(r'[^\s,{}"\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}')
_TARGET = re.compile(rf"all|(?:user|topic):{_ID.pattern}")

ID_RULE = f"1 to {ID_MAX_CHARS} characters, no white space, comma, control character, brace, double quote or backslash"

ALL = "all"
"""The target of a broadcast."""

USER_PREFIX = "user:"
TOPIC_PREFIX = "topic:"


def is_id(value: str) -> bool:
    """Tell whether it keeps the rule for ids."""
    return _ID.fullmatch(value) is not None


def is_target(value: str) -> bool:
    """Tell whether it is a target."""
    return _TARGET.fullmatch(value) is not None


def check_id(value: str, field: str) -> str:
    """Return the id unchanged.

    Raises:
        RuleBroken: naming `field`, when the id breaks the rule for ids.
    """
    if _ID.fullmatch(value) is None:
        raise RuleBroken(field, f"{value[:ID_MAX_CHARS]!r} is not an id ({ID_RULE})")
    return value


def check_target(value: str, field: str = "to") -> str:
    """Return the target (`user:<id>`, `topic:<name>` or `all`) unchanged.

    Raises:
        RuleBroken: naming `field`, when it is none of the three or its id breaks the rule for ids.
    """
    if is_target(value):
        return value
    kind, colon, ident = value.partition(":")
    if not colon or kind not in {"user", "topic"}:
        raise RuleBroken(field, f"{value[:ID_MAX_CHARS]!r} is not a target (user:<id>, topic:<name> or all)")
    return f"{kind}:{check_id(ident, field)}"


def target_id(target: str) -> str:
    """Return what decides a target's shard: the id of a user or topic, or `all`."""
    return target if target == ALL else target.partition(":")[2]
