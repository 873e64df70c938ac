"""A control frame of a client: read as Python's json reads it, in the protocol's shapes, or refused with `BadFrame`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from edge.client_frames import SEQ_MAX, BadFrame, Connect, Subscribe, Unsubscribe, checked_topic, decode, frame_options
from edge.closes import REASON_MAX_BYTES, Close
from router.targets import is_id

SEEDS: Final = (
    b'{"type":"connect","token":"a.b.c","device":"phone","since":{"user":1,"all":0,"topic:news":2},"topics":["news","sport"]}',
    b'{"type":"ack","seq":9007199254740991,"to":"topic:news"}',
    b'{"seq":0,"type":"ack"}',
    b'{"type":"subscribe","topic":"news","since":7,"presence":true}',
    b'{"type":"unsubscribe","topic":"n\\u00e9\\ud83d\\ude00"}',
    b' {"type":"token","token":"\\/\\b\\u007f"}\n',
    b'{"type":"ping"}',
    b'{"type":"ping","type":"ping"}',
    b'{"type":"ack","seq":1.0}',
    b'{"type":"ack","seq":-0}',
    b'{"type":"ack","seq":1e3}',
    b'{"type":"unsubscribe","topic":"\\ud800"}',
    b'{"type":"connect","token":"t","device":null,"since":null,"topics":null}',
    b'{"type":"subscribe","topic":"a b"}',
    b'{"type":"ack","seq":99999999999999999999999999}',
    b"[" * 2_000,
    b"\xef\xbb\xbf{}",
)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_seq(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SEQ_MAX


def _is_since(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_seq, value.values()))


def _is_topics(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _or_null(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


_Shape = Mapping[str, Callable[[object], bool]]

_NEEDED: Final[Mapping[str, _Shape]] = {
    "connect": {"token": _is_text},
    "ack": {"seq": _is_seq},
    "subscribe": {"topic": _is_text},
    "unsubscribe": {"topic": _is_text},
    "token": {"token": _is_text},
    "ping": {},
}
_OPTIONAL: Final[Mapping[str, _Shape]] = {
    "connect": {"device": _or_null(_is_text), "since": _or_null(_is_since), "topics": _or_null(_is_topics)},
    "ack": {"to": _or_null(_is_text)},
    "subscribe": {"since": _or_null(_is_seq), "presence": lambda value: isinstance(value, bool)},
}


class _Repeated(dict[str, Any]):
    """An object that has a name twice; the last value counts."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else _Repeated(made)


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _meaning_of(data: bytes) -> dict[str, Any] | None:
    """Return the frame as json reads it; None where it is no JSON, no frame, or holds half a surrogate pair."""
    try:
        said = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
        json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and _fits(said) else None


def _fits(said: dict[str, Any]) -> bool:
    kind = said.get("type")
    if not isinstance(kind, str) or kind not in _NEEDED:
        return False
    needed, optional = _NEEDED[kind], _OPTIONAL.get(kind, {})
    shape = {"type": _is_text, **needed, **optional}
    return said.keys() <= shape.keys() and needed.keys() <= said.keys() and all(shape[name](said[name]) for name in said)


def run(data: bytes) -> None:
    """Hold what is read against json; of an object with a name twice only that it is not read as something else."""
    meaning = _meaning_of(data)
    try:
        frame = decode(data)
    except BadFrame as exc:
        assert meaning is None or isinstance(meaning, _Repeated) or isinstance(meaning.get("since"), _Repeated), meaning
        _check_words(exc)
        return
    assert meaning is not None, frame
    for name, value in meaning.items():
        assert name == "type" or getattr(frame, name) == value, (name, frame)
    try:
        if isinstance(frame, Connect):
            _check_options(frame)
        elif isinstance(frame, Subscribe | Unsubscribe):
            assert is_id(checked_topic(frame))
    except BadFrame as exc:
        _check_words(exc)


def _check_options(frame: Connect) -> None:
    options = frame_options(frame)
    assert options.device is None or is_id(options.device)
    assert all(map(is_id, options.topics))
    for name in options.since:
        assert name in {"user", "all"} or (name.startswith("topic:") and is_id(name[6:])), name


def _check_words(exc: BadFrame) -> None:
    """See to it that what is said fits into the frames that say it."""
    assert str(exc).encode()
    assert len(str(exc)) < 2_000, "more than a client is shown again"
    assert len(Close.BAD_FRAME.reason(str(exc)).encode()) <= REASON_MAX_BYTES
