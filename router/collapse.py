"""Which messages a replay leaves out, because a newer one of the same target and key is there to be read. Pure.

A key's older messages say nothing that the newest does not: what a client makes of all of them, each in the place of the one
before, is what it makes of the newest. What is left out is passed over as if it had been sent: the page reaches as far as it
does without, and who acknowledges a later seq acknowledges it too.

Only a message that ends no earlier takes another's place: however long it takes until its own page is read, by a client that
reads slowly, it is sent then, or neither would be sent any more. Whom it passes by, it passes by as the newest of its key: that
device has made it itself, or need not know, and is not sent an older one instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from router.stored import Keyed, Page


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
