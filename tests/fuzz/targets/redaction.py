"""What goes into a log, whatever came over a wire: no secret, no control character, a bounded length, and in no time.

Choices make an event: names, texts, and secrets spelt as they may be within them.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final
from urllib.parse import quote

from router.redaction import HIDDEN, TRACEBACK, TRACEBACK_MAX_CHARS, VALUE_MAX_CHARS, Redaction
from tests.fuzz.inputs import Choices

_SECRETS: Final = ("hunter2-and-more", 'p@ss/wö"rd\\ %41', "a" * 20)
_TOLD_CHARS: Final = 40
"""Of how much longer it is, behind a text that was cut."""

_LONG_CHARS: Final = 20_000
_LONG_MAX_S: Final = 2.0
"""CPU time of a text that long: a hundred times what it takes, and far below its square."""

_redaction: Final = Redaction(_SECRETS)

SEEDS: Final = (
    b"\x00\x05error\x14redis://user:pa@host\x00\x00",
    b"\x01\x03url\x09http://a?\x00\x10&token=abc.def.g",
    b"\x02\x09exception\x05a\nb\rc\x01\x03x\x1by",
    b"\x03\x05token\x03abc\x00\x00",
    b"\x00\x05error\x20eyJhbGciOiJFZERTQSJ9.eyJzdWIiOi\x00\x05.abcd",
    b"\x00\x05error\x0dBearer abc'de\x02\x05\x22body",
    b"\x04\x01a\x07eyJ-eyJ\x00\x00",
    b"\x04\x01a\x06://a/@\x00\x00",
    b"\x04\x01a\x04'op'\x00\x00",
    b"\x00\x05error\x1einvalid literal for int() with\x00\x10 base 10: 'abcd'",
)


def run(data: bytes) -> None:
    """Redact an event, alone and within others."""
    choices = Choices(data)
    kind = choices.byte()
    name, before = choices.text(), choices.text()
    secret = _SECRETS[kind % 3]
    spelt = choices.one_of((secret, quote(secret, safe=""), json.dumps(secret)[1:-1]))
    text = f"{before * (1 + kind // 8)}{spelt}{choices.text()}"
    told = _redaction.event(
        {name: text, "more": {"deep": [text, {"inner": text}]}, "words": ValueError(text), "raw": text.encode()}
    )
    _check(told)
    assert not any(spelt in one for one in _texts(told))
    if kind & 4:
        _check_time((before or "a") * _LONG_CHARS)


def _check(told: Any) -> None:  # noqa: ANN401 - an event holds anything
    """See to it that every text is fit for a log."""
    for name, value in told.items():
        is_traceback = name == TRACEBACK
        for text in _texts(value):
            most = TRACEBACK_MAX_CHARS if is_traceback else VALUE_MAX_CHARS
            assert len(text) <= most + _TOLD_CHARS
            assert all(char >= " " or (is_traceback and char == "\n") for char in text), text
            assert not any("\x7f" <= char <= "\x9f" or char in "\u2028\u2029" for char in text), text
    assert told["raw"].endswith(" bytes>") or told["raw"] == HIDDEN


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _check_time(text: str) -> None:
    began_s = time.process_time()
    _redaction.text(text[:_LONG_CHARS])
    assert time.process_time() - began_s < _LONG_MAX_S
