"""What Redis says of a right that a user lacks, in words that say whose, of what, and what to do.

Redis names the command, but hardly ever the key, and a script by its digest or not at all.
"""

from __future__ import annotations

import re
from typing import Final

from redis.exceptions import NoPermissionError, ResponseError

from router.timed_redis import operation_of

REMEDY: Final = "`ACL LOG` on the server names command and key; `pushway acl` prints what each user needs"

_IN_SCRIPT: Final = ("ACL failure in script", "The user executing the script can't")
"""How an error begins that a script passes on: of Valkey and Redis from 7.2 on, and of Redis 7.0. It has the code ERR."""

_PLACE: Final = re.compile(r"\s*script: (?:[0-9a-f]{40}, )?on @?user_script:(\d+)\.?")
_SENT: Final = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n(?:\$40\r\n([0-9a-f]{40})\r\n)?")


def is_refusal(error: ResponseError) -> bool:
    """Tell whether Redis refused something because of the user that asked."""
    return isinstance(error, NoPermissionError) or str(error).startswith(_IN_SCRIPT)


def explained(error: ResponseError, user: str | None, asked: str) -> NoPermissionError:
    """Return a refusal with the user, what was refused, and what to do, on one line.

    Args:
        error: what the driver makes of Redis' answer.
        user: of the connection; None is `default`.
        asked: what was asked for, in words.
    """
    said = str(error)
    place = _PLACE.search(said)
    where = f"{asked}, line {place[1]}" if place else asked
    told = _PLACE.sub("", said).rstrip(". ")
    return NoPermissionError(f"the Redis user {user or 'default'} lacks a right ({where}): {told}. {REMEDY}")


def asked_with(sent: bytes) -> str:
    """Return what a request asks for: its command, or the file of its script.

    Args:
        sent: the beginning of what went over the wire; of several commands the first counts.
    """
    found = _SENT.match(sent)
    if found is None:
        return "a command"
    command, digest = found[1].decode(), (found[2] or b"").decode()
    name = operation_of(command, digest)
    return f"{name}.lua" if digest and name != command.lower() else command.upper()
