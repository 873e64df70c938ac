"""What a request to append says: JSON in, messages that keep the producer's contract out. Pure.

The fields are the producer's, with JSON's own types where a stream has only bytes: `to` may be an array, `ttl` is a number,
flags are true and false. They are turned into the fields of an entry first, and then held against the very rules that collect
holds entries against (`router.collect.entries`): what passes here is no dead letter for its content. The body stays the bytes
that came.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec

from router.collect.entries import CARRIED_PREFIX, FIELDS, Entry, Message, read_message
from router.errors import RuleBroken
from router.http.problems import Problem
from router.settings import Settings
from router.targets import check_id

_BYTE: Final = re.compile(r" ?\(byte (\d+)\)")

_MESSAGE_MIN_BYTES: Final = len('{"to":"all","text":""}')

# A text that is not closed, be it in the midst of an escape, goes to the end: no part of it is looked at twice.
_STRUCTURE: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[][{},]', re.DOTALL)

_ESCAPED_BYTES: Final = 6
"""`\\u0041` for a byte; no character of more bytes takes more for each."""

_TARGET_MAX_BYTES: Final = 600
"""`topic:`, a name of 128 characters, and the quotes and comma around it."""

_OTHERS_MAX_BYTES: Final = 262_144
"""Sixteen carried fields of 1,024 characters each in name and value, the id, the names, and some white space between them."""

_items = msgspec.json.Decoder(list[msgspec.Raw])
_item = msgspec.json.Decoder(msgspec.Raw)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_strings = msgspec.json.Decoder(list[str])
_string = msgspec.json.Decoder(str)

_FLAGS: Final = {b"true": b"1", b"false": b"0"}


@dataclass(frozen=True, slots=True)
class Posted:
    """A message that keeps the contract.

    Attributes:
        message: as collect will read it, but for its time.
        fields: as they are appended.
        named: the client chose the id, so that it may have been used before.
    """

    message: Message
    fields: list[tuple[bytes, bytes]]
    named: bool


def read_items(body: bytes, most: int) -> tuple[list[msgspec.Raw], bool]:
    """Return the items of a request, unread but for being JSON, and whether they came as an array.

    Raises:
        Problem: 400 naming line and column when it is not JSON, or an array without items; 413 when they are more than `most`.
    """
    many = body.lstrip(b" \t\r\n").startswith(b"[")
    if many and _begins_with_more(body, most):
        raise _too_many(f"more than {most}", most)
    try:
        items = _items.decode(body) if many else [_item.decode(body)]
    except RecursionError:
        raise Problem(HTTPStatus.BAD_REQUEST, "the request is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as exc:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the request is not JSON: {_where(body, exc)}") from None
    if not items:
        raise Problem(HTTPStatus.BAD_REQUEST, "the array has no message in it")
    if len(items) > most:
        raise _too_many(str(len(items)), most)
    return items, many


def _begins_with_more(body: bytes, most: int) -> bool:
    """Tell whether an array has more items than that where so many messages have no room.

    To count them by decoding them makes an object of each: of 16 MiB of zeros, half a gigabyte.
    """
    if body.count(b",") < most:
        return False
    depth = items = 0
    for found in _STRUCTURE.finditer(body, 0, most * _MESSAGE_MIN_BYTES):
        token = found[0]
        depth += (token in {b"[", b"{"}) - (token in {b"]", b"}"})
        items += token == b"," and depth == 1
        if items >= most:
            return True
    return False


def _too_many(said: str, most: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{said} messages in one request: at most {most} are taken")


def _where(body: bytes, exc: Exception) -> str:
    """Return what a decoder says, with line and column in place of its byte."""
    said = str(exc)
    found = _BYTE.search(said)
    at = int(found[1]) if found else len(body)
    line = body.count(b"\n", 0, at) + 1
    column = at - (body.rfind(b"\n", 0, at) + 1) + 1
    return f"{_BYTE.sub('', said)} (line {line}, column {column}, byte {at})"


def read_key(header: str | None) -> str | None:
    """Return the value of Idempotency-Key: the string of draft-ietf-httpapi-idempotency-key-header, or its content bare.

    Args:
        header: as Starlette gives it, its bytes taken for Latin-1.

    Raises:
        RuleBroken: when it is no id.
    """
    if header is None:
        return None
    key = header.encode("latin-1").decode("utf-8", "backslashreplace").strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    return check_id(key, "Idempotency-Key")


def read_posted(raw: bytes, key: str | None, made_id: str, now_ms: int, settings: Settings) -> Posted:
    """Return the message that an item says.

    Args:
        raw: the item's JSON.
        key: the id that Idempotency-Key gives it, where there is one.
        made_id: its id when nobody gives one.
        now_ms: Unix ms.
        settings: the limits of the contract.

    Raises:
        RuleBroken: naming the field and the rule.
    """
    if len(raw) > (most := _longest(settings)):
        raise RuleBroken("message", f"is longer as JSON than any that keeps the rules ({len(raw)} bytes, at most {most})")
    values = {name: _value(name, value) for name, value in _read_members(raw).items()}
    named = key is not None or "id" in values
    if key is not None and values.setdefault("id", key.encode()) != key.encode():
        raise RuleBroken("id", f"is another than Idempotency-Key gives ({key}): leave one of them out")
    if not named:
        values["id"] = made_id.encode()
    fields = [(name.encode(), value) for name, value in values.items()]
    return Posted(read_message(Entry(f"{now_ms}-0", fields), 0, now_ms, settings), fields, named)


def _longest(settings: Settings) -> int:
    """Return how many bytes of JSON a message may have: as many as its fields can need, every character escaped.

    Anything longer is broken whatever it says, and to find out how takes time: a million members in a request of 16 MiB kept
    the loop, and with it the owners, for seconds.
    """
    return _ESCAPED_BYTES * (settings.body_max_bytes + _TARGET_MAX_BYTES * settings.targets_max + _OTHERS_MAX_BYTES)


def _read_members(raw: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _members.decode(raw)
    except msgspec.ValidationError:
        raise RuleBroken("message", 'is not an object with members such as "to" and "body"') from None
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise RuleBroken("message", f"is not JSON ({exc})") from None


def _value(name: str, raw: msgspec.Raw) -> bytes:
    """Return a member's value as the field of an entry has it; one that the contract does not know is left to its rules."""
    read = _READERS.get(name)
    if read is not None:
        return read(name, bytes(raw))
    return _read_string(name, bytes(raw)) if name in FIELDS or name.startswith(CARRIED_PREFIX) else b""


def _read_body(_name: str, raw: bytes) -> bytes:
    return raw


def _read_string(name: str, raw: bytes) -> bytes:
    try:
        return _string.decode(raw).encode()
    except (msgspec.MsgspecError, UnicodeError):
        raise RuleBroken(name[:64], "is not a string") from None


def _read_targets(name: str, raw: bytes) -> bytes:
    if not raw.startswith(b"["):
        return _read_string(name, raw)
    try:
        targets = _strings.decode(raw)
        joined = ",".join(targets).encode()
    except (msgspec.MsgspecError, UnicodeError):
        raise RuleBroken(name, "is neither a string nor an array of strings") from None
    if joined.count(b",") >= max(1, len(targets)):
        raise RuleBroken(name, "each of an array's strings is one target, without a comma")
    return joined


def _read_number(name: str, raw: bytes) -> bytes:
    """Return a JSON number's own digits; the rules have the last word. 60.0 is the number 60 to JSON."""
    if raw[:1] not in b"-0123456789":
        raise RuleBroken(name, "is not a number")
    whole, _, fraction = raw.partition(b".")
    return raw if fraction.strip(b"0") else whole


def _read_flag(name: str, raw: bytes) -> bytes:
    if raw not in _FLAGS:
        raise RuleBroken(name, "is neither true nor false")
    return _FLAGS[raw]


_READERS: Final[dict[str, Callable[[str, bytes], bytes]]] = {
    "to": _read_targets,
    "body": _read_body,
    "ttl": _read_number,
    "transient": _read_flag,
    "trace": _read_flag,
}
