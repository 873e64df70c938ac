"""What a producer appends: a message whose line and frame say what was meant, and nothing else, or the field and rule broken.

An input is names and values in turn, a 0x01 between them.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from edge.delivery import Delivery
from edge.position import Position
from router.collect.entries import FIELDS, Entry, Message, read_message
from router.errors import RuleBroken
from router.lines import build_frame, build_line, content_of, id_of, read_opts
from router.settings import Settings
from router.targets import is_id, is_target
from tests.unit.edge.outlets import KeptOutlet

_SETTINGS: Final = Settings(body_max_bytes=2_000, targets_max=5)
_NOW_MS: Final = 1_732_262_400_999
_ENTRY: Final = f"{_NOW_MS - 5}-0"
_SEPARATOR: Final = b"\x01"
_PLACE: Final = (10, 11)

SEEDS: Final = (
    b'to\x01user:alice\x01body\x01{"text":"hello", "n": [1, 2.50, 1e3]}',
    b'to\x01user:alice,topic:news,all\x01text\x01hello \xc3\xa9 \x7f "\\ \xe2\x80\xa8',
    b"to\x01user:a\x01id\x01m-1\x01ttl\x0160\x01exclude\x01device:a,phone\x01collapse\x01k\x01body\x01null",
    b"to\x01user:a\x01at\x011732262500000\x01trace\x011\x01traceparent\x0100-00-00-00\x01x-a\x01b\x01body\x01[]",
    b"to\x01all\x01transient\x011\x01ttl\x015\x01exclude\x01session:1%;=\x01body\x010",
    b"to\x01user:a b\x01body\x011",
    b"to\x01user:a\x01body\x01[1,]",
    b"to\x01user:a\x01body\x011e999",
    b"to\x01user:a\x01body\x01NaN",
    b"to\x01user:a\x01body\x01" + b"[" * 1_500 + b"]" * 400,
    b'to\x01user:a\x01body\x01"\\ud800"',
    b'to\x01user:a\x01body\x01{"a":1,"a":2}',
    b"to\x01user:a\x01body\x01\xef\xbb\xbf1",
    b"to\x01user:a\x01to\x01user:b\x01body\x011",
    b"to\x01user:a\x01colour\x01red\x01body\x011",
    b"to\x01user:a\x01text\x01a\nb\r\nuser:bob 1 2 - {}",
    b"to\x01user:a\x01text\x01\xff",
    b'to\x01user:a\x01body\x01"' + b"x" * 2_000 + b'"',
    b'to\x01user:a\x01body\x01 \n{\n"a"\t:\r1}\n ',
    b'to\x01user:a\x01body\x011,"to":"user:bob"',
)


def run(data: bytes) -> None:
    """Read an entry; what keeps the contract goes all the way to an outlet of an edge."""
    parts = data.split(_SEPARATOR)
    fields = list(zip(parts[::2], parts[1::2], strict=False))
    try:
        message = read_message(Entry.of(_ENTRY, fields), 0, _NOW_MS, _SETTINGS)
    except RuleBroken as exc:
        _check_refusal(exc, fields)
        return
    _check_message(message, dict(fields))
    for target in message.targets:
        for place in (_PLACE, None):
            _check_line(message, target, place)


def _check_refusal(exc: RuleBroken, fields: list[tuple[bytes, bytes]]) -> None:
    """See to it that field and rule are named, and can be kept, whatever was sent."""
    assert exc.rule, exc
    assert len(exc.rule) < 1_000
    str(exc).encode()
    given = {name.decode("utf-8", "backslashreplace")[:64] for name, _ in fields}
    assert exc.field in FIELDS | given | {"x-*"}, exc.field


def _check_message(message: Message, values: dict[bytes, bytes]) -> None:
    assert all(map(is_target, message.targets))
    assert len(set(message.targets)) == len(message.targets) <= _SETTINGS.targets_max
    assert set(message.targets) == set(values[b"to"].decode().split(","))
    assert is_id(message.id)
    assert message.ts_ms >= _NOW_MS - 5
    assert message.expires_ms is None or message.expires_ms > message.ts_ms
    assert not message.collapse or is_id(message.collapse)
    for name, value in message.carried:
        assert values[name.encode()].decode() == value
    said: dict[str, Any] = json.loads(f"{{{message.content}}}")
    assert len(said) == 1
    if b"text" in values:
        assert said == {"text": values[b"text"].decode()}
    else:
        assert said["body"] == json.loads(values[b"body"].decode(), parse_constant=_refuse, parse_float=_finite)
    assert not any(char < " " for char in message.content)


def _refuse(name: str) -> object:
    raise AssertionError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    assert math.isfinite(number), digits
    return number


def _check_line(message: Message, target: str, place: tuple[int, int] | None) -> None:
    """Build the line, and have an edge deliver it: to whom it is for, and for nobody else."""
    prev, seq = place or (None, None)
    frame = build_frame(target, seq, message.id, message.ts_ms, message.content)
    line = build_line(target, prev, seq, message.expires_ms, frame, trace=message.trace, exclude=message.exclude)
    raw = line.encode()
    assert raw.count(b"\n") == 0
    assert not any(byte < 0x20 for byte in raw)
    assert (content_of(frame), id_of(frame.encode())) == (message.content, message.id)
    opts = read_opts(raw.split(b" ", 4)[3])
    assert (opts.expires_ms, opts.traced, opts.fast, opts.exclude) == (
        message.expires_ms,
        message.trace,
        False,
        message.exclude,
    )
    said = json.loads(frame)
    numbered = {} if seq is None else {"seq": seq}
    content = json.loads(f"{{{message.content}}}")
    assert said == {"type": "message", "to": target, **numbered, "id": message.id, "ts": message.ts_ms, **content}
    if message.expires_ms is None:
        _check_delivery(target, raw, frame.encode(), message.exclude)


def _check_delivery(target: str, line: bytes, frame: bytes, exclude: str) -> None:
    outlets = {name: KeptOutlet(f"session:{name}") for name in ("here", "bob")}
    positions = {name: Position(outlet, target, 10_000) for name, outlet in outlets.items()}
    for position in positions.values():
        position.start(10)
    audiences = {b"user:bob": [positions["bob"]], target.encode(): [positions["here"]]}
    Delivery(audiences, lambda _: None).receive([line])
    assert not outlets["bob"].frames
    passed_by = exclude == "session:here"
    assert [sent[-len(frame) :] for sent in outlets["here"].frames] == ([] if passed_by else [frame])
