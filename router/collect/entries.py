"""The producer's contract: what an entry of `push:{s}:in` may say.

Pure. An entry comes as Redis gives it, a list of fields and values in order, so that a field given twice is seen. What keeps
the contract becomes a `Message`; what breaks it raises `RuleBroken`, which names the field and the rule, and harms nothing
around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from router.any_json import check_json
from router.errors import RuleBroken
from router.settings import Settings
from router.targets import check_id, check_target, is_target

FIELDS: Final = frozenset({"to", "body", "text", "id", "ttl", "exclude", "collapse", "at", "transient", "trace", "traceparent"})
"""Fields that the contract names; besides, any that begins with `x-` is carried along."""

CARRIED_PREFIX: Final = "x-"
_CARRIED_MAX_CHARS: Final = 1_024
"""Longest carried name or value: they are labels, and as many as four belong in 4 KiB."""

_CARRIED_MAX: Final = 16

CONTENT_MAX_BYTES: Final = 16_000_000
"""Longest content as JSON, which may be six times as long as the text that it is made from: a MongoDB document holds 16 MiB,
and a larger one is refused in a way that would stop the whole batch."""

_CARRIED_NAME: Final = re.compile(r"x-[A-Za-z0-9._-]+")
_TTL: Final = re.compile(r"[0-9]{1,10}")
_AT: Final = re.compile(r"[0-9]{1,15}")
_AT_MIN_MS: Final = 10**11
"""A lower time, in 1973 or before, is Unix seconds by mistake: past as ms, so that what is for later would be sent at once."""

_SHOWN_CHARS: Final = 200
"""Most of a parser's words that a reason repeats."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FLAGS: Final = {"0": False, "1": True}

_NAMES: Final = {name.encode(): name for name in FIELDS}

_USUAL_FIELDS: Final = FIELDS & {"to", "body", "text", "id", "transient"}
"""Nearly all messages have no others, and what else a message may say is not looked for."""

_LEAST_FIELDS: Final = 2
"""Fields that no message goes without: `to`, and body or text."""

_DURABLE: Final = [b"to", b"body"]
_TRANSIENT: Final = [b"to", b"body", b"transient"]
"""Names of the fields of nearly all messages, as nearly all producers give them."""

_NOT_CARRIED: Final = FIELDS - {"traceparent"}

_IDS_OF_EXCLUDED: Final = {"session": 1, "device": 2}

_NO_INDENT: Final = -1
"""Has msgspec leave out all white space between the parts of JSON, and the parts as they are, numbers to the last digit."""

_encoder = msgspec.json.Encoder()


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a stream: its id, and its fields as Redis gives them, names and values in turn."""

    id: str
    flat: Sequence[bytes]

    @classmethod
    def of(cls, entry_id: str, fields: Iterable[tuple[bytes, bytes]]) -> Entry:
        """Return an entry of these fields, `(name, value)` in order."""
        return cls(entry_id, [part for field in fields for part in field])

    @property
    def fields(self) -> Iterator[tuple[bytes, bytes]]:
        """The fields, `(name, value)` in order."""
        parts = iter(self.flat)
        return zip(parts, parts, strict=True)

    @property
    def appended_ms(self) -> int:
        """Unix ms at which it was appended, by the clock of Redis (or of a producer that chose the id)."""
        return int(self.id.partition("-")[0])


class Message(msgspec.Struct, frozen=True, gc=False):
    """An entry that keeps the contract.

    Attributes:
        targets: without repeats, in the order given.
        id: the producer's, or one made of shard, entry id and a digest of the content.
        ts_ms: when it was appended, Unix ms, never in the future; or `at`, where that is later.
        content: `"body":<minified JSON>` or `"text":<JSON string>`, as it stands in the frame.
        expires_ms: Unix ms after which it is not delivered; None when only retention ends it.
        transient: not stored, no seq.
        trace: every stage is to tell of it.
        carried: traceparent and x-* fields.
        exclude: `session:<id>` or `device:<user>,<device>`, whom it passes by; "" for nobody.
        collapse: the key of which a replay sends only the newest; "" for none.
        at_ms: Unix ms before which it is not sent; None when it was past as it was appended, or was not given.
    """

    targets: tuple[str, ...]
    id: str
    ts_ms: int
    content: str
    expires_ms: int | None
    transient: bool
    trace: bool
    carried: tuple[tuple[str, str], ...]
    exclude: str = ""
    collapse: str = ""
    at_ms: int | None = None


def read_message(entry: Entry, shard: int, now_ms: int, settings: Settings) -> Message:
    """Return the message that an entry carries.

    Args:
        entry: as taken from the stream.
        shard: the stream's shard, which becomes part of an id that the producer did not give.
        now_ms: Unix ms; an entry id ahead of it counts as now.
        settings: the limits on body, targets and ttl.

    Raises:
        RuleBroken: naming the field and the rule.
    """
    values = _by_name(entry)
    appended_ms = entry.appended_ms
    ts_ms = min(now_ms, appended_ms)
    if values.keys() <= _USUAL_FIELDS:
        transient = len(values) > _LEAST_FIELDS and _flag(values, "transient")
        targets = _targets(values, settings.targets_max)
        message_id = _message_id(values, entry, shard) if "id" in values else made_id(entry, shard)
        content = read_content(values, settings.body_max_bytes)
        expires_ms = ts_ms + settings.transient_max_age_ms if transient else None
        return Message(targets, message_id, ts_ms, content, expires_ms, transient, False, ())
    transient, trace, targets = _flag(values, "transient"), _flag(values, "trace"), _targets(values, settings.targets_max)
    if trace and len(targets) > settings.targets_inline_max:
        raise RuleBroken("trace", f"a message to more than {settings.targets_inline_max} targets is not traced")
    at_ms = _at(values, ts_ms, transient, settings)
    return Message(
        targets=targets,
        id=_message_id(values, entry, shard),
        ts_ms=max(ts_ms, at_ms),
        content=read_content(values, settings.body_max_bytes),
        expires_ms=_expiry(values, max(ts_ms, at_ms), transient, settings),
        transient=transient,
        trace=trace,
        carried=() if values.keys() <= _NOT_CARRIED else _carried(values),
        exclude=_exclude(values),
        collapse=_collapse(values, transient),
        # Not what has passed by now: the next try would then give a seq to what this one has kept for later, before others
        # that have theirs already.
        at_ms=at_ms if at_ms > ts_ms else None,
    )


def _by_name(entry: Entry) -> dict[str, bytes]:
    flat = entry.flat
    names = flat[::2]
    if names == _DURABLE:
        return {"to": flat[1], "body": flat[3]}
    if names == _TRANSIENT:
        return {"to": flat[1], "body": flat[3], "transient": flat[5]}
    try:
        values = {_NAMES[name]: value for name, value in entry.fields}
    except KeyError:
        return _by_any_name(entry)
    return values if len(values) * 2 == len(entry.flat) else _by_any_name(entry)


def _by_any_name(entry: Entry) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    for raw_name, value in entry.fields:
        name = raw_name.decode("utf-8", "backslashreplace")
        if name not in FIELDS and not name.startswith(CARRIED_PREFIX):
            raise RuleBroken(name[:64], f"there is no such field (fields: {', '.join(sorted(FIELDS))}, x-*)")
        if name in values:
            raise RuleBroken(name[:64], "given twice")
        values[name] = value
    return values


def _text(values: dict[str, bytes], name: str) -> str | None:
    value = values.get(name)
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise RuleBroken(name[:64], f"is not UTF-8 (byte {exc.start})") from None


def _targets(values: dict[str, bytes], most: int) -> tuple[str, ...]:
    to = _text(values, "to")
    if to and is_target(to):
        return (to,)
    if not to:
        raise RuleBroken("to", "is missing (one or more targets, comma-separated)")
    parts = to.split(",", most)
    if len(parts) > most:
        raise RuleBroken("to", f"more than {most} targets")
    return tuple(dict.fromkeys(check_target(target) for target in parts))


def _message_id(values: dict[str, bytes], entry: Entry, shard: int) -> str:
    given = _text(values, "id")
    return made_id(entry, shard) if given is None else check_id(given, "id")


def made_id(entry: Entry, shard: int) -> str:
    """Return the message id of an entry that gives none: always the same for the same entry of a shard's stream."""
    # The digest tells entries apart whose stream began anew and counts the same ids once more.
    if len(entry.flat) == 2 * _LEAST_FIELDS:
        # The same as below, for nearly all in one step.
        to, whom, what, content = entry.flat
        told = b"%d %d %b%b%d %d %b%b" % (len(to), len(whom), to, whom, len(what), len(content), what, content)
    else:
        told = b"".join([b"%d %d %b%b" % (len(name), len(value), name, value) for name, value in entry.fields])
    return f"{shard}-{entry.id}-{blake2b(told, digest_size=4).hexdigest()}"


def read_content(values: dict[str, bytes], most: int) -> str:
    """Return the content of an entry with these fields, as it stands in the frame.

    Args:
        values: name → value.
        most: how many bytes the body, or the text, may have.

    Raises:
        RuleBroken: naming the field and the rule.
    """
    body, text = values.get("body"), values.get("text")
    if (body is None) == (text is None):
        raise RuleBroken("body", "exactly one of body and text is needed")
    name, value = ("text", text) if body is None else ("body", body)
    _check_length(name, value or b"", most)
    encoded = _encoder.encode(_text(values, name)) if body is None else _minified(body)
    if len(encoded) > CONTENT_MAX_BYTES:
        raise RuleBroken(name, f"longer than {CONTENT_MAX_BYTES} bytes as JSON ({len(encoded)})")
    return f'"{name}":{encoded.decode()}'


def _check_length(name: str, value: bytes, most: int) -> None:
    if len(value) > most:
        raise RuleBroken(name, f"longer than {most} bytes ({len(value)})")


def _minified(body: bytes) -> bytes:
    """Return the JSON without white space between its parts, which are left as they are, numbers to the last digit.

    A raw control byte is not allowed within a JSON string, so none is left in it.
    """
    try:
        check_json(body)  # which refuses more than the next call does, such as a number that no double can say
        return msgspec.json.format(body, indent=_NO_INDENT)
    except RecursionError:
        raise RuleBroken("body", "nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as exc:
        # It says where, which of what is nested deeply is a long way.
        raise RuleBroken("body", f"is not JSON ({str(exc)[:_SHOWN_CHARS]}); a plain text goes into the field text") from None


def _expiry(values: dict[str, bytes], ts_ms: int, transient: bool, settings: Settings) -> int | None:
    longest_ms = ts_ms + settings.transient_max_age_ms if transient else None
    ttl = _text(values, "ttl")
    if ttl is None:
        return longest_ms
    if not _TTL.fullmatch(ttl) or not 1 <= int(ttl) <= settings.retention_s:
        raise RuleBroken("ttl", f"{ttl[:32]!r} is not a whole number of seconds from 1 to {settings.retention_s:.0f}")
    expires_ms = ts_ms + int(ttl) * 1000
    return expires_ms if longest_ms is None else min(expires_ms, longest_ms)


def _at(values: dict[str, bytes], ts_ms: int, transient: bool, settings: Settings) -> int:
    """Return the time before which the message is not sent, Unix ms; 0 when none is given."""
    at = _text(values, "at")
    if at is None:
        return 0
    _refuse_transient("at", transient)
    latest_ms = ts_ms + int(settings.at_max_s * 1000)
    if not _AT.fullmatch(at) or int(at) > latest_ms:
        raise RuleBroken("at", f"{at[:32]!r} is not a time in Unix ms, at most {settings.at_max_s:.0f} seconds ahead")
    if int(at) < _AT_MIN_MS:
        raise RuleBroken("at", f"{at!r} is before 1973 in Unix ms: is it in seconds?")
    return int(at)


def _collapse(values: dict[str, bytes], transient: bool) -> str:
    key = _text(values, "collapse")
    if key is None:
        return ""
    _refuse_transient("collapse", transient)
    return check_id(key, "collapse")


def _refuse_transient(name: str, transient: bool) -> None:
    if transient:
        raise RuleBroken(name, "is for what is stored, and a transient message is not")


def _exclude(values: dict[str, bytes]) -> str:
    whom = _text(values, "exclude")
    if whom is None:
        return ""
    kind, colon, name = whom.partition(":")
    # A device is named behind its user; neither id has a comma.
    ids = {"session": [name], "device": name.split(",")}.get(kind, [])
    if not colon or len(ids) != _IDS_OF_EXCLUDED.get(kind):
        raise RuleBroken("exclude", f"{whom[:64]!r} is neither session:<id> nor device:<user>,<device>")
    for part in ids:
        check_id(part, "exclude")
    return whom


def _flag(values: dict[str, bytes], name: str) -> bool:
    if name not in values:
        return False
    value = _text(values, name) or ""
    if value not in _FLAGS:
        raise RuleBroken(name, f"{value[:32]!r} is not 1 (or 0)")
    return _FLAGS[value]


def _carried(values: dict[str, bytes]) -> tuple[tuple[str, str], ...]:
    names = [name for name in values if name == "traceparent" or name.startswith(CARRIED_PREFIX)]
    if len(names) > _CARRIED_MAX:
        raise RuleBroken("x-*", f"more than {_CARRIED_MAX} carried fields")
    return tuple((name, _carried_value(values, name)) for name in names)


def _carried_value(values: dict[str, bytes], name: str) -> str:
    value = _text(values, name) or ""
    if name != "traceparent" and not _CARRIED_NAME.fullmatch(name):
        raise RuleBroken(name[:64], "a carried field's name takes letters, digits, dot, underscore and hyphen")
    if max(len(name), len(value)) > _CARRIED_MAX_CHARS or _CONTROL.search(value):
        raise RuleBroken(name[:64], f"a carried field takes at most {_CARRIED_MAX_CHARS} characters, none of them control")
    return value
