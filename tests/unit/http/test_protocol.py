"""router.http.protocol: nobody waits for ever for a request."""

from __future__ import annotations

import socket
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import Response

from router.api_keys.ring import Keyring
from router.http import protocol
from router.http.app import http_app
from router.http.operations import Answer, Operation
from router.http.problems import read_body
from router.http.server import serve_http
from router.tls.certificate import Certificate
from tests.certificates import Authority
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

TIMEOUT_S: Final = 20
KEEP_ALIVE_S: Final = 5
"""When uvicorn closes a connection that is idle between two requests."""

POST_THING = Operation(
    "post_thing", "POST", "/v1/things", "A thing", "Makes it.", (Answer(HTTPStatus.OK, str, "Made."),), scope=None
)
HEAD: Final = b"POST /v1/things HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n"
WHOLE: Final = HEAD + b"the thing"


async def _make(request: Request) -> Response:
    return Response(await read_body(request, 100))


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/th", HEAD, HEAD + b"half", WHOLE + b"POST /v1/th", WHOLE + HEAD, WHOLE + WHOLE + HEAD + b"half"],
)
async def test_request_that_does_not_come_is_not_waited_for(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed wherever the request stops, and what was whole before it is answered."""
    monkeypatch.setattr(protocol, "REQUEST_TIMEOUT_S", 0.3)
    port, stop = free_ports(), anyio.Event()
    app = http_app(("Things", "1", "All."), {POST_THING: _make}, keyring=Keyring())
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_http, app, "127.0.0.1", port, stop)
            began_s = anyio.current_time()
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                if sent:
                    await stream.send(sent)
                answers = b"".join([chunk async for chunk in stream])
            took_s = anyio.current_time() - began_s
            stop.set()
    assert answers.count(b"HTTP/1.1 200") == sent.count(WHOLE)
    assert took_s < KEEP_ALIVE_S


async def test_answer_may_take_longer_than_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the request is waited for: who prefers to wait for an answer is let wait."""
    monkeypatch.setattr(protocol, "REQUEST_TIMEOUT_S", 0.2)

    async def slow(request: Request) -> Response:
        body = await read_body(request, 100)
        await anyio.sleep(0.5)  # longer than a request may take to come: that is the claim
        return Response(body)

    port, stop = free_ports(), anyio.Event()
    app = http_app(("Things", "1", "All."), {POST_THING: slow}, keyring=Keyring())
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_http, app, "127.0.0.1", port, stop)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(WHOLE)
                answers = b"".join([chunk async for chunk in stream])
            stop.set()
    assert answers.endswith(b"the thing")


@pytest.mark.parametrize("size", [10_000, 6_000_000])
async def test_answer_that_nobody_takes_is_not_kept(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it long or be they many: without a key, too, somebody could keep connections for good by not reading."""
    monkeypatch.setattr(protocol, "ANSWER_TIMEOUT_S", 0.3)

    async def much(request: Request) -> Response:
        await read_body(request, 100)
        return Response(bytes(size))

    lost, connection_lost = anyio.Event(), protocol.ProblemProtocol.connection_lost

    def note(self: protocol.ProblemProtocol, exc: Exception | None) -> None:
        connection_lost(self, exc)
        lost.set()

    monkeypatch.setattr(protocol.ProblemProtocol, "connection_lost", note)
    port, stop = free_ports(), anyio.Event()
    app = http_app(("Things", "1", "All."), {POST_THING: much}, keyring=Keyring())
    with anyio.fail_after(TIMEOUT_S), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_http, app, "127.0.0.1", port, stop)
            client.connect(("127.0.0.1", port))
            client.sendall(WHOLE * 900)
            await lost.wait()
            stop.set()


async def test_handshake_that_takes_its_time_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake of TLS has less time than a request; who is through with it has what a request has."""
    monkeypatch.setattr(protocol, "TLS_TIMEOUT_S", 0.3)
    authority, port, stop = Authority(tmp_path), free_ports(), anyio.Event()
    pair = authority.issue("localhost")
    app = http_app(("Things", "1", "All."), {POST_THING: _make}, keyring=Keyring())
    certificate = Certificate("http", str(pair.cert), str(pair.key), 10)
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(partial(serve_http, app, "127.0.0.1", port, stop, certificate=certificate))
            through = await anyio.connect_tcp("localhost", port, ssl_context=authority.trust)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"\x16\x03\x01")
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
            async with through:
                await through.send(WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
                assert b"".join([chunk async for chunk in through]).endswith(b"the thing")
            stop.set()
