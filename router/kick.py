"""Ending a user's sessions: the notice by which the nodes that hold the user are told to close them (`router.notices`).

`kicked - - - {"user":…,"code":4502,"reason":…}` (`edge.kicked`), with `device` or `session` where only those are to end. A
session that is being registered just then may slip through, and so may those of an edge that has lost its subscription. Who
wants to be sure looks whether the routes go, and tells them again.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from redis.asyncio import Redis

from router.errors import RuleBroken
from router.notices import notice, tell_nodes
from router.settings import Settings
from router.targets import check_id

WORD: Final = "kicked"
"""Stands in the place of the target."""

KICKED: Final = 4502
"""The usual close code, of those that a client does not come back from."""

CODE_MIN: Final = 4000
CODE_MAX: Final = 4999

REASON_MAX_BYTES: Final = 123
"""RFC 6455 section 5.5: a close frame carries 125 bytes, of which the code takes two."""

REASON: Final = "kicked: the sessions were ended by the service"
"""What clients are told unless a back end says something else."""

_NOT_PLAIN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Kick(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which sessions are to end, and what their clients are told.

    Attributes:
        user: whose.
        code: the close code, from 4000 to 4999; who has one of 4500 or more does not come back by itself.
        reason: in a few words, as it stands in the close frame.
        device: only those of this one.
        session: only this one, by the `session` of its welcome.
    """

    user: str
    code: int
    reason: str
    device: str | None = None
    session: str | None = None


def check_kick(kick: Kick) -> Kick:
    """Return it unchanged.

    Raises:
        RuleBroken: naming what edges would not take, or a close frame not hold.
    """
    if not CODE_MIN <= kick.code <= CODE_MAX:
        raise RuleBroken("code", f"{kick.code} is not a close code from {CODE_MIN} to {CODE_MAX}")
    if _NOT_PLAIN.search(kick.reason):
        raise RuleBroken("reason", "has a control character")
    if (length := len(kick.reason.encode())) > REASON_MAX_BYTES:
        raise RuleBroken("reason", f"longer than {REASON_MAX_BYTES} bytes of UTF-8 ({length}), all that a close frame holds")
    named = {"user": kick.user, "device": kick.device, "session": kick.session}
    for field, ident in named.items():
        if ident is not None:
            check_id(ident, field)
    return kick


async def kick(redis: Redis, settings: Settings, wanted: Kick) -> list[str]:
    """Have sessions closed, and return the nodes that were told: all that hold the user.

    Args:
        redis: where the routes are.
        settings: prefix and shards.
        wanted: checked (`check_kick`).

    Raises:
        RedisError, OSError: when it is unknown who was told.
    """
    return await tell_nodes(redis, settings, wanted.user, notice(WORD, wanted))
