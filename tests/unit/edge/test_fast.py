"""edge.fast: which frames of the fast lane may be sent."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.fast import fault_of


def frame(content: bytes, name: bytes = b"body", target: bytes = b"user:alice") -> bytes:
    """Return what dispatch.lua makes of a content."""
    return b'{"type":"message","to":"' + target + b'","id":"0-1-0","ts":1732262400999,"' + name + b'":' + content + b"}"


SLOW_MAX_S = 1.5
"""For 200 bodies of 64 KiB; a third of a second is enough, and the decoder's own way takes four."""

GOOD = [
    b"1",
    b" 1 ",
    b"null",
    b'""',
    b'{"a": [1, 2.50, -0, 1e-7], "a": {}}',
    '"grüße 👋"'.encode(),
    b'"\\ud83d\\udc4b \\n \\\\ \\""',
    b'{"to":"user:bob","type":"kicked","seq":1}',
    b'",\\"body\\":1"',
    b"[" * 100 + b"]" * 100,
]

HOSTILE = {
    "empty": b"",
    "space": b" ",
    "forged member": b'1,"to":"user:bob"',
    "forged member and brace": b'1},{"to":"user:bob"',
    "closed early": b"1}",
    "open": b'{"a":1',
    "open string": b'"a',
    "two values": b"1 2",
    "comma": b"1,",
    "bare word": b"hello",
    "single quotes": b"{'a':1}",
    "comment": b"1/**/",
    "not a number": b"NaN",
    "nested not a number": b"[NaN]",
    "infinity": b"-Infinity",
    "out of range": b"1e999",
    "leading zero": b"01",
    "byte order mark": b"\xef\xbb\xbf1",
    "null byte": b"1\x00",
    "newline in a string": b'"a\nb"',
    "newline behind": b"1\nuser:bob - - - {}",
    "stray byte": b'"\xff"',
    "stray byte in a name": b'{"\xff":1}',
    "stray byte outside": b"\xff1",
    "cut sequence": b'"\xe2\x82"',
    "overlong slash": b'"\xc0\xaf"',
    "overlong quote": b'"\xc0\xa2"',
    "half of a pair": b'"\xed\xa0\x80"',
    "escaped half of a pair": b'"\\ud800"',
    "above unicode": b'"\xf4\x90\x80\x80"',
    "unknown escape": b'"\\x41"',
    "nested too deeply": b"[" * 100_000 + b"]" * 100_000,
    "trailing comma": b'{"a":1,}',
}


@pytest.mark.parametrize("content", GOOD)
def test_one_value_passes(content: bytes) -> None:
    """Any JSON value, whatever it says and with spaces around it."""
    assert fault_of(frame(content)) is None


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_anything_else_is_refused(content: bytes) -> None:
    """Less than a value, more than one, or bytes that no client may be sent."""
    assert fault_of(frame(content))


def test_texts_too() -> None:
    """A text is a JSON string by then; only its UTF-8 is still to be proved."""
    assert fault_of(frame(b'"a \\n b"', name=b"text")) is None
    assert fault_of(frame(b'"a \xff b"', name=b"text"))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        b"1",
        frame(b"1")[:-1],
        frame(b"1") + b" ",
        frame(b"1", name=b"data"),
        frame(b"1").replace(b'"ts":', b'"seq":1,"ts":'),
        frame(b"1", target=b'user:a","to":"user:b'),
        b" " + frame(b"1"),
    ],
)
def test_a_frame_of_another_make_is_refused(bad: bytes) -> None:
    """What is not framed as dispatch.lua frames it has not come through dispatch.lua."""
    assert fault_of(bad) == "the frame is not one of dispatch.lua's"


@given(content=st.binary(max_size=40) | st.text(alphabet='{}[]",:1 \\', max_size=20).map(str.encode))
def test_what_passes_says_what_was_put_in(content: bytes) -> None:
    """The whole is then an object of exactly five members, the last of them the content, each once."""
    if fault_of(frame(content)) is None:
        pairs = json.loads(frame(content), object_pairs_hook=list)
        assert [name for name, _ in pairs] == ["type", "to", "id", "ts", "body"]
        assert pairs[1][1] == "user:alice"
        assert pairs[4][1] == json.loads(content, object_pairs_hook=list)


@given(
    whole=st.integers(min_value=-(10**40), max_value=10**40),
    fraction=st.text("0123456789", max_size=40),
    power=st.integers(-400, 400) | st.sampled_from([10**18, -(10**18), 307, 308, 309]),
)
@example(1, "7976931348623158", 308)
@example(1, "7976931348623159", 308)
def test_numbers_are_those_of_collect(whole: int, fraction: str, power: int) -> None:
    """What collect's decoder takes passes, to the largest that a double can say, and nothing above it."""
    number = f"{whole}{'.' * bool(fraction)}{fraction}e{power}".encode()
    try:
        msgspec.json.decode(number)
    except msgspec.DecodeError:
        assert fault_of(frame(number))
    else:
        assert fault_of(frame(number)) is None


def test_numbers_that_are_hard_to_read_cost_no_more() -> None:
    """The smallest doubles: everybody on this edge waits while they are read."""
    content = b"[" + b",".join([b"2.2250738585072011e-323"] * 2_700) + b"]"
    began_s = time.process_time()
    assert not any(fault_of(frame(content)) for _ in range(200))
    assert time.process_time() - began_s < SLOW_MAX_S


@pytest.mark.parametrize("target", [b"user:\x18", b"user:\n", b"user:\\", b"user:\xff", b"user:\xed\xa0\x80"])
def test_a_head_that_no_client_could_read_is_a_fault(target: bytes) -> None:
    """dispatch.lua writes none, but whoever may publish to a node's channel can say that it did."""
    assert fault_of(frame(b"1", target=target)) is not None
