"""The check of what came over the fast lane: once a line, before it is sent to anybody.

dispatch.lua has put a producer's bytes between a head of its own and a brace, and has seen to what could forge a line: no
control characters, and a target and an id that are good. It has not read the content. Here it is read as JSON, by itself: in
the whole frame a body of `1,"to":"user:bob"` would be two good members, the second of them forged. Reading it also proves that
it is UTF-8, since outside of strings JSON is ASCII; a client closes its connection over a text frame that is not
(RFC 6455, section 8.1). The head is looked at, too: whoever may publish can say that a line is dispatch.lua's. Pure.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from router.any_json import check_json

_ID: Final = r'[^"\\\x00-\x1f]*'
_match_head: Final = re.compile(rf'\{{"type":"message","to":"{_ID}","id":"{_ID}","ts":[0-9]+,"(?:body|text)":'.encode()).match
"""What dispatch.lua writes before the content; neither target nor id has anything that JSON would have to escape."""

_BRACE: Final = ord("}")


def fault_of(frame: bytes) -> str | None:
    """Return what is wrong with the frame of a line with `fast=1`, in words for a log, or None when it may be sent."""
    head = _match_head(frame)
    if head is None or frame[-1] != _BRACE:
        return "the frame is not one of dispatch.lua's"
    try:
        head[0].decode()
        check_json(frame[head.end() : -1])
    except RecursionError:
        return "nested too deeply"
    except (msgspec.MsgspecError, UnicodeError) as exc:
        return f"it is not UTF-8, or the content not JSON by itself ({exc})"
    return None
