"""Which messages a replay leaves out, because a newer one of the same target and key is there to be read. Pure.

A key's older messages say nothing that the newest does not: what a client makes of all of them, each in the place of the one
before, is what it makes of the newest. What is left out is passed over as if it had been sent: the page reaches as far as it
does without, and who acknowledges a later seq acknowledges it too.

Only a message whose time is not over takes another's place: it is the one that will be sent. Whom that one passes by, it passes
by as the newest of its key: that device has made it itself, or need not know, and is not sent an older one instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from router.stored import Page


def newest_of_page(page: Page) -> dict[str, int]:
    """Return the last seq of each key in a page."""
    return {key: seq for seq, key in sorted(page.collapse.items())}


def collapsed(page: Page, newer: Collection[str]) -> Page:
    """Return a page with only the newest of each key, and none of the keys that have a newer one behind the page."""
    newest = newest_of_page(page)
    kept = {seq for key, seq in newest.items() if key not in newer}
    left_out = page.collapse.keys() - kept
    if not left_out:
        return page
    return replace(
        page,
        messages=[(seq, frame) for seq, frame in page.messages if seq not in left_out],
        traced=[one for one in page.traced if one.seq not in left_out],
        left_out=len(left_out),
    )
