"""The payload line: what collect writes, dispatch routes by, and an edge delivers from.

    <target> <prev> <seq> <opts> <frame>

Text, UTF-8, one line a message, lines joined by a newline. `prev` and `seq` are `-` when the message is transient. `opts`
is `-` or `key=value;…`; `exp` is the Unix time in ms after which the message is not delivered, and with `trace=1` every stage
tells of it (`router.trace`). `<frame>` is the finished JSON that the client gets; it holds no raw control byte, so a newline
always ends a line. Collect builds it once and nothing behind collect parses or encodes it again.
"""

from __future__ import annotations

import re
from typing import Final

NO_OPTS = "-"
TRANSIENT = "-"

_TRACED = "trace=1"
_TRACED_BYTES = _TRACED.encode()

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
    return b";".join(part for part in opts.split(b";") if part != _TRACED_BYTES) or NO_OPTS.encode()


def id_of(frame: bytes) -> str:
    """Return the id of the message in a frame of ours; "" where it has none."""
    # Type and target, which precede it, hold no quote of their own, so the first is the message's.
    found = _MESSAGE_ID.search(frame)
    return found[1].decode(errors="replace") if found else ""
