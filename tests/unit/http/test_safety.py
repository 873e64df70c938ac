"""router.http.safety: what every answer tells a browser, whoever gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from router.api.page import edge_sources
from router.api_keys.ring import Keyring
from router.http.app import http_app
from router.http.operations import Answer, Operation
from router.http.reference import REFERENCE_PATH
from router.http.safety import HEADERS, page_headers
from router.http.server import serve_http
from router.ops import Health, ops_app
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

TIMEOUT_S = 20

POST_THING = Operation(
    "post_thing", "POST", "/v1/things", "A thing", "Makes it.", (Answer(HTTPStatus.OK, str, "Made."),), scope="send"
)
GET_THING = Operation(
    "get_thing", "GET", "/v1/things", "A thing", "Gives it.", (Answer(HTTPStatus.OK, str, "It."),), scope=None
)
FOREIGN = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
PREFLIGHT = FOREIGN | {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


@asynccontextmanager
async def _served() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a service with an operation that is broken and one that keeps its answer for a while."""

    async def broken(_request: Request) -> Response:
        raise ValueError

    async def kept(_request: Request) -> Response:
        return Response("it", headers={"cache-control": "public"})

    app = http_app(("Things", "1", "All."), {POST_THING: broken, GET_THING: kept}, keyring=Keyring("k"))
    port, stop = free_ports(), anyio.Event()
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_http, app, "127.0.0.1", port, stop)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                yield client
            stop.set()


async def test_every_answer_has_the_headers() -> None:
    """Good ones, refusals and failures, each once."""
    async with _served() as client:
        for method, path, shown, status in (
            ("GET", "/v1/openapi.json", {}, HTTPStatus.OK),
            ("POST", "/v1/things", {}, HTTPStatus.UNAUTHORIZED),
            ("POST", "/v1/things", {"authorization": "Bearer k"}, HTTPStatus.INTERNAL_SERVER_ERROR),
            ("GET", "/v1/nothing", {}, HTTPStatus.NOT_FOUND),
            ("PUT", "/v1/things", {}, HTTPStatus.METHOD_NOT_ALLOWED),
            ("GET", "/v1/things?%zz", {}, HTTPStatus.BAD_REQUEST),
        ):
            answer = await client.request(method, path, headers=shown)
            assert answer.status_code == status
            assert [answer.headers.get_list(name) for name in HEADERS] == [[value] for value in HEADERS.values()]


async def test_what_is_no_http_is_answered_with_them() -> None:
    """That answer is given before there is an application."""
    async with _served() as client, await anyio.connect_tcp("127.0.0.1", client.base_url.port or 0) as stream:
        await stream.send(b"nonsense\r\n\r\n")
        answer = b"".join([chunk async for chunk in stream]).decode()
    assert answer.startswith("HTTP/1.1 400")
    assert all(f"{name}: {value}\r\n" in answer for name, value in HEADERS.items())


async def test_answer_may_say_otherwise() -> None:
    """Once, not beside what is usual."""
    async with _served() as client:
        answer = await client.get("/v1/things")
    assert answer.headers.get_list("cache-control") == ["public"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_ops_port_has_them_too() -> None:
    """It is private, and a browser may stand inside."""
    port, stop = free_ports(), anyio.Event()
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_http, ops_app(Health()), "127.0.0.1", port, stop)
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"http://127.0.0.1:{port}/metrics")
            stop.set()
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("path", ["/v1/things", "/v1/openapi.json", REFERENCE_PATH, "/v1/nothing"])
async def test_no_other_origin_is_let_in(path: str) -> None:
    """No header of CORS, to a preflight or to a request, and no cookie; a preflight is a method that there is not."""
    async with _served() as client:
        answers = [await client.options(path, headers=PREFLIGHT), await client.get(path, headers=FOREIGN)]
    assert answers[0].status_code in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_FOUND}
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("form", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_form_of_a_foreign_page_is_refused(form: str) -> None:
    """A browser sends it unasked, cookies and all, and adds no key."""
    async with _served() as client:
        headers = FOREIGN | {"content-type": form, "cookie": "token=k; authorization=Bearer k"}
        answer = await client.post("/v1/things", content=b'{"to":"all","text":"x"}', headers=headers)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED


def test_page_has_what_it_names_and_nothing_else() -> None:
    """Everything is 'none' that it does not ask for, and markup is made by nobody."""
    policy = page_headers({"script-src": "'self'"})["content-security-policy"]
    assert policy == (
        "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("ws://127.0.0.1:8002/v1/connect", "ws://127.0.0.1:8002"),
        ("wss://edge.example.com/v1/connect", "wss://edge.example.com"),
        ("ws://[::1]:8002/v1/connect", "ws:"),
        ("wss://[::1]:8002", "wss:"),
        ("ws://a;script-src *", "ws:"),
        ("ws://a *", "ws:"),
    ],
)
def test_page_may_connect_to_edges(url: str, source: str) -> None:
    """To those that there are; where CSP has no word for one, to any: what is in a setting adds no directive."""
    assert edge_sources([url, url]) == [source]
