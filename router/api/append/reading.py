"""What a request to append says: JSON in, messages that keep the producer's contract out. Pure.

The fields are the producer's, with JSON's own types where a stream has only bytes: `to` may be an array, `ttl` is a number,
flags are true and false. They are turned into the fields of an entry first, and then held against the very rules that collect
holds entries against (`router.collect.entries`): what passes here is no dead letter for its content. The body stays the bytes
that came.

Most messages are plain: a target or some, a body or a text, perhaps an id, a ttl. Those are read in one pass, which takes a
fourth of the time, as a request may have ten thousand of them. That pass refuses nothing: what it does not see to be good goes
the long way, which knows every rule and says which is broken. A test holds one against the other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec

from router.any_json import check_json
from router.collect.entries import CARRIED_PREFIX, CONTENT_MAX_BYTES, FIELDS, Entry, read_content, read_message
from router.errors import RuleBroken
from router.http.problems import Problem
from router.settings import Settings
from router.targets import check_id, is_id, is_target

_BYTE: Final = re.compile(r" ?\(byte (\d+)\)")

_MESSAGE_MIN_BYTES: Final = len('{"to":"all","text":""}')

# A text that is not closed, be it in the midst of an escape, goes to the end: no part of it is looked at twice.
_STRUCTURE: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[][{},]', re.DOTALL)

_ESCAPED_BYTES: Final = 6
"""`\\u0041` for a byte; no character of more bytes takes more for each."""

_OTHERS_MAX_BYTES: Final = 262_144
"""Sixteen carried fields of 1,024 characters each in name and value, the id, the names, and some white space between them."""

_items = msgspec.json.Decoder(list[msgspec.Raw])
_item = msgspec.json.Decoder(msgspec.Raw)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_strings = msgspec.json.Decoder(list[str])
_string = msgspec.json.Decoder(str)

_TTL_MAX_DIGITS: Final = 10

_NOTHING: Final = msgspec.Raw()

_FLAGS: Final = {b"true": b"1", b"false": b"0"}


class Posted(msgspec.Struct, gc=False):
    """A message that keeps the contract.

    Attributes:
        targets: without repeats, in the order given.
        id: the client's, or the one made.
        transient: not stored, no seq.
        fields: as they are appended.
        named: the client chose the id, so that it may have been used before.
        later: it waits for its `at`, and is not stored before.
        read: the content, once it was asked for.
    """

    targets: tuple[str, ...]
    id: str
    transient: bool
    fields: list[tuple[bytes, bytes]]
    named: bool
    later: bool = False
    read: str = ""

    @property
    def content(self) -> str:
        """The content as it will stand in the frame: made when first asked for, which most never are."""
        if not self.read:
            self.read = read_content({name.decode(): value for name, value in self.fields}, CONTENT_MAX_BYTES)
        return self.read


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message of the usual members."""

    to: str | list[str]
    body: msgspec.Raw = _NOTHING
    text: str | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET
    ttl: msgspec.Raw = _NOTHING
    transient: bool = False


class _Addressed(msgspec.Struct, gc=False):
    """Of a message, to whom it goes; nothing else of it is made an object."""

    to: msgspec.Raw = _NOTHING


_plain = msgspec.json.Decoder(_Plain)
_addressed = msgspec.json.Decoder(_Addressed)


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


def read_posted(raw: bytes, key: str | None, made_id: str, settings: Settings) -> Posted:
    """Return the message that an item says.

    Args:
        raw: the item's JSON.
        key: the id that Idempotency-Key gives it, where there is one.
        made_id: its id when nobody gives one.
        settings: the limits of the contract.

    Raises:
        RuleBroken: naming the field and the rule.
    """
    return _read_plainly(raw, key, made_id, settings) or _read_exactly(raw, key, made_id, settings)


def _read_plainly(raw: bytes, key: str | None, made_id: str, settings: Settings) -> Posted | None:
    """Return the message if it is plain and surely keeps the contract; None says nothing."""
    if len(raw) > min(settings.body_max_bytes, CONTENT_MAX_BYTES):
        return None
    try:
        item = _plain.decode(raw)
        fields = _plain_fields(item, settings)
        targets = _plain_targets(item.to, settings.targets_max)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    given = key if item.id is msgspec.UNSET else item.id
    message_id = made_id if given is None else given
    if fields is None or not targets or not is_id(message_id) or key not in {None, given}:
        return None
    fields += ((b"to", ",".join(targets).encode()), (b"id", message_id.encode()))
    return Posted(targets, message_id, item.transient, fields, given is not None)


def _plain_targets(to: str | list[str], most: int) -> tuple[str, ...]:
    """Return the targets; none where that is not certain."""
    if isinstance(to, str):
        if is_target(to):
            return (to,)
        to = to.split(",", most)
    return tuple(dict.fromkeys(to)) if len(to) <= most and all(map(is_target, to)) else ()


def _plain_fields(item: _Plain, settings: Settings) -> list[tuple[bytes, bytes]] | None:
    """Return the fields of a message but for its targets and id; None where they are not surely good. Lengths are.

    Raises:
        MsgspecError, UnicodeError, RecursionError: when one is not as it should be.
    """
    body, ttl = bytes(item.body), bytes(item.ttl)
    if item.text is msgspec.UNSET:
        check_json(body)
        fields = [(b"body", body)]
    elif body:
        return None
    else:
        fields = [(b"text", item.text.encode())]
    if ttl:
        if not (ttl.isdigit() and len(ttl) <= _TTL_MAX_DIGITS and 1 <= int(ttl) <= settings.retention_s):
            return None
        fields.append((b"ttl", ttl))
    if item.transient:
        fields.append((b"transient", b"1"))
    return fields


def _read_exactly(raw: bytes, key: str | None, made_id: str, settings: Settings) -> Posted:
    _check_length(raw, settings)
    values = {name: _value(name, value) for name, value in _read_members(raw).items()}
    named = key is not None or "id" in values
    if key is not None and values.setdefault("id", key.encode()) != key.encode():
        raise RuleBroken("id", f"is another than Idempotency-Key gives ({key}): leave one of them out")
    if not named:
        values["id"] = made_id.encode()
    fields = [(name.encode(), value) for name, value in values.items()]
    # What is appended now; Redis' clock, by which collect goes, may be a little ahead or behind.
    now_ms = time.time_ns() // 1_000_000
    message = read_message(Entry.of(f"{now_ms}-0", fields), 0, now_ms, settings)
    return Posted(message.targets, message.id, message.transient, fields, named, message.at_ms is not None)


def _check_length(raw: bytes, settings: Settings) -> None:
    """Let a message pass that is no longer than its fields can need, every character escaped, and has no more targets.

    Anything longer is broken whatever it says, and to find out how takes time: a million members in a request of 16 MiB kept
    the loop, and with it the owners, for seconds.

    Raises:
        RuleBroken: when it is.
    """
    most = _ESCAPED_BYTES * (settings.body_max_bytes + _OTHERS_MAX_BYTES)
    try:
        to = bytes(_addressed.decode(raw).to)
    except (msgspec.MsgspecError, UnicodeError):
        to = b""
    if (length := len(raw) - len(to)) > most:
        raise RuleBroken("message", f"is longer as JSON than any that keeps the rules ({length} bytes, at most {most})")
    # No target has a comma of its own.
    if to.count(b",") >= settings.targets_max:
        raise RuleBroken("to", f"more than {settings.targets_max} targets")


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
        raise RuleBroken(name, f"is not a number ({_UNITS[name]})")
    whole, _, fraction = raw.partition(b".")
    return raw if fraction.strip(b"0") else whole


def _read_flag(name: str, raw: bytes) -> bytes:
    if raw not in _FLAGS:
        raise RuleBroken(name, "is neither true nor false")
    return _FLAGS[raw]


_UNITS: Final = {"ttl": "seconds", "at": "Unix ms"}

_READERS: Final[dict[str, Callable[[str, bytes], bytes]]] = {
    "to": _read_targets,
    "body": _read_body,
    "ttl": _read_number,
    "at": _read_number,
    "transient": _read_flag,
    "trace": _read_flag,
}
