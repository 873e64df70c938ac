"""One session a device, wherever: the line by which a node learns that a device of a user of its own lives elsewhere.

`replaced - - - {"user":…,"device":…,"session":…,"at_us":…}` on the node's channel. A session that has answered the ping behind
its welcome is proved alive: its edge has `route_set.lua` write the user's route once more and publish the line with that, to
every other node that the user is routed to, with the time of that call by Redis' clock. The session learns that time too, and
so do the device's other sessions on its own edge. Of two sessions that are proved, the one with the later proof stays. Two may
be proved by one call, on one edge: then their ids decide.

    edge 1: A proved at 10                          hears of B at 20: A ends
    edge 2:        B's proof, at 20 ─────────────▶  (its answer may come later than any line: B remembers the latest it heard
                                                    of, and judges when it knows its own time)

So of any two that are proved exactly one stays, in whatever order answers and lines arrive. A call whose answer was lost is
made again, at a later time, and tells the others again; a session that has ended meanwhile tells nobody.

The time of registration would not do: an edge that was frozen takes in, late, a client that went elsewhere long ago, and the
dead session would end the live one with a code that says not to come back. It never answers, so it ends nobody, and is ended
by its heartbeat.

An edge that hears nothing at that moment keeps the older session: both get every message, and the next session of the device,
or the end of either, settles it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

WORD: Final = b"replaced"
"""In the place of a line's target."""


class Replaced(msgspec.Struct, frozen=True):
    """A session of a device, proved alive at `at_us`."""

    user: str
    device: str
    session: str
    at_us: int


_decoder: Final = msgspec.json.Decoder(Replaced)


def come(user: str, device: str, session: str) -> str:
    """Return what a script needs for the line, in which the time is still to come: the object without its closing brace."""
    return msgspec.json.encode({"user": user, "device": device, "session": session}).decode()[:-1]


class Holder(Protocol):
    """Who holds a session; see `edge.connection`."""

    def replaced(self, at_us: int, session: str) -> None:
        """That session of the same device was proved alive at this time by Redis' clock. It may be this one itself."""


Find = Callable[[str, str], Sequence[Holder]]
"""Returns who holds sessions of a user's device, as they were when it was asked."""


def tell(find: Find, proved: Replaced) -> None:
    """Tell the sessions of the device that are here."""
    for holder in find(proved.user, proved.device):
        holder.replaced(proved.at_us, proved.session)


def hear(find: Find, payload: bytes) -> None:
    """Tell the sessions of the device that a line is about, if there are any here.

    Args:
        find: returns who holds them.
        payload: what stands in the place of the frame.

    Raises:
        ValueError: when that is no such line.
    """
    tell(find, _decoder.decode(payload))
