"""Requests to the API and to auth that two readers could understand differently (RFC 9112), one of which stands in front."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final, NamedTuple

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router.api_keys.ring import Keyring
from router.http.app import http_app
from router.http.operations import Answer, Operation
from router.http.problems import read_body
from router.http.server import serve_http
from tests.integration.hostile.wire import dial
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

POST_THING: Final = Operation(
    "post_thing", "POST", "/v1/things", "A thing", "Tells what came.", (Answer(HTTPStatus.OK, str, "It."),), scope=None
)

LINE: Final = b"POST /v1/things HTTP/1.1\r\n"
HOST: Final = b"Host: push.example\r\n"
END: Final = b"\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
NEXT: Final = LINE + HOST + b"Content-Length: 5\r\nConnection: close\r\n\r\nnext!"
"""What comes behind, on the same connection."""


class Row(NamedTuple):
    """A request: the section whose rule it breaks, what is odd, what a lenient reader makes of it, and its bytes."""

    section: str
    what: str
    lenient: str
    sent: bytes


def _with(headers: bytes, body: bytes = b"") -> bytes:
    return LINE + HOST + headers + END + body


REFUSED: Final = [
    Row("6.1", "a length and chunks", "goes by the length", _with(b"Content-Length: 6\r\n" + CHUNKED, b"0\r\n\r\nX")),
    Row("6.1", "chunks and a length", "goes by the length", _with(CHUNKED + b"Content-Length: 6\r\n", b"0\r\n\r\nX")),
    Row("6.1", "chunks and no length at all", "goes by the length", _with(CHUNKED + b"Content-Length: 0\r\n", b"0\r\n\r\n")),
    Row("6.1", "chunks in HTTP/1.0", "reads no body", _with(CHUNKED, b"0\r\n\r\n").replace(b"/1.1", b"/1.0")),
    Row("6.1", "an unknown coding", "drops it", _with(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n")),
    Row("6.1", "chunks twice", "takes one", _with(CHUNKED * 2, b"0\r\n\r\n")),
    Row("6.1", "chunks of chunks", "takes one", _with(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n")),
    Row("6.1", "the identity", "drops it", _with(b"Transfer-Encoding: identity\r\n")),
    Row("6.1", "a control before the coding", "drops it", _with(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n")),
    Row("5.1", "a space behind the name", "drops it", _with(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")),
    Row("6.3", "two lengths", "takes either", _with(b"Content-Length: 1\r\nContent-Length: 2\r\n", b"ab")),
    Row("6.3", "two lengths in a list", "takes either", _with(b"Content-Length: 1, 2\r\n", b"ab")),
    Row("6.3", "a length with a sign", "reads 1", _with(b"Content-Length: +1\r\n", b"a")),
    Row("6.3", "a length below 0", "reads on", _with(b"Content-Length: -1\r\n")),
    Row("6.3", "a length in hex", "reads 0", _with(b"Content-Length: 0x1\r\n", b"a")),
    Row("6.3", "a length with a line below", "reads 1, or 10", _with(b"Content-Length: 1_0\r\n", b"0123456789")),
    Row("7.1", "a chunk with LF alone", "takes it", _with(CHUNKED, b"1\nx\n0\n\n")),
    Row("7.1", "a chunk below 0", "reads on", _with(CHUNKED, b"-1\r\nx\r\n0\r\n\r\n")),
    Row("7.1", "a chunk with 0x", "reads 0", _with(CHUNKED, b"0x1\r\nx\r\n0\r\n\r\n")),
    Row("7.1", "a chunk longer than it says", "drops the rest", _with(CHUNKED, b"1\r\nxyz\r\n0\r\n\r\n")),
    Row("3.2", "no Host", "takes its own", LINE + b"Content-Length: 0\r\n\r\n"),
    Row("3.2", "two Hosts", "takes either", _with(b"Host: evil.example\r\nContent-Length: 0\r\n")),
    Row("2.2", "a bare CR", "ends the line there", _with(b"X-A: a\rContent-Length: 0\r\n")),
    Row("2.2", "NUL", "ends it there", _with(b"X-A: a\0b\r\nContent-Length: 0\r\n")),
    Row("2.2", "white space before the first header", "drops the line", LINE + b" X: y\r\n" + HOST + END),
    Row("2.2", "empty lines before", "drops them", b"\r\n\r\n" + _with(b"Content-Length: 0\r\n")),
    Row("9113 3.4", "HTTP/2", "goes on in HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
]

CLEAR: Final = {
    "7.1.1, a chunk that says more of itself": _with(CHUNKED, b"4;a=b\r\nbody\r\n0\r\n\r\n"),
    "7.1.2, a trailer that would be a header": _with(CHUNKED, b"4\r\nbody\r\n0\r\nAuthorization: Bearer k\r\n\r\n"),
    "5.2, a folded header, which is one": _with(b"X-A: a\r\n b\r\nContent-Length: 4\r\n", b"body"),
    "6.3, one length twice": _with(b"Content-Length: 4\r\nContent-Length: 4\r\n", b"body"),
    "7.8 of 9110, HTTP/2 in clear text": _with(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n", b"body"),
    "7.8 of 9110, a WebSocket": _with(b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n", b"body"),
    "a name that a lenient reader mends": _with(b"Transfer_Encoding: chunked\r\nContent-Length: 4\r\n", b"body"),
    "another's word for who asks": _with(
        b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nContent-Length: 4\r\n", b"body"
    ),
}


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    """Yield the port of a service that tells what came."""

    async def post(request: Request) -> Response:
        assert request.client is not None
        said = (await read_body(request, 100)).decode()
        seen = {"authorization" in request.headers, request.client.host != "127.0.0.1", request.url.scheme != "http"}
        return JSONResponse({"body": said, "fooled": True in seen})

    found, stop = free_ports(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        await tasks.start(
            serve_http, http_app(("Things", "1", "All."), {POST_THING: post}, keyring=Keyring()), "127.0.0.1", found, stop
        )
        yield found
        stop.set()


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: f"{row.section} {row.what}")
async def test_what_could_be_read_in_two_ways_is_refused(port: int, row: Row) -> None:
    """With a 400 that ends the connection; what comes behind is read by nobody."""
    async with dial(port) as raw:
        await raw.send(row.sent + NEXT)
        answer = await raw.all()
    # What is wrong with a chunk is seen when the request is in hand.
    assert answer == b"" or answer.partition(b"\r\n")[0].split(b" ")[1] in {b"400", b"404"}
    assert answer.count(b"HTTP/1.1 200") == 0
    assert b"next!" not in answer


@pytest.mark.parametrize("sent", CLEAR.values(), ids=CLEAR.keys())
async def test_what_is_odd_and_clear_is_one_request(port: int, sent: bytes) -> None:
    """And nothing but that; what comes behind is the next."""
    async with dial(port) as raw:
        await raw.send(sent + NEXT)
        answer = await raw.all()
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b'{"body":"body","fooled":false}') < answer.index(b'{"body":"next!","fooled":false}')
