"""The payload line: what collect writes, dispatch routes by, and an edge delivers from.

    <target> <prev> <seq> <opts> <frame>

Text, UTF-8, one line a message, lines joined by a newline. `prev` and `seq` are `-` when the message is transient. `opts`
is `-` or `key=value;…`; `exp` is the Unix time in ms after which the message is not delivered, and with `trace=1` every stage
tells of it (`router.trace`). `fast=1` marks a line of the fast lane, made by dispatch.lua: its frame is not known to be JSON
and UTF-8 until the edge has looked (`edge.fast`). `<frame>` is the finished JSON that the client gets; it holds no raw control
byte, so a newline always ends a line. It is built once, and nothing behind parses or encodes it again.
"""

from __future__ import annotations

import re
from typing import Final

NO_OPTS = "-"
TRANSIENT = "-"

_TRACED = "trace=1"
_TRACED_BYTES = _TRACED.encode()
_FAST_BYTES = b"fast=1"

_BEFORE_CONTENT: Final = re.compile(r'\{"type":"message","to":"[^"]*",(?:"seq":[0-9]+,)?"id":"[^"]*","ts":[0-9]+,')
"""What `build_frame` puts before a content; neither target nor id has a quote of its own."""

_MESSAGE_ID: Final = re.compile(rb'"id":"([^"]*)"')


def build_frame(target: str, seq: int | None, message_id: str, ts_ms: int, content: str) -> str:
    """Return the client's `message` frame.

    Args:
        target: checked, so it needs no escaping.
        seq: the message's seq, or None for a transient one, whose frame has no `seq`.
        message_id: checked likewise.
        ts_ms: Unix ms at which the producer appended it.
        content: `"body":<minified JSON>` or `"text":<JSON string>`.
    """
    numbered = "" if seq is None else f'"seq":{seq},'
    return f'{{"type":"message","to":"{target}",{numbered}"id":"{message_id}","ts":{ts_ms},{content}}}'


def build_line(
    target: str, prev: int | None, seq: int | None, expires_ms: int | None, frame: str, *, trace: bool = False
) -> str:
    """Return the payload line of one message for one target; `prev` and `seq` are None when it is transient."""
    place = f"{TRANSIENT} {TRANSIENT}" if seq is None else f"{prev} {seq}"
    opts = NO_OPTS if expires_ms is None else f"exp={expires_ms}"
    if trace:
        opts = _TRACED if expires_ms is None else f"{opts};{_TRACED}"
    return f"{target} {place} {opts} {frame}"


def expiry_of(opts: bytes) -> int | None:
    """Return the `exp` of a line's opts in Unix ms, or None where it has none.

    An unknown key is passed over: a newer collect may run beside an older edge.
    """
    for part in opts.split(b";"):
        key, _, value = part.partition(b"=")
        if key == b"exp":
            return int(value)
    return None


def is_traced(opts: bytes) -> bool:
    """Tell whether a line's opts ask every stage to tell of it."""
    return _TRACED_BYTES in opts.split(b";")


def untraced(opts: bytes) -> bytes:
    """Return a line's opts without the wish to be told of."""
    return _without(_TRACED_BYTES, opts)


def is_fast(opts: bytes) -> bool:
    """Tell whether a line came over the fast lane, and its frame is still to be looked at."""
    return _FAST_BYTES in opts.split(b";")


def looked_at(opts: bytes) -> bytes:
    """Return a line's opts without the mark of the fast lane."""
    return _without(_FAST_BYTES, opts)


def _without(part: bytes, opts: bytes) -> bytes:
    return b";".join(one for one in opts.split(b";") if one != part) or NO_OPTS.encode()


def id_of(frame: bytes) -> str:
    """Return the id of the message in a frame of ours; "" where it has none."""
    # Type and target, which precede it, hold no quote of their own, so the first is the message's.
    found = _MESSAGE_ID.search(frame)
    return found[1].decode(errors="replace") if found else ""


def content_of(frame: str) -> str:
    """Return the content in a frame of ours, as `build_frame` was given it; "" where it has none."""
    found = _BEFORE_CONTENT.match(frame)
    return frame[found.end() : -1] if found else ""
