"""The payload line: what collect writes, dispatch routes by, and an edge delivers from.

    <target> <prev> <seq> <opts> <frame>

Text, UTF-8, one line a message, lines joined by a newline. `prev` and `seq` are `-` when the message is transient. `opts`
is `-` or `key=value;…`; `exp` is the Unix time in ms after which the message is not delivered, and with `trace=1` every stage
tells of it (`router.trace`). `not=<whom>` passes a session or device by, as the producer's `exclude` says. `fast=1` marks a
line of the fast lane, made by dispatch.lua: its frame is not known to be JSON and UTF-8 until the edge has looked
(`edge.fast`). `<frame>` is the finished JSON that the client gets; it holds no raw control byte, so a newline always ends a
line. It is built once, and nothing behind parses or encodes it again.

What goes to many users is a line of them all, a many-line, so that their content stands there once:

    many - - <opts> <places> <rest>

`places` is `<target>,<prev>,<seq>` for each, separated by commas, which no id holds; `rest` is the frame behind its seq. It
stands for an ordinary line a place (`split_many`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Final, NamedTuple
from urllib.parse import unquote

NO_OPTS = "-"
TRANSIENT = "-"
MANY: Final = "many"
"""In the place of a many-line's target."""

PLACES_MAX: Final = 1_000
"""Most places in a many-line."""

_TRACED = "trace=1"
_TRACED_BYTES = _TRACED.encode()
_FAST = b"fast=1"
_EXPIRES = b"exp="
_EXCLUDES = b"not="

_QUOTED: Final = {ord(mark): f"%{ord(mark):02X}" for mark in "%;="}
"""Marks of opts that an id may hold, and how they stand there; `unquote` of the standard library undoes it."""

_PLACE_PARTS: Final = 3

_TRANSIENT_BYTES: Final = TRANSIENT.encode()

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


def build_rest(message_id: str, ts_ms: int, content: str) -> str:
    """Return what stands in the frame of `build_frame` behind the seq: the same for whomever the message is for."""
    return f'"id":"{message_id}","ts":{ts_ms},{content}}}'


def build_many(places: Sequence[str], opts: str, rest: str) -> str:
    """Return a many-line; the places are those of `build_place`, at most `PLACES_MAX`."""
    return f"{MANY} {TRANSIENT} {TRANSIENT} {opts} {','.join(places)} {rest}"


def build_place(target: str, prev: int | None, seq: int | None) -> str:
    """Return a target's place in a many-line; `prev` and `seq` are None when it is transient."""
    return f"{target},{TRANSIENT},{TRANSIENT}" if seq is None else f"{target},{prev},{seq}"


def split_many(opts: bytes, payload: bytes) -> Iterator[bytes]:
    """Return the lines that a many-line stands for, made one after the other as they are asked for.

    Args:
        opts: of the many-line, and of each of those.
        payload: what stands behind the opts.

    Raises:
        ValueError: when it is none.
    """
    places, rest = payload.split(b" ", 1)
    parts = places.split(b",")
    if len(parts) % _PLACE_PARTS or len(parts) > PLACES_MAX * _PLACE_PARTS:
        raise ValueError("not a many-line")
    return map(_line_of_place, zip(parts[::3], parts[1::3], parts[2::3], strict=True), repeat(opts), repeat(rest))


def _line_of_place(place: tuple[bytes, bytes, bytes], opts: bytes, rest: bytes) -> bytes:
    target, prev, seq = place
    numbered = b"" if seq == _TRANSIENT_BYTES else b'"seq":%b,' % seq
    return b'%b %b %b %b {"type":"message","to":"%b",%b%b' % (target, prev, seq, opts, target, numbered, rest)


def build_line(
    target: str,
    prev: int | None,
    seq: int | None,
    expires_ms: int | None,
    frame: str,
    *,
    trace: bool = False,
    exclude: str = "",
) -> str:
    """Return the payload line of one message for one target; `prev` and `seq` are None when it is transient."""
    place = f"{TRANSIENT} {TRANSIENT}" if seq is None else f"{prev} {seq}"
    opts = build_opts(expires_ms, trace=trace, exclude=exclude) if trace or exclude or expires_ms is not None else NO_OPTS
    return f"{target} {place} {opts} {frame}"


def build_opts(expires_ms: int | None, *, trace: bool = False, exclude: str = "") -> str:
    """Return the opts of a payload line.

    Args:
        expires_ms: Unix ms after which the message is not delivered, or None.
        trace: every stage is to tell of it.
        exclude: whom it passes by, as its producer said; "" for nobody.
    """
    if not trace and not exclude:
        return NO_OPTS if expires_ms is None else f"exp={expires_ms}"
    parts = [
        "" if expires_ms is None else f"exp={expires_ms}",
        _TRACED if trace else "",
        f"not={exclude.translate(_QUOTED)}" if exclude else "",
    ]
    return ";".join(filter(None, parts))


class Opts(NamedTuple):
    """What a line's opts say.

    Attributes:
        expires_ms: Unix ms after which the message is not delivered, or None.
        traced: every stage is to tell of it.
        fast: it came over the fast lane, and its frame is still to be looked at.
        exclude: whom it passes by, as its producer said; "" for nobody.
    """

    expires_ms: int | None = None
    traced: bool = False
    fast: bool = False
    exclude: str = ""

    def is_over(self, now_ms: int) -> bool:
        """Tell whether the message's time is over."""
        return self.expires_ms is not None and self.expires_ms <= now_ms

    def is_unusual(self, now_ms: int) -> bool:
        """Tell whether an edge has more to do with the message than to hand it to all who hear of its target."""
        return self.traced or self.exclude != "" or self.is_over(now_ms)


def read_opts(opts: bytes) -> Opts:
    """Return what a line's opts say. An unknown key is passed over: a newer collect may run beside an older edge.

    Raises:
        ValueError: when the expiry is no number.
    """
    expires_ms, traced, fast, exclude = None, False, False, ""
    for part in opts.split(b";"):
        if part.startswith(_EXPIRES):
            expires_ms = int(part[len(_EXPIRES) :])
        elif part == _FAST:
            fast = True
        elif part == _TRACED_BYTES:
            traced = True
        elif part.startswith(_EXCLUDES):
            exclude = unquote(part[len(_EXCLUDES) :].decode())
    return Opts(expires_ms, traced, fast, exclude)


def id_of(frame: bytes) -> str:
    """Return the id of the message in a frame of ours; "" where it has none."""
    # Type and target, which precede it, hold no quote of their own, so the first is the message's.
    found = _MESSAGE_ID.search(frame)
    return found[1].decode(errors="replace") if found else ""


def content_of(frame: str) -> str:
    """Return the content in a frame of ours, as `build_frame` was given it; "" where it has none."""
    found = _BEFORE_CONTENT.match(frame)
    return frame[found.end() : -1] if found else ""
