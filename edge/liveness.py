"""Whether a connection is due for something: a ping, a farewell to a silent peer, the end of a wait.

Pure: the times of one connection and the clock go in, what is due comes out. One task asks for all connections in turn
(`edge.sweep`), because a timer each would cost more than all the rest of a quiet connection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from router.settings import Settings

NEVER: Final = math.inf
"""A time that does not come."""

_LOOKS_A_WAIT: Final = 4
"""How often connections are looked at in the shortest time that matters: it ends at most a quarter late."""
_LOOK_MAX_S: Final = 1.0


class Due(Enum):
    """What is due at a connection."""

    NOTHING = auto()
    PING = auto()
    """It has been quiet: ask whether it is there."""
    SILENT = auto()
    """It was asked and did not answer."""
    DEADLINE = auto()
    """What it was waiting for did not come in time."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """The beat that connections are held to."""

    quiet_s: float
    answer_s: float

    def judge(self, now_s: float, heard_at_s: float, pinged_at_s: float, deadline_s: float) -> Due:
        """Return what is due.

        Args:
            now_s: the clock that the other times were read from.
            heard_at_s: when anything last came from the peer.
            pinged_at_s: when it was last pinged.
            deadline_s: when the present wait is over; NEVER for none.
        """
        if now_s >= deadline_s:
            return Due.DEADLINE
        if pinged_at_s > heard_at_s:
            return Due.SILENT if now_s - pinged_at_s >= self.answer_s else Due.NOTHING
        return Due.PING if now_s - heard_at_s >= self.quiet_s else Due.NOTHING

    def nothing_before_s(self, heard_at_s: float, pinged_at_s: float, deadline_s: float) -> float:
        """Return a time before which nothing is due, whatever is heard meanwhile; a new deadline may come sooner."""
        if pinged_at_s > heard_at_s:
            # Once it has answered, it may be pinged after `quiet_s`, counted from hardly later than the ping.
            return min(deadline_s, pinged_at_s + min(self.answer_s, self.quiet_s))
        return min(deadline_s, heard_at_s + self.quiet_s)


def look_every_s(settings: Settings) -> float:
    """Return how often to judge, so that no timeout of the settings ends much too late."""
    waits = (
        settings.connect_timeout_s,
        settings.heartbeat_s,
        settings.heartbeat_timeout_s,
        settings.close_timeout_s,
        settings.redis_timeout_s,
    )
    return min(_LOOK_MAX_S, min(waits) / _LOOKS_A_WAIT)
