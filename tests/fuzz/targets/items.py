"""The body of a request to append: messages as collect would take them, or the documented problem; both ways of reading agree.

The first byte says whether there is an Idempotency-Key. What follows is the body.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

import msgspec

from router.api.append import reading
from router.api.append.reading import Posted, read_items, read_posted
from router.collect.entries import CONTENT_MAX_BYTES, Entry, Message, read_message
from router.errors import RuleBroken
from router.http.problems import Problem, document_of
from router.settings import Settings
from router.targets import is_id, is_target

_SETTINGS: Final = Settings(body_max_bytes=500, targets_max=4)
_ITEMS_MAX: Final = 6
_NOW_MS: Final = 1_732_262_400_999

SEEDS: Final = (
    b'\x00{"to":"user:alice","body":{"text":"hello", "n":1.50}}',
    b'\x01[{"to":["user:a","topic:b"],"text":"\\u00e9\\ud83d\\ude00","ttl":60.0},{"to":"all","body":null,"transient":true}]',
    b'\x00{"to":"user:a","body":1,"id":"m","trace":true,"traceparent":"00-1","x-a":"b","exclude":"device:a,b","collapse":"k"}',
    b'\x00{"to":"user:a","body":1,"at":99999999999999}',
    b'\x01{"to":"user:a","body":1,"id":"other"}',
    b'\x01{"to":"user:a","body":1,"id":"key"}',
    b'\x00{"to":"user:a","body":1,"id":"a b"}',
    b'\x00{"to":"user:a,user:a","text":"\\ud800"}',
    b'\x00{"to":["a,b"],"body":1}',
    b'\x00{"to":"user:a","body":1,"body":2}',
    b'\x00{"to":"user:a","to":"user:b","body":2}',
    b"\x00[1,2,[],{}]",
    b"\x00[" + b"1," * 8 + b"1]",
    b'\x00["\\"," , ",", {"a":[1,2,3]}]',
    b"\x00" + b"[" * 1_500,
    b"\x00[]",
    b'\x00{"to":"user:a","body":' + b"[" * 400 + b"]" * 400 + b"}",
    b'\x00{"to":"user:a","text":"' + b"x" * 501 + b'"}',
    b'\x00{"to":"user:a","body":1e400}',
    b'\x00{"to":"user:a","body":1,"ttl":1e3}',
    b'\x00{"to":"user:a","body":1,"ttl":-0.0}',
    b'\x00{"to":"user:a","body":1,"transient":1}',
    b"\x00\xef\xbb\xbf{}",
)


def run(data: bytes) -> None:
    """Read the items of a request."""
    key = "key" if data[:1] and data[0] & 1 else None
    body = data[1:]
    try:
        items, many = read_items(body, _ITEMS_MAX)
    except Problem as exc:
        assert exc.status_code in {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
        if exc.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            _check_too_many(body)
        _check_document(exc)
        return
    assert 1 <= len(items) <= _ITEMS_MAX
    assert many == body.lstrip().startswith(b"[")
    for item in items:
        _read(bytes(item), key)


def _check_too_many(body: bytes) -> None:
    """See to it that an array which is refused for its length has it, where it is JSON at all."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return
    assert len(said) > _ITEMS_MAX


def _check_document(exc: Problem | RuleBroken) -> None:
    """See to it that the problem can be sent, and says which field."""
    document = json.loads(msgspec.json.encode(document_of(exc)))
    assert document["detail"]
    assert len(document["detail"]) < 2_000, "longer than what it is about"


def _read(raw: bytes, key: str | None) -> None:
    plainly = reading._read_plainly(raw, key, "made", _SETTINGS)
    try:
        exactly = reading._read_exactly(raw, key, "made", _SETTINGS)
    except RuleBroken as exc:
        assert plainly is None, plainly
        _check_document(exc)
        return
    _check(exactly)
    if plainly is not None:
        assert (plainly.targets, plainly.id, plainly.transient, plainly.named, plainly.content) == (
            exactly.targets,
            exactly.id,
            exactly.transient,
            exactly.named,
            exactly.content,
        )
        assert _message_of(plainly) == _message_of(exactly)
    assert read_posted(raw, key, "made", _SETTINGS).id == exactly.id


def _check(posted: Posted) -> None:
    """See to it that what is appended is no dead letter."""
    assert all(map(is_target, posted.targets))
    assert is_id(posted.id)
    message = _message_of(posted)
    assert (message.targets, message.id, message.transient) == (posted.targets, posted.id, posted.transient)
    assert message.content == posted.content
    assert len(posted.content) <= CONTENT_MAX_BYTES


def _message_of(posted: Posted) -> Message:
    """Return the message that collect will read."""
    return read_message(Entry.of(f"{_NOW_MS}-0", posted.fields), 0, _NOW_MS, _SETTINGS.model_copy(update={"at_max_s": 1e9}))
