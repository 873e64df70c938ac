"""router.http.openapi and router.http.app: the description and the routes are one, and every refusal is a problem document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, cast

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.api.app import Stores, api_app
from router.api_keys.ring import Keyring
from router.http.app import ADDRESS_MAX_BYTES, http_app
from router.http.openapi import make_document
from router.http.operations import Answer, Id, Operation, Parameter
from router.http.problems import MEDIA_TYPE, read_body
from router.http.reference import REFERENCE_PATH
from router.http.server import serve_http
from router.ops import Health
from router.settings import Settings
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

TIMEOUT_S = 20

KEY = {"authorization": "Bearer k"}

_OK = (Answer(HTTPStatus.OK, dict[str, str], "It is."),)
_PLACE = Parameter("place", "path", Id, "Where.")
GET_THING = Operation("get_thing", "GET", "/v1/things/{place}/part", "A thing", "Gives a thing.", _OK, (_PLACE,), scope="read")
DELETE_THING = Operation("delete_thing", "DELETE", GET_THING.path, "No thing", "Ends a thing.", _OK, (_PLACE,), scope="manage")
FIND_THINGS = Operation(
    "find_things", "GET", "/v1/things", "Things", "Finds things.", _OK, (Parameter("limit", "query", int, "Most."),), scope=None
)


async def _params(request: Request) -> Response:
    return JSONResponse(dict(request.path_params))


async def _broken(_request: Request) -> Response:
    raise ValueError("the secret is 42")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with three operations, one of them broken."""
    handlers = {GET_THING: _params, DELETE_THING: _broken, FIND_THINGS: _params}
    app = http_app(("Things", "1", "All of them."), handlers, keyring=Keyring("k"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


def _check_problem(answer: httpx.Response, status: HTTPStatus) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    document: dict[str, Any] = answer.json()
    assert (document["type"], document["title"], document["status"]) == ("about:blank", status.phrase, status)
    assert document["detail"]
    return document


async def test_path_parameters_come_decoded(client: httpx.AsyncClient) -> None:
    """An escaped slash is part of an id, not the end of it."""
    answer = await client.get("/v1/things/a%2Fb%3Ac%25%20%C3%A4/part", headers=KEY)
    assert answer.json() == {"place": "a/b:c% ä"}


async def test_escapes_that_nobody_needs_change_nothing(client: httpx.AsyncClient) -> None:
    """RFC 3986, section 2.3: an unreserved character is the same with and without percent-encoding."""
    assert (await client.get("/v1/%74hings")).status_code == HTTPStatus.OK


@pytest.mark.parametrize("path", ["/nowhere", "/v1/things/", "/v1//things", "/v1/things/a/b/part", "/v1%2Fthings", "//"])
async def test_unknown_path(client: httpx.AsyncClient, path: str) -> None:
    """404 for whatever is not there, a slash too many included."""
    _check_problem(await client.get(f"http://service{path}", headers=KEY), HTTPStatus.NOT_FOUND)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "OPTIONS", "TRACE", "QUERY"])
async def test_wrong_method(client: httpx.AsyncClient, method: str) -> None:
    """405, and Allow names the methods of all operations on that path."""
    answer = await client.request(method, "/v1/things/a/part", headers=KEY)
    _check_problem(answer, HTTPStatus.METHOD_NOT_ALLOWED)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}


async def test_head(client: httpx.AsyncClient) -> None:
    """HEAD is answered as GET is."""
    answer = await client.head("/v1/things")
    assert (answer.status_code, answer.headers["content-type"]) == (HTTPStatus.OK, "application/json")


@pytest.mark.parametrize("path", ["/v1/things/%ff/part", "/v1/things/%zz/part", "/v1/things?limit=%e4", "/v1/things?a%"])
async def test_address_that_cannot_be_read(client: httpx.AsyncClient, path: str) -> None:
    """400 for percent-encoding that is none, and for what is not UTF-8."""
    transport = client._transport
    request = httpx.Request("GET", httpx.URL("http://service", raw_path=path.encode()), headers=KEY)
    answer = await cast("httpx.ASGITransport", transport).handle_async_request(request)
    await answer.aread()
    _check_problem(answer, HTTPStatus.BAD_REQUEST)


async def test_long_address(client: httpx.AsyncClient) -> None:
    """414 for more than anything here needs."""
    answer = await client.get(f"/v1/things?limit={'1' * ADDRESS_MAX_BYTES}")
    _check_problem(answer, HTTPStatus.REQUEST_URI_TOO_LONG)


async def test_unknown_query_parameter(client: httpx.AsyncClient) -> None:
    """A typing error in a name is told, with the name, rather than passed over."""
    document = _check_problem(await client.get("/v1/things?limits=3"), HTTPStatus.BAD_REQUEST)
    assert (document["field"], "limit" in document["detail"]) == ("limits", True)


async def test_repeated_query_parameter(client: httpx.AsyncClient) -> None:
    """Which of the two was meant is not guessed."""
    document = _check_problem(await client.get("/v1/things?limit=3&limit=4"), HTTPStatus.BAD_REQUEST)
    assert document["field"] == "limit"


async def test_key_is_checked_before_all_else(client: httpx.AsyncClient) -> None:
    """Who shows no key is told nothing of what else is wrong."""
    answer = await client.get("/v1/things/a/part?nothing=1")
    _check_problem(answer, HTTPStatus.UNAUTHORIZED)
    assert answer.headers["www-authenticate"] == 'Bearer realm="pushway"'


async def test_unexpected_error(client: httpx.AsyncClient) -> None:
    """500 without a word of what went wrong."""
    answer = await client.delete("/v1/things/a/part", headers=KEY)
    _check_problem(answer, HTTPStatus.INTERNAL_SERVER_ERROR)
    assert "42" not in answer.text


async def test_document_is_served_without_a_key(client: httpx.AsyncClient) -> None:
    """Whoever may reach the service may read what it does."""
    document = (await client.get("/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {"/v1/things/{place}/part", "/v1/things", "/v1/openapi.json"}
    assert set(document["paths"]["/v1/things/{place}/part"]) == {"get", "delete"}


async def test_page_may_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    """Its policy allows its own files and requests to its own service, and no inline script or style."""
    answer = await client.get(REFERENCE_PATH)
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
    assert "unsafe" not in policy


async def test_files_of_the_page(client: httpx.AsyncClient) -> None:
    """Each is served with the type that browsers ask of it."""
    for name, media_type in (("reference.css", "text/css"), ("schema.js", "text/javascript"), ("trial.js", "text/javascript")):
        answer = await client.get(f"{REFERENCE_PATH}/{name}")
        assert answer.headers["content-type"].partition(";")[0] == media_type


def test_shared_problems_are_described() -> None:
    """What any request may meet need not be written for each operation."""
    paths = make_document("Things", "1", "All.", [GET_THING, FIND_THINGS])["paths"]
    assert list(paths[GET_THING.path]["get"]["responses"]) == ["200", "400", "401", "403", "414", "500"]
    assert not {"401", "403"} & paths["/v1/things"]["get"]["responses"].keys()


def test_limits_of_the_settings() -> None:
    """They stand in the schema of the field that they limit; one that is misspelt does not pass unseen."""
    limits = {"ProblemDocument": {"detail": {"maxLength": 9}}}
    schemas = make_document("Things", "1", "All.", [FIND_THINGS], limits)["components"]["schemas"]
    assert schemas["ProblemDocument"]["properties"]["detail"]["maxLength"] == 9
    with pytest.raises(KeyError):
        make_document("Things", "1", "All.", [FIND_THINGS], {"ProblemDocument": {"details": {}}})


def _api() -> Starlette:
    settings = Settings.model_validate({"api_key": "k"})
    nothing = cast("Any", _Nothing())
    return api_app(settings, Health(), Stores(nothing, nothing, nothing, nothing, nothing), nothing, Keyring())


class _Nothing:
    """Stands for what answers: no request is made."""

    def __getattr__(self, name: str) -> object:
        return name


async def test_every_route_of_the_api_is_described() -> None:
    """And the other way round: a path with other methods than its description's would be a bug of http_app."""
    app = _api()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        paths = (await client.get("/v1/openapi.json")).json()["paths"]
    routes = [route for route in app.routes if isinstance(route, Route) and not route.path.startswith(REFERENCE_PATH)]
    routed = {route.path.replace(":path}", "}"): (route.methods or set()) - {"HEAD"} for route in routes}
    assert routed == {path: {method.upper() for method in methods} for path, methods in paths.items()}


@pytest.mark.parametrize("request_line", [b"no http at all", b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"GET /\xff HTTP/1.1"])
async def test_what_is_no_http_is_a_problem_too(request_line: bytes) -> None:
    """What uvicorn refuses by itself gets a document, and the connection is closed."""
    port, stop = free_ports(), anyio.Event()
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_http, _api(), "127.0.0.1", port, stop)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(request_line + b"\r\n\r\n")
                answer = b"".join([chunk async for chunk in stream])
            stop.set()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert f"content-type: {MEDIA_TYPE}".encode() in head.lower()
    assert json.loads(body)["status"] == HTTPStatus.BAD_REQUEST


async def test_client_that_leaves_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever ends a connection in the middle of a body could fill the log otherwise."""
    gone = anyio.Event()

    async def reads(request: Request) -> Response:
        try:
            await read_body(request, 100)
        finally:
            gone.set()
        raise AssertionError

    port, stop = free_ports(), anyio.Event()
    app = http_app(("Things", "1", "All."), {DELETE_THING: reads}, keyring=Keyring("k"))
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_http, app, "127.0.0.1", port, stop)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                head = b"DELETE /v1/things/a/part HTTP/1.1\r\nhost: a\r\nauthorization: Bearer k\r\ncontent-length: 9\r\n\r\n"
                await stream.send(head + b"half")
            await gone.wait()
            stop.set()
    assert [record for record in caplog.records if record.name == "uvicorn.error" and record.levelname == "ERROR"] == []
