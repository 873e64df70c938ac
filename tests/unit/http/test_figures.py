"""router.http.figures: answers counted by route."""

from __future__ import annotations

from typing import NoReturn

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from router.api_keys.ring import Keyring
from router.http.app import http_app
from router.http.figures import count_requests

pytestmark = pytest.mark.anyio


async def _get(_request: Request) -> Response:
    return PlainTextResponse("here")


async def _page(_request: Request) -> Response:
    return PlainTextResponse("it")


async def _fail(_request: Request) -> NoReturn:
    raise RuntimeError("on purpose")


def _client() -> httpx.AsyncClient:
    page = [Route(path, _page) for path in ("/v1/page", "/v1/page/style.css", "/v1/page/script.js")]
    app = count_requests(Starlette(routes=[Route("/v1/things/{id:path}", _get), Route("/v1/broken", _fail), *page]))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://api")


def _counted(method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value("pushway_http_requests_total", labels) or 0.0


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/v1/things/alice", "/v1/things/{id}", 200),
        ("POST", "/v1/things/alice", "/v1/things/{id}", 405),
        ("GET", "/v1/broken", "/v1/broken", 500),
        ("GET", "/v1/page", "/v1/page", 200),
        ("GET", "/v1/page/script.js", "/v1/page", 200),
        ("GET", "/etc/passwd", "other", 404),
    ],
)
async def test_answers_count_under_the_template(method: str, path: str, route: str, status: int) -> None:
    """No id gets into a label, whatever the answer; what is nobody's address is `other`."""
    before = _counted(method, route, status)
    async with _client() as client:
        assert (await client.request(method, path)).status_code == status
    assert _counted(method, route, status) == before + 1


async def test_strange_methods_are_one() -> None:
    """A client cannot make label values."""
    before = _counted("other", "/v1/things/{id}", 405)
    async with _client() as client:
        await client.request("BREW", "/v1/things/coffee")
    assert _counted("other", "/v1/things/{id}", 405) == before + 1


async def test_every_service_of_http_is_counted() -> None:
    """What is refused before any route is found counts too."""
    app = http_app(("Test", "1", "It is one."), {}, keyring=Keyring())
    before = _counted("GET", "/v1/openapi.json", 200), _counted("GET", "other", 400)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api") as client:
        await client.get("/v1/openapi.json")
        assert (await client.get("/v1/%zz")).status_code == 400
    assert (_counted("GET", "/v1/openapi.json", 200), _counted("GET", "other", 400)) == (before[0] + 1, before[1] + 1)
