"""Which messages a replay leaves out, because a newer one of the same target and key is there to be read. Pure.

A key's older messages say nothing that the newest does not: what a client makes of all of them, each in the place of the one
before, is what it makes of the newest. What is left out is passed over as if it had been sent: the page reaches as far as it
does without, and who acknowledges a later seq acknowledges it too.

Only a message that ends no earlier takes another's place: however long it takes until its own page is read, by a client that
reads slowly, it is sent then, or neither would be sent any more. Whom it passes by, it passes by as the newest of its key: that
device has made it itself, or need not know, and is not sent an older one instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from router.stored import Keyed, Page

STEPS_MAX: Final = 4_096
"""Most messages that are remembered ahead of a replay. Whoever has more keys than that is sent some that have a newer one."""

Step = tuple[int, datetime]
"""The seq of a message, and when it ends."""


class Ahead:
    """What is known of the keyed messages that lie ahead of one replay: read once, from the head down, as far as is needed.

    Without it each page would have to read all that lies ahead anew, where every message has a key of its own.

    Attributes:
        head: up to which seq it is known; 0 where nothing is.
        bottom: down to which; that itself is not known.
    """

    __slots__ = ("_count", "_steps", "bottom", "head")

    def __init__(self) -> None:
        self.head = self.bottom = 0
        self._count = 0
        # Key → its messages from the newest down, but for those that a newer one outlives.
        self._steps: dict[str, list[Step]] = {}

    def is_full(self) -> bool:
        """Tell whether no more can be remembered."""
        return self._count >= STEPS_MAX

    def begin(self, head: int) -> None:
        """Know nothing, up to a head."""
        self.head = self.bottom = head

    def note(self, seq: int, one: Keyed) -> None:
        """Note the next message down; one without a key ("") is of no interest."""
        if not one.key:
            return
        steps = self._steps.setdefault(one.key, [])
        if not steps or one.ends > steps[-1][1]:
            steps.append((seq, one.ends))
            self._count += 1

    def note_above(self, head: int, above: Sequence[tuple[int, Keyed]]) -> None:
        """Note what lies between the head so far and another, from the newest down."""
        known, self._steps, self._count, self.head = self._steps, {}, 0, head
        for seq, one in above:
            self.note(seq, one)
        for key, steps in known.items():
            for seq, ends in steps:
                self.note(seq, Keyed(key, ends))

    def ends_behind(self, seq: int, key: str) -> datetime | None:
        """Return when the last of a key's messages above a seq ends; None where none is known."""
        return max((ends for at, ends in self._steps.get(key, ()) if at > seq), default=None)

    def not_outlived(self, seq: int, keys: Mapping[str, datetime]) -> dict[str, datetime]:
        """Return those of the keys of which none is known above a seq that ends as late as is said there."""
        ends = {key: self.ends_behind(seq, key) for key in keys}
        return {key: least for key, least in keys.items() if (end := ends[key]) is None or end < least}


def latest_ends(keyed: Iterable[Keyed]) -> dict[str, datetime]:
    """Return for each key when the last of its messages ends."""
    ends: dict[str, datetime] = {}
    for one in keyed:
        ends[one.key] = max(one.ends, ends.get(one.key, one.ends))
    return ends


def collapsed(page: Page, newer: Mapping[str, datetime]) -> Page:
    """Return a page without the messages that have a newer one of their key, in it or behind it, which ends no earlier.

    Args:
        page: as it was read.
        newer: key → when the last of those behind the page ends.
    """
    ends, left_out = dict(newer), set()
    for seq, one in sorted(page.collapse.items(), reverse=True):
        if one.key in ends and ends[one.key] >= one.ends:
            left_out.add(seq)
        else:
            ends[one.key] = one.ends
    if not left_out:
        return page
    return replace(
        page,
        messages=[(seq, frame) for seq, frame in page.messages if seq not in left_out],
        traced=[one for one in page.traced if one.seq not in left_out],
        left_out=len(left_out),
    )
