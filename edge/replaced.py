"""One session a device, wherever: the line by which a node learns that a device of a user of its own has come to another.

`replaced - - - {"user":…,"device":…,"session":…,"at_us":…}` on the node's channel. `route_set.lua` publishes it together with
the write of the newer session's route, to every other node that the user is routed to, and with the time of that call by
Redis' clock. Each session learns the time of its own call too; the later one stays (no two calls have the same time: a script
takes longer than a microsecond).

    edge 1: A registered at 10                      hears of B at 20: A ends
    edge 2:        B's write, at 20 ─────────────▶  (its answer may come later than any line: B remembers the latest it heard
                                                    of, and judges when it knows its own time)

So of any two sessions exactly the later one stays, in whatever order answers and lines arrive. A write whose answer was lost is
made again, at a later time, and tells the others again; a session that has ended meanwhile tells nobody.

An edge that hears nothing at that moment keeps the older session: both get every message, and the next session of the device,
or the end of either, settles it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

WORD: Final = b"replaced"
"""In the place of a line's target."""


class Replaced(msgspec.Struct, frozen=True):
    """A session of a device that is newer than those registered before `at_us`."""

    user: str
    device: str
    session: str
    at_us: int


_decoder: Final = msgspec.json.Decoder(Replaced)


def come(user: str, device: str | None, session: str) -> str:
    """Return what a script needs for the line, in which the time is still to come: the object without its closing brace.

    Without a device it is "": there is nobody to replace.
    """
    if device is None:
        return ""
    return msgspec.json.encode({"user": user, "device": device, "session": session}).decode()[:-1]


class Holder(Protocol):
    """Who holds a session; see `edge.connection`."""

    def replaced(self, at_us: int) -> None:
        """A session of the same device was registered on another edge, at this time by Redis' clock."""


def hear(find: Callable[[str, str | None], Holder | None], payload: bytes) -> None:
    """Tell the session that a line is about, if it is here.

    Args:
        find: returns who holds the session of a user's device.
        payload: what stands in the place of the frame.

    Raises:
        ValueError: when that is no such line.
    """
    newer = _decoder.decode(payload)
    older = find(newer.user, newer.device)
    if older is not None:
        older.replaced(newer.at_us)
