"""edge.preface: the PROXY protocol, in both versions."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.preface import PREFACE_MAX_BYTES, Preface, Unannounced, read_preface

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FOUR = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 56324, 443)
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "::1") + struct.pack("!HH", 1, 2)
TLV = b"\x04\x00\x02hi"


def binary(command: int, family: int, said: bytes) -> bytes:
    """Return a preface of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(said)) + said


GOOD = [
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n", "203.0.113.7"),
    (b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", "2001:db8::7"),
    (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", "ffff:" * 7 + "ffff"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN 203.0.113.7 192.0.2.1 1 2\r\n", None),
    (binary(0x21, 0x11, FOUR), "203.0.113.7"),
    (binary(0x21, 0x11, FOUR + TLV), "203.0.113.7"),
    (binary(0x21, 0x21, SIX), "2001:db8::7"),
    (binary(0x21, 0x12, FOUR), "203.0.113.7"),
    (binary(0x21, 0x31, bytes(216)), None),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x00, TLV), None),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, FOUR), None),
    (binary(0x21, 0x11, FOUR + bytes(PREFACE_MAX_BYTES - 16 - len(FOUR))), "203.0.113.7"),
]
BAD = [
    b"GET /v1/connect HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00",
    b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
    b"PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n" + bytes(100),
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 2\r\n",
    b"PROXY TCP4 203.0.113.007 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
    b"PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 \xd9\xa1.0.0.1 192.0.2.1 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UNKNOWN" + b" " * 95,
    SIGNATURE[:-1] + b"!",
    binary(0x11, 0x11, FOUR),
    binary(0x22, 0x11, FOUR),
    binary(0x21, 0x41, FOUR),
    binary(0x21, 0x13, FOUR),
    binary(0x21, 0x11, FOUR[:-1]),
    binary(0x21, 0x21, SIX[:-1]),
    binary(0x21, 0x31, bytes(215)),
    binary(0x21, 0x11, bytes(PREFACE_MAX_BYTES)),
]


@pytest.mark.parametrize(("said", "source"), GOOD)
def test_a_preface_is_read(said: bytes, source: str | None) -> None:
    """Whose connection it is, and where the client's own bytes begin, however it comes."""
    for behind in (b"", b"GET / HTTP/1.1\r\n", said):
        assert read_preface(said + behind) == Preface(source, len(said))


@pytest.mark.parametrize(("said", "source"), GOOD)
def test_more_is_waited_for(said: bytes, source: str | None) -> None:
    """Of any beginning of it nothing is taken for the whole."""
    del source
    assert [read_preface(said[:size]) for size in range(len(said))] == [None] * len(said)


@pytest.mark.parametrize("said", BAD)
def test_what_is_no_preface(said: bytes) -> None:
    """It is told as soon as it can be: nothing that comes later mends it."""
    with pytest.raises(Unannounced):
        read_preface(said)


@given(st.binary(max_size=200).flatmap(lambda said: st.sampled_from([said, SIGNATURE + said, b"PROXY " + said])))
def test_any_bytes(said: bytes) -> None:
    """They are a preface, the beginning of one, or none; and no more is ever waited for than the longest takes."""
    try:
        found = read_preface(said)
    except Unannounced:
        return
    if found is None:
        with suppress(Unannounced):
            assert read_preface(said + b" " * PREFACE_MAX_BYTES) is not None
