"""router.http.access: 401 and 403 as RFC 6750 has them, and who called in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from router.api_keys.key import ApiKey, digest_of
from router.api_keys.ring import Keyring
from router.http.app import http_app
from router.http.operations import Answer, Operation
from router.http.problems import MEDIA_TYPE

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
KEYS = (
    ApiKey("reader", digest_of("one"), frozenset({"read"})),
    ApiKey("reader", digest_of("two"), frozenset({"read"}), NOW + timedelta(hours=1)),
    ApiKey("late", digest_of("old"), frozenset({"read"}), NOW - timedelta(seconds=1)),
    ApiKey("sender", digest_of("send"), frozenset({"send"})),
)
GET_THING = Operation(
    "get_thing", "GET", "/v1/thing", "A thing", "Gives it.", (Answer(HTTPStatus.OK, str, "It."),), scope="read"
)
REALM = 'Bearer realm="pushway"'
INVALID = f'{REALM}, error="invalid_token"'


async def _thing(_request: Request) -> Response:
    return Response("it")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with one operation."""
    transport = httpx.ASGITransport(http_app(("Things", "1", "All."), {GET_THING: _thing}, keyring=Keyring("set", KEYS)))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.mark.parametrize("shown", ["Bearer one", "Bearer two", "Bearer set", "bearer one", "BEARER   one"])
async def test_key_with_the_scope_passes(client: httpx.AsyncClient, shown: str) -> None:
    """The old and the new one of a name, and that of the setting; the scheme's name is in any case (RFC 9110, 11.1)."""
    assert (await client.get("/v1/thing", headers={"authorization": shown})).text == "it"


@pytest.mark.parametrize(
    ("shown", "challenge"),
    [
        (None, REALM),
        ("", REALM),
        ("Bearer", REALM),
        ("Bearer ", REALM),
        ("Basic b25lOm9uZQ==", REALM),
        ("one", REALM),
        ("Bearer one two", REALM),
        ("Bearer three", f'{INVALID}, error_description="the key is unknown"'),
        ("Bearer é", f'{INVALID}, error_description="the key is unknown"'),
        ("Bearer old", f'{INVALID}, error_description="the key has expired"'),
    ],
)
async def test_who_shows_no_good_key_is_unauthorized(client: httpx.AsyncClient, shown: str | None, challenge: str) -> None:
    """RFC 6750, section 3.1: of an error is told who has shown something. The problem quotes nothing."""
    headers = httpx.Headers({} if shown is None else {"authorization": shown}, encoding="utf-8")
    answer = await client.get("/v1/thing", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (HTTPStatus.UNAUTHORIZED, MEDIA_TYPE)
    assert answer.headers["www-authenticate"] == challenge
    assert "three" not in answer.text


async def test_key_without_the_scope_is_forbidden(client: httpx.AsyncClient) -> None:
    """And told which it lacks."""
    answer = await client.get("/v1/thing", headers={"authorization": "Bearer send"})
    assert (answer.status_code, answer.headers["content-type"]) == (HTTPStatus.FORBIDDEN, MEDIA_TYPE)
    assert answer.headers["www-authenticate"] == f'{REALM}, error="insufficient_scope", scope="read"'
    assert "'read'" in answer.json()["detail"]


async def test_two_headers_are_a_bad_request(client: httpx.AsyncClient) -> None:
    """Who stands between might look at the other one."""
    answer = await client.get("/v1/thing", headers=[("authorization", "Bearer one"), ("authorization", "Bearer one")])
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert answer.headers["www-authenticate"] == f'{REALM}, error="invalid_request"'


@pytest.mark.parametrize("elsewhere", [{"params": {"token": "one"}}, {"headers": {"cookie": "token=one"}}])
async def test_key_counts_in_the_header_alone(client: httpx.AsyncClient, elsewhere: dict[str, dict[str, str]]) -> None:
    """Addresses get into logs, and a browser sends cookies unasked."""
    answer = await client.request("GET", "/v1/thing", headers=elsewhere.get("headers"), params=elsewhere.get("params"))
    assert answer.status_code == HTTPStatus.UNAUTHORIZED


async def test_log_says_who_called_by_name(client: httpx.AsyncClient) -> None:
    """Also whom it refused, as far as that is known; no key stands there."""
    with capture_logs() as logs:
        for shown in ("one", "set", "send", "old", "three"):
            await client.get("/v1/thing", headers={"authorization": f"Bearer {shown}"})
    assert [(line["event"], line["caller"], line["log_level"]) for line in logs] == [
        ("api_called", "reader", "debug"),
        ("api_called", "api_key", "debug"),
        ("api_refused", "sender", "debug"),
        ("api_refused", "late", "debug"),
    ]
    assert all(line["operation"] == "get_thing" for line in logs)
