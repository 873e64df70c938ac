"""router.auth.callback and router.auth.judgement: what is asked, what each answer means, and what spares the service."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from router.auth.bearer import NOBODY, Bearer
from router.auth.callback import BEARER_MAX_CHARS, CallbackVerifier
from router.auth.outward import ANSWER_MAX_BYTES
from router.auth.tokens import TOKEN_MAX_CHARS
from router.errors import KeysUnavailable, TokenExpired, TokenRefused
from router.settings import Settings

pytestmark = pytest.mark.anyio

BEARER: Final = Bearer("203.0.113.7", {"user-agent": "app"}, {"device": "phone", "since": "7", "token": "s3cret"})
SETTINGS: Final = Settings(
    auth_by="http", auth_callback_url="https://app.example/who", auth_callback_failures_max=3, backoff_min_ms=1_000
)
SECRET: Final = {"auth_callback_secret": "k3y"}


class Service(httpx.AsyncBaseTransport):
    """The customer's service: answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[], httpx.Response] = good
        self.requests: list[httpx.Request] = []
        self.at_once = self.most_at_once = 0
        self.slow: anyio.Event | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.requests.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await (anyio.lowlevel.checkpoint() if self.slow is None else self.slow.wait())
        finally:
            self.at_once -= 1
        return self.answer()


class Clock:
    """A clock that stands still until it is moved."""

    now = 1_000.0

    def __call__(self) -> float:
        """Tell the time in seconds."""
        return self.now


def good(**changes: Any) -> httpx.Response:  # noqa: ANN401 - anything that JSON says
    """Return an answer that lets in."""
    return httpx.Response(200, json={"user": "alice", "expires_at": int(time.time()) + 60} | changes)


@pytest.fixture
def service() -> Service:
    """A service that lets everybody in."""
    return Service()


@pytest.fixture
def clock() -> Clock:
    """The verifier's clock."""
    return Clock()


@pytest.fixture
def verifier(service: Service, clock: Clock) -> CallbackVerifier:
    """A verifier that asks it."""
    return CallbackVerifier(SETTINGS, transport=service, clock=clock)


def _with(service: Service, clock: Clock, **changes: Any) -> CallbackVerifier:  # noqa: ANN401 - settings
    return CallbackVerifier(SETTINGS.model_copy(update=changes), transport=service, clock=clock)


async def test_what_is_asked(service: Service, clock: Clock) -> None:
    """The token, and what is known of its bearer; not what stands in the address beside it as a token. Nothing compressed."""
    await _with(service, clock, **SECRET).verify("t", BEARER)
    request = service.requests[0]
    assert (request.method, str(request.url)) == ("POST", "https://app.example/who")
    assert json.loads(request.content) == {
        "token": "t",
        "address": "203.0.113.7",
        "headers": {"user-agent": "app"},
        "query": {"device": "phone", "since": "7"},
    }
    wanted = {"authorization": "Bearer k3y", "content-type": "application/json", "accept-encoding": "identity"}
    assert wanted.items() <= dict(request.headers).items()


async def test_without_a_secret_none_is_shown(verifier: CallbackVerifier, service: Service) -> None:
    """No Authorization then."""
    await verifier.verify("t")
    assert "authorization" not in service.requests[0].headers


async def test_what_a_good_answer_says(verifier: CallbackVerifier, service: Service) -> None:
    """User, end, topics and those to subscribe; what else it says is its own."""
    service.answer = lambda: good(topics=["news", "sport.*"], subscribe=["room"], expires_at=4e9, name="Alice")
    claims = await verifier.verify("t", BEARER)
    assert (claims.user, claims.expires_at, claims.topics, claims.subscribe) == (
        "alice",
        4 * 10**9,
        ("news", "sport.*"),
        ("room",),
    )


async def test_rfc_7662_is_understood(verifier: CallbackVerifier, service: Service) -> None:
    """As auth's own /v1/verify answers."""
    end = int(time.time()) + 60
    service.answer = lambda: httpx.Response(200, json={"active": True, "sub": "bob", "exp": end, "iss": "x", "topics": ["a"]})
    claims = await verifier.verify("t")
    assert (claims.user, claims.expires_at, claims.topics) == ("bob", end, ("a",))
    service.answer = lambda: httpx.Response(200, json={"active": False})
    with pytest.raises(TokenRefused, match="not accepted"):
        await verifier.verify("other")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(401), "the token is not accepted"),
        (httpx.Response(403, json={"reason": "you are blocked"}), "you are blocked"),
        (httpx.Response(403, json={"reason": "a\r\nb\x00" + "x" * 500}), "ab" + "x" * 98),
        (httpx.Response(403, json={"reason": 7}), "the token is not accepted"),
        (httpx.Response(401, text="<html>"), "the token is not accepted"),
        (httpx.Response(403, content=b"\xff"), "the token is not accepted"),
        (httpx.Response(200, json={"user": "a b", "expires_at": 4e9}), "is not an id"),
        (httpx.Response(200, json={"user": "a", "expires_at": 4e9, "subscribe": ["a b"]}), "is not an id"),
    ],
)
async def test_refusals(verifier: CallbackVerifier, service: Service, answer: httpx.Response, reason: str) -> None:
    """With the service's reason, which is made fit to be shown."""
    service.answer = lambda: answer
    with pytest.raises(TokenRefused, match=reason) as refused:
        await verifier.verify("t")
    assert not isinstance(refused.value, TokenExpired)
    assert len(refused.value.reason) < 200


async def test_what_is_over_is_expired(verifier: CallbackVerifier, service: Service) -> None:
    """A newer token will do; the service is asked about this one again, for it may have extended it."""
    service.answer = lambda: good(expires_at=int(time.time()) - 60)
    for _ in range(2):
        with pytest.raises(TokenExpired):
            await verifier.verify("t")
    assert len(service.requests) == 2


UNCLEAR: Final = [
    httpx.Response(401, headers={"www-authenticate": "Bearer"}),
    httpx.Response(403, headers={"www-authenticate": 'Bearer error="insufficient_scope", scope="tokens"'}),
    *[httpx.Response(status) for status in (201, 204, 301, 302, 307, 400, 404, 405, 408, 422, 429)],
    httpx.Response(302, headers={"location": "http://169.254.169.254/latest/meta-data"}),
    *[httpx.Response(200, content=body) for body in (b"", b"<html>", b"[]", b"null", b"\xff", b"[" * 10_000, b'{"user":"a"}')],
    *[httpx.Response(200, json=said) for said in ({"expires_at": 4e9}, {"user": 7, "expires_at": 4e9}, {"user": {"$ne": ""}})],
    httpx.Response(200, json={"user": "a", "expires_at": "4000000000"}),
    httpx.Response(200, content=b'{"user":"a","expires_at":NaN}'),
    httpx.Response(200, json={"user": "a", "expires_at": 4e9, "topics": ["t"] * 101}),
    httpx.Response(200, json={"active": True}),
]


@pytest.mark.parametrize("answer", UNCLEAR, ids=lambda answer: f"{answer.status_code} {answer.content[:20]!r}")
async def test_what_is_no_judgement_is_put_off(verifier: CallbackVerifier, service: Service, answer: httpx.Response) -> None:
    """Nobody is let in by it and nobody sent away for good; and however often it comes, others are still asked about."""
    service.answer = lambda: answer
    with capture_logs() as lines:
        for _ in range(SETTINGS.auth_callback_failures_max + 1):
            with pytest.raises(KeysUnavailable):
                await verifier.verify("t")
    assert [line["event"] for line in lines] == ["auth_callback_unclear"]
    assert {request.url.host for request in service.requests} == {"app.example"}
    service.answer = good
    assert (await verifier.verify("other")).user == "alice"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(503, json={"user": "alice", "expires_at": 4e9}),
        httpx.Response(200, content=b"x" * (ANSWER_MAX_BYTES + 1)),
        httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"")),
    ],
    ids=["500", "503", "long", "compressed"],
)
async def test_failures_open_the_breaker(
    verifier: CallbackVerifier, service: Service, clock: Clock, answer: httpx.Response
) -> None:
    """Then the service is left alone but for one try at a time; each change of state is a line."""
    service.answer = lambda: answer
    with capture_logs() as lines:
        for _ in range(10):
            with pytest.raises(KeysUnavailable):
                await verifier.verify("t")
        assert len(service.requests) == 3
        clock.now += 2
        with pytest.raises(KeysUnavailable):
            await verifier.verify("t")
        with pytest.raises(KeysUnavailable):
            await verifier.verify("t")
        assert len(service.requests) == 4
        clock.now += 10
        service.answer = good
        assert (await verifier.verify("t")).user == "alice"
        assert (await verifier.verify("t2")).user == "alice"
    assert [line["event"] for line in lines] == ["auth_callback_lost", "auth_callback_reached"]


async def test_no_answer_in_time_is_a_failure(service: Service, clock: Clock) -> None:
    """Whether the edge gives up or the client's own deadline ends the wait."""
    verifier = _with(service, clock, auth_timeout_s=0.01, auth_callback_failures_max=2)
    service.slow = anyio.Event()
    with pytest.raises(KeysUnavailable, match="no answer in time"):
        await verifier.verify("t")
    patient = _with(service, clock, auth_callback_failures_max=1)
    with anyio.move_on_after(0.01):
        await patient.verify("t")
    with pytest.raises(KeysUnavailable, match="away"):
        await patient.verify("t")
    with pytest.raises(KeysUnavailable, match="no answer in time"):
        await verifier.verify("t")
    with pytest.raises(KeysUnavailable, match="away"):
        await verifier.verify("t")
    assert len(service.requests) == 3


async def test_so_many_questions_at_a_time(service: Service, clock: Clock) -> None:
    """The others wait their turn."""
    verifier = _with(service, clock, auth_callback_calls_max=4)
    users: list[str] = []

    async def connect(token: str) -> None:
        users.append((await verifier.verify(token)).user)

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(connect, f"t{number}")
    assert (len(users), service.most_at_once) == (40, 4)


async def test_good_answers_are_remembered(verifier: CallbackVerifier, service: Service, clock: Clock) -> None:
    """For auth_cache_s, of all that the service may judge by; what is new at each connect is not asked about again."""
    await verifier.verify("t", BEARER)
    await verifier.verify("t", BEARER._replace(query=dict(BEARER.query) | {"since": "9"}))
    assert len(service.requests) == 1
    for other in (BEARER._replace(address="203.0.113.8"), BEARER._replace(headers={}), BEARER._replace(query={"device": "tv"})):
        await verifier.verify("t", other)
    await verifier.verify("t2", BEARER)
    assert len(service.requests) == 5
    clock.now += SETTINGS.auth_cache_s
    await verifier.verify("t", BEARER)
    assert len(service.requests) == 6


async def test_issued_is_when_it_was_asked_about(verifier: CallbackVerifier, service: Service, clock: Clock) -> None:
    """The first time, for as long as the answer is remembered: whoever revokes later means it, too."""
    service.answer = lambda: good(iat=4_000_000_000)
    earlier = int(time.time())
    first = await verifier.verify("t", BEARER)
    assert earlier <= first.iat <= time.time()
    assert (await verifier.verify("t", BEARER)).iat == first.iat
    await anyio.sleep(first.iat + 1 - time.time())
    assert (await verifier.verify("t", BEARER)).iat == first.iat
    clock.now += SETTINGS.auth_cache_s
    assert (await verifier.verify("t", BEARER)).iat > first.iat


async def test_refusals_are_remembered_briefly_and_apart(service: Service, clock: Clock) -> None:
    """A flood of bad tokens drives no good answer out."""
    verifier = _with(service, clock, auth_cache_max=2)
    await verifier.verify("good")
    service.answer = lambda: httpx.Response(403)
    for token in ("a", "b", "c", "d", "d"):
        with pytest.raises(TokenRefused):
            await verifier.verify(token)
    assert len(service.requests) == 5
    await verifier.verify("good")
    clock.now += 1
    with pytest.raises(TokenRefused):
        await verifier.verify("d")
    assert len(service.requests) == 6


async def test_nothing_is_remembered_unless_wanted(service: Service, clock: Clock) -> None:
    """auth_cache_s = 0 asks each time."""
    verifier = _with(service, clock, auth_cache_s=0.0)
    await verifier.verify("t")
    await verifier.verify("t")
    assert len(service.requests) == 2


async def test_what_cannot_be_asked_is_refused_unasked(verifier: CallbackVerifier, service: Service) -> None:
    """Too long, or not text."""
    with pytest.raises(TokenRefused, match="longer"):
        verifier.verify_at_once("x" * (TOKEN_MAX_CHARS + 1))
    for token, bearer in (
        ("x" * (TOKEN_MAX_CHARS + 1), NOBODY),
        ("t", BEARER._replace(headers={"cookie": "x" * BEARER_MAX_CHARS})),
        ("\udcff", NOBODY),
        ("t", BEARER._replace(headers={"user-agent": "\udcff"})),
    ):
        with pytest.raises(TokenRefused):
            await verifier.verify(token, bearer)
    assert verifier.verify_at_once("t") is None
    assert service.requests == []
