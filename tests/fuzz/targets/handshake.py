"""The bytes before the first frame: a documented answer or none, bounded memory, and the same for any cut into reads.

The first byte of an input chooses the cuts; the others are what a client sends.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha1
from typing import Final
from urllib.parse import urlsplit

from edge.client_frames import BadFrame, query_options
from edge.origins import is_allowed
from edge.upgrade import PATH, read_bearer
from tests.fuzz.inputs import cut
from tests.fuzz.lone_edge import Lone

_LINE_MAX_BYTES: Final = 8_192
"""Most that waits for the end of a line, beside what came in the same read."""

_ANSWERS: Final = frozenset({b"101", b"400", b"404", b"405", b"414", b"426", b"431", b"505"})
_HEADER: Final = re.compile(rb"[A-Za-z-]+: [\x20-\x7e\x80-\xff]*")
_DATE: Final = re.compile(rb"Date: [^\r]+")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_GOOD: Final = (
    f"GET {PATH}?device=phone&since=1,all:2,topic:n:3&topics=a,b HTTP/1.1\r\nHost: edge:8002\r\nUpgrade: websocket\r\n"
    "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: other, pushway.v1\r\nOrigin: http://edge\r\nAuthorization: Bearer a.b.c\r\n\r\n"
).encode()

_USUAL: Final = _GOOD.replace(b"other, ", b"")

SEEDS: Final = (
    b"\x00" + _GOOD,
    b"\x00" + _USUAL,
    b"\x01" + _USUAL.replace(b"Host: edge:8002", b"Host: edge\r\nhost: edge"),
    b"\x02" + _USUAL.replace(b"topics=a,b", b"topics=#a"),
    b"\x03" + _USUAL.replace(b"HTTP/1.1", b"HTTP/1.0"),
    b"\x04" + _USUAL.replace(b"Host", b"Content-Length: 1\r\nHost"),
    b"\x05" + _USUAL.replace(b": 13", b": 13 "),
    b"\x01" + _GOOD + b"\x81\x82\x00\x00\x00\x00{}",
    b"\x02" + _GOOD.replace(b"GET", b"POST"),
    b"\x03" + _GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    b"\x04" + _GOOD.replace(PATH.encode(), b"/"),
    b"\x05" + _GOOD.replace(PATH.encode(), b"http://[" + PATH.encode()),
    b"\x06" + _GOOD.replace(b"AAAA==", b"AA=="),
    b"\x07" + _GOOD.replace(b"13", b"12"),
    b"\x08" + _GOOD.replace(b"Upgrade: websocket\r\n", b""),
    b"\x09" + _GOOD.replace(b"Host", b"Content-Length: 0\r\nHost"),
    b"\x0a" + _GOOD.replace(b"Host", b"Content-Length: 3\r\nHost"),
    b"\x0b" + _GOOD.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"),
    b"\x0c" + _GOOD.replace(b"Host", b"Origin: null\r\nHost"),
    b"\x0d" + _GOOD.replace(b"\r\n", b"\n"),
    b"\x0e" + _GOOD.replace(b"Host: ", b"Host : "),
    b"\x0f" + _GOOD.replace(b"Connection: ", b"Connection:\r\n "),
    b"\x10" + _GOOD.replace(b"pushway.v1", b"\xff"),
    b"\x11" + b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 129 + b"\r\n",
    b"\x12" + b"GET /" + b"a" * 900 + b" HTTP/1.1\r\n\r\n",
    b"\x13" + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x14" + b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)


def run(data: bytes) -> None:
    """Hold the answer against what may be answered, and against that to the same bytes in other parts."""
    seed, sent = data[0] if data else 0, data[1:]
    lone = Lone((sent,))
    answer = _answer_of(lone)
    other = Lone(cut(sent, 1 + seed))
    assert _answer_of(other) == answer
    assert other.heard.__dict__ == lone.heard.__dict__
    assert other.waiting_max_bytes <= _LINE_MAX_BYTES + 1_000
    if answer.startswith(b"HTTP/1.1 101"):
        _check_upgrade(lone, sent, answer)
    else:
        assert not lone.heard.upgrades and not lone.heard.texts
    for one in (lone, other):
        one.end()


def _answer_of(lone: Lone) -> bytes:
    """Return all that was sent but for the time, once it is seen to be an answer that is documented."""
    sent = lone.sent
    if not sent:
        return b"end" if lone.transport.ended else b""
    head, _, body = sent.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    version, code, _ = status.split(b" ", 2)
    assert version == b"HTTP/1.1"
    assert code in _ANSWERS, head
    assert all(_HEADER.fullmatch(header) for header in headers), headers
    assert code == b"101" or (lone.transport.ended and b"Content-Length: %d" % len(body) in headers), sent
    return _DATE.sub(b"", sent, count=1)


def _check_upgrade(lone: Lone, sent: bytes, answer: bytes) -> None:
    """See to it that only a good request is upgraded, and that whatever it says can be read."""
    line, _, rest = sent.partition(b"\r\n")
    method, address, version = line.split(b" ")
    assert (method, version, urlsplit(address.decode()).path) == (b"GET", b"HTTP/1.1", PATH)
    headers = _headers_of(rest.partition(b"\r\n\r\n")[0])
    (key,) = headers[b"sec-websocket-key"]
    accept = b64encode(sha1(key + _GUID).digest())  # noqa: S324 - the RFC's
    assert b"Sec-WebSocket-Accept: %b\r\n" % accept in answer
    assert headers[b"sec-websocket-version"] == [b"13"]
    assert b"websocket" in b",".join(headers[b"upgrade"]).lower()
    assert b"upgrade" in b",".join(headers[b"connection"]).lower()
    assert set(headers.get(b"content-length", [])) <= {b"0"} and b"transfer-encoding" not in headers
    (upgrade,), (request,) = lone.heard.upgrades, lone.host.requests
    origins = headers.get(b"origin", [])
    assert upgrade.origin == (None if not origins else origins[0].decode("latin-1") if len(origins) == 1 else "")
    assert (upgrade.token is None) == (b"authorization" not in headers)
    _read(upgrade.query, upgrade.origin, upgrade.host)
    read_bearer(request, "203.0.113.7", ("Cookie", "Origin", "X-Key"))


def _headers_of(block: bytes) -> dict[bytes, list[bytes]]:
    headers: dict[bytes, list[bytes]] = {}
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return headers


def _read(query: Mapping[str, str], origin: str | None, host: str) -> None:
    try:
        query_options(query)
    except BadFrame as exc:
        assert str(exc)
    is_allowed(origin, host, ())
    is_allowed(origin, host, ("https://*.example.com", "http://edge"))
