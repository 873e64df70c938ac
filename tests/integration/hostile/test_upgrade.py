"""The upgrade request, where two readers could understand it differently: RFC 9112, and RFC 6455 section 4.2.

In front of an edge stands a balancer that has read the same bytes, and lets them pass for what it took them for. So each row
says what a lenient one would make of it; what we make of it is refused, or cannot be anything else.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from tests.integration.edges import Edge
from tests.integration.hostile.wire import CLOSE, KEYS, dial, text

pytestmark = pytest.mark.anyio

LINE: Final = b"GET /v1/connect HTTP/1.1\r\n"
HOST: Final = b"Host: push.example\r\n"
END: Final = b"\r\n"
GOOD: Final = LINE + HOST + KEYS + END

CUT: Final = b""
"""No answer: what cannot be read as a request has nobody who could read one."""


class Row(NamedTuple):
    """A request.

    Attributes:
        section: whose rule it breaks, or stretches.
        what: is odd.
        lenient: what a lenient reader makes of it.
        sent: the bytes.
        answer: the status, CUT where there is none.
    """

    section: str
    what: str
    lenient: str
    sent: bytes
    answer: bytes


def _line(line: bytes) -> bytes:
    return line + b"\r\n" + HOST + KEYS + END


def _with(header: bytes) -> bytes:
    return LINE + HOST + KEYS + header + END


_TWO = b"GET /v1/connect HTTP/1.1\r\nHost: push.example\r\n\r\n"

REFUSED: Final = [
    # -- line ends
    Row("9112 2.2", "bare LF", "reads it as CR LF", GOOD.replace(b"\r\n", b"\n"), CUT),
    Row("9112 2.2", "bare LF behind a header", "reads two headers", _with(b"X-A: 1\nX-B: 2\r\n"), CUT),
    Row("9112 2.2", "bare CR in a header", "ends the line there", _with(b"X-A: 1\rX-B: 2\r\n"), CUT),
    Row("9112 2.2", "bare CR in the address", "ends the line there", _line(b"GET /v1/connect?a=1\rx HTTP/1.1"), b"400"),
    Row("9112 2.2", "CR CR LF", "drops one", LINE + b"Host: push.example\r\r\n" + KEYS + END, CUT),
    Row("9112 2.2", "white space before the first header", "drops the line", LINE + b" X: y\r\n" + HOST + KEYS + END, CUT),
    Row("9112 2.2", "an empty line before the request", "drops it", b"\r\n" + GOOD, CUT),
    # -- the request line
    Row("9112 3", "two spaces", "reads one", _line(b"GET  /v1/connect HTTP/1.1"), CUT),
    Row("9112 3", "tabs", "reads spaces", _line(b"GET\t/v1/connect\tHTTP/1.1"), CUT),
    Row("9112 3", "a space in the address", "takes all of it", _line(b"GET /v1/connect?a b HTTP/1.1"), CUT),
    Row("9112 3", "no version", "reads HTTP/0.9", _line(b"GET /v1/connect"), CUT),
    Row("9112 3", "HTTP/1.0", "keeps or ends the connection", _line(b"GET /v1/connect HTTP/1.0"), b"505"),
    Row("9112 3", "HTTP/1.2", "reads 1.1", _line(b"GET /v1/connect HTTP/1.2"), CUT),
    Row("9112 3", "a lower-case version", "reads 1.1", _line(b"GET /v1/connect http/1.1"), CUT),
    Row("9112 3", "a space behind the version", "drops it", _line(b"GET /v1/connect HTTP/1.1 "), CUT),
    Row("9112 3.1", "a lower-case method", "reads GET", _line(b"get /v1/connect HTTP/1.1"), b"405"),
    Row("9112 3.1", "POST", "waits for a body", _line(b"POST /v1/connect HTTP/1.1"), b"405"),
    Row("9112 3.1", "CONNECT", "opens a tunnel", _line(b"CONNECT push.example:443 HTTP/1.1"), b"400"),
    Row("9112 3.1", "NUL in the method", "ends the text there", _line(b"GET\0 /v1/connect HTTP/1.1"), b"405"),
    # -- the address: what a rule for paths in front of an edge goes by
    Row("9112 3.2.1", "two slashes", "sees one, or another path", _line(b"GET //v1/connect HTTP/1.1"), b"400"),
    Row(
        "9112 3.2.1", "a host in the path", "sees a path of that name", _line(b"GET //evil.example/v1/connect HTTP/1.1"), b"400"
    ),
    Row("9112 3.2.1", "a tab in the path", "sees another path", _line(b"GET /v1/con\tnect HTTP/1.1"), b"400"),
    Row("9112 3.2.1", "a control before the path", "drops it", _line(b"GET \x01/v1/connect HTTP/1.1"), b"400"),
    Row("9112 3.2.1", "NUL behind the path", "ends it there", _line(b"GET /v1/connect\0.html HTTP/1.1"), b"400"),
    Row("9112 3.2.1", "a fragment", "drops it", _line(b"GET /v1/connect#?device=a HTTP/1.1"), b"400"),
    Row("9112 3.2.1", "a backslash", "turns it round", _line(b"GET \\v1\\connect HTTP/1.1"), b"400"),
    Row("9112 3.2.1", "dots", "puts them in order", _line(b"GET /public/../v1/connect HTTP/1.1"), b"404"),
    Row("9112 3.2.1", "a dot", "puts it in order", _line(b"GET /v1/./connect HTTP/1.1"), b"404"),
    Row("9112 3.2.1", "percent signs", "reads the letter", _line(b"GET /v1/%63onnect HTTP/1.1"), b"404"),
    Row("9112 3.2.1", "a percent slash", "reads the slash", _line(b"GET /v1%2fconnect HTTP/1.1"), b"404"),
    Row("9112 3.2.1", "a parameter of the path", "drops it", _line(b"GET /v1/connect;a=1 HTTP/1.1"), b"404"),
    Row("9112 3.2.1", "a slash behind", "drops it", _line(b"GET /v1/connect/ HTTP/1.1"), b"404"),
    Row("9112 3.2.1", "capitals", "reads small letters", _line(b"GET /V1/Connect HTTP/1.1"), b"404"),
    Row("9112 3.2.1", "bytes above 127", "reads UTF-8", _line("GET /v1/connecţ HTTP/1.1".encode()), CUT),
    Row(
        "9112 3.2.2", "the address of another", "goes by either", _line(b"GET http://evil.example/v1/connect HTTP/1.1"), b"400"
    ),
    Row(
        "9112 3.2.2",
        "an address with a user",
        "goes by either",
        _line(b"GET http://a@push.example/v1/connect HTTP/1.1"),
        b"400",
    ),
    Row("9112 3.2.2", "an address of a file", "opens it", _line(b"GET file:///v1/connect HTTP/1.1"), b"400"),
    Row("9112 3.2.4", "an asterisk", "asks for nothing", _line(b"OPTIONS * HTTP/1.1"), b"400"),
    # -- Host
    Row("9112 3.2", "no Host", "takes its own", LINE + KEYS + END, b"400"),
    Row("9112 3.2", "an empty Host", "takes its own", LINE + b"Host:\r\n" + KEYS + END, b"400"),
    Row("9112 3.2", "two Hosts", "takes the first, or the last", _with(b"Host: evil.example\r\n"), b"400"),
    Row("9112 3.2", "the same Host twice", "takes one", _with(HOST), b"400"),
    # -- headers
    Row("9112 5.1", "a space before the colon", "reads the name", _with(b"X-A : 1\r\n"), CUT),
    Row("9112 5.1", "no colon", "drops it", _with(b"X-A\r\n"), CUT),
    Row("9112 5.1", "no name", "drops it", _with(b": 1\r\n"), CUT),
    Row("9112 5.1", "a name that is none", "drops it", _with(b"X(A): 1\r\n"), CUT),
    Row("9112 5.2", "a folded header", "joins the lines", _with(b"X-A: 1\r\n 2\r\n"), CUT),
    Row(
        "9112 5.2", "folded into Host", "joins the lines", LINE + b"Host: push.example\r\n\tevil.example\r\n" + KEYS + END, CUT
    ),
    Row("9110 5.5", "NUL in a header", "ends it there", _with(b"X-A: a\0b\r\n"), CUT),
    Row("9110 5.5", "a control in a header", "takes it", _with(b"X-A: a\x08b\r\n"), CUT),
    Row("6585 5", "a header of 9 KB", "takes it", _with(b"X-A: " + b"a" * 9_000 + b"\r\n"), b"431"),
    Row("6585 5", "200 headers", "takes them", _with(b"X-A: 1\r\n" * 200), b"431"),
    Row("9110 15.5.15", "an address of 9 KB", "takes it", _line(b"GET /v1/connect?" + b"a" * 9_000 + b" HTTP/1.1"), b"414"),
    # -- where the request ends
    Row("9112 6", "a length", "takes frames for a body", _with(b"Content-Length: 5\r\n") + b"hello", CUT),
    Row("9112 6.3", "two lengths", "takes one of them", _with(b"Content-Length: 0\r\nContent-Length: 5\r\n") + b"hello", CUT),
    Row("9112 6.3", "lengths in a list", "takes one of them", _with(b"Content-Length: 0, 5\r\n") + b"hello", CUT),
    Row("9112 6.3", "a length below 0", "reads on", _with(b"Content-Length: -1\r\n"), CUT),
    Row("9112 6.3", "a length with a sign", "reads 0", _with(b"Content-Length: +0\r\n"), CUT),
    Row("9112 6.1", "chunks", "waits for them", _with(b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", CUT),
    Row("9112 6.1", "chunks and a length", "goes by one", _with(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), CUT),
    Row("9112 6.1", "another coding", "drops it", _with(b"Transfer-Encoding: xchunked\r\n"), CUT),
    Row("9112 6.1", "a coding of nothing", "drops it", _with(b"Transfer-Encoding:\r\n"), CUT),
    # -- the upgrade itself
    Row("9110 7.8", "no Upgrade", "sends the next request", LINE + HOST + END + _TWO, b"426"),
    Row(
        "9110 7.8", "no Connection", "drops Upgrade", LINE + HOST + KEYS.replace(b"Connection: Upgrade\r\n", b"") + END, b"426"
    ),
    Row("9110 7.8", "two protocols", "chooses h2c", GOOD.replace(b": websocket", b": h2c, websocket"), b"426"),
    Row("9110 7.8", "HTTP/2 in clear text", "upgrades to it", GOOD.replace(b": websocket", b": h2c"), b"426"),
    Row("6455 4.2.1", "two keys", "takes either", _with(b"Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBB==\r\n"), b"400"),
    Row("6455 4.2.1", "a short key", "takes it", GOOD.replace(b"A" * 22 + b"==", b"A" * 20), b"400"),
    Row("6455 4.2.1", "a key that is none", "takes it", GOOD.replace(b"A" * 22 + b"==", b"!" * 24), b"400"),
    Row("6455 4.2.1", "no key", "takes it", LINE + HOST + KEYS.partition(b"Sec-WebSocket-Key")[0] + END, b"400"),
    Row("6455 4.4", "version 8", "takes it", GOOD.replace(b"Version: 13", b"Version: 8"), b"400"),
    Row("6455 4.4", "two versions", "takes either", _with(b"Sec-WebSocket-Version: 13\r\n"), b"400"),
    Row(
        "6454 7.3",
        "two origins",
        "takes either",
        _with(b"Origin: http://push.example\r\nOrigin: http://evil.example\r\n"),
        b"400",
    ),
    # -- what is no HTTP/1.1
    Row(
        "9113 3.4",
        "the preface of HTTP/2",
        "goes on in HTTP/2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
        CUT,
    ),
    Row("8446 4.1", "TLS", "goes on in TLS", bytes.fromhex("16030100050100000100") + b"\0" * 64 + b"\r\n\r\n", b"400"),
    Row("4253 4.2", "SSH", "", b"SSH-2.0-OpenSSH_9.6\r\n", CUT),
    Row("", "a command for Redis", "", b"*1\r\n$8\r\nFLUSHALL\r\n", CUT),
    Row("", "a PROXY line", "believes the address in it", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + GOOD, CUT),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: f"{row.section} {row.what}")
async def test_what_could_be_read_in_two_ways_is_refused(edge: Edge, row: Row) -> None:
    """One answer at most, which ends the connection: whatever comes behind is nobody's request."""
    async with dial(edge.settings.edge_port) as raw:
        await raw.send(row.sent + GOOD)
        if not row.answer:
            await raw.stream.send_eof()
        answer = await raw.all()
    if not row.answer:
        assert answer == b""
        return
    assert answer.startswith(b"HTTP/1.1 " + row.answer)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: %d" % len(body) in head


ODD: Final = {
    "9112 3.2.2, the whole address": _line(b"GET http://push.example/v1/connect HTTP/1.1"),
    "9112 3.2.2, in capitals": _line(b"GET WSS://PUSH.example/v1/connect?a=b HTTP/1.1"),
    "9110 7.6.1, more options": GOOD.replace(b"Connection: Upgrade", b"Connection: keep-alive, Upgrade"),
    "9110 7.8, any case": GOOD.replace(b"Upgrade: websocket", b"uPGRADE: WebSocket"),
    "9110 8.6, nothing behind it": _with(b"Content-Length: 0\r\n"),
    "9110 5.5, bytes above 127": _with(b"X-A: \xff\xfe\r\n"),
    "6455 4.2.2, an extension": _with(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"),
    "6455 4.2.2, extensions that are none": _with(b"Sec-WebSocket-Extensions: ;;,\r\n"),
}


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD.keys())
async def test_what_is_odd_and_clear_is_upgraded(edge: Edge, sent: bytes) -> None:
    """Without an extension, whatever is offered: no client's frame is ever unpacked."""
    async with dial(edge.settings.edge_port) as raw:
        await raw.send(sent)
        head = await raw.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"extension" not in head.lower()
        await raw.send(text(b'{"type":"ping"}'))
        answered = await raw.next()
        assert answered is not None
        assert (answered.opcode, answered.code) == (CLOSE, 4500)


async def test_bytes_are_one_request_however_they_come(edge: Edge) -> None:
    """One by one, they are read as they are at once."""
    async with dial(edge.settings.edge_port) as raw:
        for at in range(len(GOOD)):
            await raw.send(GOOD[at : at + 1])
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "said",
    [
        b"Authorization: Bearer %b\r\nAuthorization: Bearer %b\r\n",
        b"Authorization: Basic %b\r\n",
        b"Authorization: Bearer %b, Bearer %b\r\n",
        b"Authorization: Bearer\r\n",
        b"Authorization: %b\r\n",
    ],
)
async def test_two_tokens_or_none_are_no_token(edge: Edge, said: bytes) -> None:
    """A balancer may have looked at the other one."""
    token = edge.token("alice").encode()
    async with dial(edge.settings.edge_port) as raw:
        await raw.send(_with(said.replace(b"%b", token)))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        answered = await raw.next()
        assert answered is not None
        assert (answered.opcode, answered.code) == (CLOSE, 4500)


@pytest.mark.parametrize(
    "query", [b"device=%ff", b"device=a%00", b"device=a%0ab", b"topics=a%ed%a0%80", b"device=a%E2%80%A8b", b"device="]
)
async def test_a_wish_that_is_no_id_is_refused_in_the_address_too(edge: Edge, query: bytes) -> None:
    """Percent signs hide nothing: neither a control nor what is no UTF-8, of which two could become one."""
    async with dial(edge.settings.edge_port) as raw:
        await raw.send(_line(b"GET /v1/connect?" + query + b" HTTP/1.1"))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        error, closed = await raw.next(), await raw.next()
        assert error
        assert closed
        assert b'"bad_frame"' in error.payload
        assert closed.code == 4504
