"""What came over the fast lane, before it is sent: what passes is one object of the right members, as collect would take it."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from edge.fast import fault_of
from router.collect.entries import read_content
from router.errors import RuleBroken
from tests.fuzz.inputs import Choices

_HEAD: Final = b'{"type":"message","to":"user:a","id":"m","ts":5,"body":'

SEEDS: Final = (
    b'\x00{"a":[1,2.5,"x"]}',
    b'\x001,"to":"user:bob"',
    b"\x001e999",
    b"\x001.7976931348623158e308",
    b"\x00-1e-999",
    b"\x00NaN",
    b"\x00" + b"[" * 1_500 + b"]" * 1_500,
    b'\x00"\\ud800"',
    b'\x00"\xff"',
    b'\x00"\x7f"',
    b"\x00 1 ",
    b"\x00",
    b"\x001}{",
    b"\x00" + b"9" * 400,
    b"\x01" + _HEAD + b"1}",
    b"\x01" + _HEAD.replace(b"body", b"text") + b'"hello"}',
    b"\x01" + _HEAD.replace(b'"ts"', b'"seq":5,"ts"') + b"1}",
    b"\x01" + _HEAD.replace(b"user:a", b'user:a","to":"user:b') + b"1}",
)


def run(data: bytes) -> None:
    """Hold a frame that passes against json; of a content that json refuses, none may pass."""
    choices = Choices(data)
    is_whole = choices.flag()
    content = choices.rest()
    frame = content if is_whole else _HEAD + content + b"}"
    fault = fault_of(frame)
    if fault is not None:
        fault.encode()
        assert is_whole or not (_is_good(content) or _is_taken(content)), fault
        return
    pairs = json.loads(frame.decode(), object_pairs_hook=_outermost_last)
    assert [name for name, _ in pairs] in (
        ["type", "to", "id", "ts", "body"],
        ["type", "to", "id", "ts", "text"],
    )
    assert is_whole or (_is_good(content) and _is_taken(content))


def _outermost_last(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return pairs


def _is_good(content: bytes) -> bool:
    """Tell whether a content is JSON that everybody reads, by Python's json, strictly."""
    try:
        said = json.loads(content.decode(), parse_constant=_refuse, parse_float=_finite)
        json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _is_taken(content: bytes) -> bool:
    """Tell whether collect takes it as a body, so that both lanes take the same."""
    try:
        read_content({"body": content}, len(content))
    except RuleBroken:
        return False
    return True


def _refuse(name: str) -> object:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return number
