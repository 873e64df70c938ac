"""Edges that go by another issuer's tokens, or ask a service who a client is: real HTTP servers, and what they do wrong."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from router.auth.callback import CallbackVerifier
from router.auth.foreign import EXPIRES_MAX_S
from router.auth.issuer import HeldVerifier, IssuerVerifier
from router.auth.outward import ANSWER_MAX_BYTES
from router.auth.published import ASK_INTERVAL_S
from router.doctor.auth_server import examine as examine_auth
from router.doctor.findings import Severity
from router.errors import KeysUnavailable, SetupError, TokenRefused
from router.http.server import serve_http
from router.settings import Settings
from tests.integration.edges import eventually, running_edge
from tests.issuers import EC_KEY, ED_KEY, RSA_KEY, SECRET, jwk, key_set, payload, pem, sign
from tests.servers import EmbeddedValkey, free_ports

pytestmark = pytest.mark.anyio

NAMES: Final[dict[str, Any]] = {"token_issuer": "https://issuer.example", "token_audience": "push"}
QUICK: Final[dict[str, Any]] = {"backoff_min_ms": 1, "backoff_max_ms": 20}


class Site:
    """A web server whose one page is written by the test.

    Attributes:
        answer: writes it.
        asked: how often it was asked for.
    """

    def __init__(self) -> None:
        self.port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}/page"
        self.answer: Callable[[Request], Awaitable[Response]] = _nothing
        self.asked: list[Request] = []

    def gives(self, body: bytes, status: int = 200) -> None:
        """Answer so from now on."""

        async def answer(_request: Request) -> Response:
            return Response(body, status)

        self.answer = answer

    async def page(self, request: Request) -> Response:
        """Answer."""
        await request.body()
        self.asked.append(request)
        return await self.answer(request)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve within the block; requests in hand are cut at its end."""
        app = Starlette(routes=[Route("/page", self.page, methods=["GET", "POST"]), Route("/elsewhere", self.page)])
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_http, app, "127.0.0.1", self.port, anyio.Event())
            yield
            tasks.cancel_scope.cancel()


async def _nothing(_request: Request) -> Response:
    return Response(status_code=404)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Yield a server that has nothing yet."""
    site = Site()
    async with site.open():
        yield site


class Clock:
    """A clock that stands still until it is moved."""

    now = 1_000.0

    def __call__(self) -> float:
        """Tell the time in seconds."""
        return self.now


def _issuer(site: Site, clock: Clock, **changes: object) -> IssuerVerifier:
    settings = Settings.model_validate({"auth_by": "jwt", "jwt_jwks_url": site.url} | NAMES | QUICK | changes)
    return IssuerVerifier(settings, clock=clock)


async def test_keys_change_with_an_overlap(site: Site) -> None:
    """The old key, then both, then the new one: tokens of what is published are believed, and nobody has to restart."""
    clock = Clock()
    verifier = _issuer(site, clock)
    old, new = sign(payload(), RSA_KEY, "RS256", kid="old"), sign(payload(), EC_KEY, "ES256", kid="new")
    site.gives(key_set(jwk(RSA_KEY, kid="old")))
    assert (await verifier.verify(old)).user == "alice"
    site.gives(key_set(jwk(RSA_KEY, kid="old"), jwk(EC_KEY, kid="new")))
    clock.now += ASK_INTERVAL_S
    for token in (new, old):
        assert (await verifier.verify(token)).user == "alice"
    site.gives(key_set(jwk(EC_KEY, kid="new")))
    clock.now += ASK_INTERVAL_S
    with pytest.raises(TokenRefused, match="does not publish"):
        await verifier.verify(sign(payload(), ED_KEY, "EdDSA", kid="other"))
    assert verifier.verify_at_once(new) is not None
    assert verifier.verify_at_once(old) is None


async def test_wrong_key_of_a_known_name_is_refused_unasked(site: Site) -> None:
    """A name is no proof, and the keys of other names are not tried."""
    verifier = _issuer(site, Clock())
    site.gives(key_set(jwk(RSA_KEY, kid="a"), jwk(EC_KEY, kid="b")))
    await verifier.verify(sign(payload(), RSA_KEY, "RS256", kid="a"))
    for token in (sign(payload(), EC_KEY, "ES256", kid="a"), sign(payload(), ED_KEY, "EdDSA", kid="b")):
        with pytest.raises(TokenRefused, match="signature"):
            await verifier.verify(token)
    assert len(site.asked) == 1


async def test_keys_and_tokens_without_names(site: Site) -> None:
    """A token without kid is tried with every key that fits, one with an unknown kid with nameless keys."""
    clock = Clock()
    verifier = _issuer(site, clock)
    site.gives(key_set(jwk(RSA_KEY, kid="a"), jwk(EC_KEY)))
    for token in (
        sign(payload(), RSA_KEY, "RS256"),
        sign(payload(), EC_KEY, "ES256"),
        sign(payload(), EC_KEY, "ES256", kid="x"),
    ):
        assert (await verifier.verify(token)).user == "alice"
    assert len(site.asked) == 1
    site.gives(key_set(jwk(ED_KEY)))
    clock.now += ASK_INTERVAL_S
    assert (await verifier.verify(sign(payload(), ED_KEY, "EdDSA"))).user == "alice"


async def test_unknown_names_ask_seldom(site: Site) -> None:
    """Whatever anybody sends, with a name or without: one question in the interval, and nobody refused without an answer."""
    clock = Clock()
    verifier = _issuer(site, clock)
    site.gives(key_set(jwk(RSA_KEY, kid="a")))
    outcomes: list[type[Exception]] = []

    async def come(token: str) -> None:
        try:
            await verifier.verify(token)
        except (TokenRefused, KeysUnavailable) as exc:
            outcomes.append(type(exc))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(come, sign(payload(jti=str(number)), EC_KEY, "ES256", kid=f"k{number}"))
            tasks.start_soon(come, sign(payload(jti=str(number)), EC_KEY, "ES256"))
    assert (len(outcomes), len(site.asked)) == (200, 1)
    clock.now += ASK_INTERVAL_S
    with pytest.raises(TokenRefused):
        await verifier.verify(sign(payload(jti="0"), EC_KEY, "ES256", kid="k0"))
    assert len(site.asked) == 2


@pytest.mark.parametrize("body", [b"<html>", b"x" * (ANSWER_MAX_BYTES + 1), key_set(jwk(RSA_KEY, use="enc"))])
async def test_bad_set_takes_no_keys_away(site: Site, body: bytes) -> None:
    """An error page, or a book; those known are kept."""
    clock = Clock()
    verifier = _issuer(site, clock)
    site.gives(key_set(jwk(RSA_KEY, kid="a")))
    token = sign(payload(), RSA_KEY, "RS256", kid="a")
    await verifier.verify(token)
    site.gives(body)
    clock.now += ASK_INTERVAL_S
    with pytest.raises(KeysUnavailable):
        await verifier.verify(sign(payload(), ED_KEY, "EdDSA", kid="b"))
    assert (await verifier.verify(token)).user == "alice"


async def test_nobody_is_sent_elsewhere(site: Site) -> None:
    """A redirect is an answer that is no set."""

    async def elsewhere(_request: Request) -> Response:
        return RedirectResponse("/elsewhere")

    site.answer = elsewhere
    with pytest.raises(KeysUnavailable):
        await _issuer(site, Clock()).verify(sign(payload(), RSA_KEY, "RS256", kid="a"))
    assert [request.url.path for request in site.asked] == ["/page"]


async def test_slow_answer_is_none(site: Site) -> None:
    """The deadline is for the whole: a server that sends a little now and then holds nobody up."""

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await anyio.sleep(0.01)

    async def slow(_request: Request) -> Response:
        return StreamingResponse(drip())

    site.answer = slow
    verifier = _issuer(site, Clock(), auth_timeout_s=0.2)
    with anyio.fail_after(10), pytest.raises(KeysUnavailable):
        await verifier.verify(sign(payload(), RSA_KEY, "RS256", kid="a"))


async def test_issuer_that_is_away_is_waited_for() -> None:
    """Until it is there; from then on its tokens are believed, whether it is there or not."""
    site = Site()
    verifier = _issuer(site, Clock())
    token = sign(payload(), RSA_KEY, "RS256", kid="a")
    with pytest.raises(KeysUnavailable):
        await verifier.verify(token)
    site.gives(key_set(jwk(RSA_KEY, kid="a")))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(verifier.run)
        async with site.open():
            with anyio.fail_after(20):
                await verifier.supplied()
        assert verifier.verify_at_once(token) is not None
        tasks.cancel_scope.cancel()


def _held(file: Path, **changes: object) -> HeldVerifier:
    settings = {"auth_by": "jwt", "jwt_key_file": str(file), "jwks_refresh_s": 0.01} | NAMES | changes
    return HeldVerifier(Settings.model_validate(settings))


async def test_key_file_is_read_anew(tmp_path: Path) -> None:
    """With both keys in it, then the new one; what cannot be used changes nothing."""
    file = tmp_path / "issuer.pem"
    file.write_bytes(pem(RSA_KEY))
    verifier = _held(file)
    old, new = sign(payload(), RSA_KEY, "RS256"), sign(payload(), ED_KEY, "EdDSA", kid="whatever")

    def believed(token: str) -> bool:
        try:
            return verifier.verify_at_once(token).user == "alice"
        except TokenRefused:
            return False

    assert (believed(old), believed(new)) == (True, False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(verifier.run)
        file.write_bytes(pem(RSA_KEY, ED_KEY))
        await eventually(lambda: believed(old) and believed(new))
        file.write_bytes(b"nonsense")
        await eventually(lambda: not verifier._readable)
        assert (believed(old), believed(new)) == (True, True)
        file.write_bytes(pem(ED_KEY))
        await eventually(lambda: believed(new) and not believed(old))
        tasks.cancel_scope.cancel()


def test_unfit_key_file_stops_the_start(tmp_path: Path) -> None:
    """And is named: it is not there, it holds none, or none that the algorithms are for."""
    file = tmp_path / "issuer.pem"
    for text, said in ((None, "No such file"), (b"nonsense", "0 keys"), (pem(ED_KEY), "jwt_algorithms: no key")):
        if text is not None:
            file.write_bytes(text)
        with pytest.raises(SetupError, match=said):
            _held(file, jwt_algorithms=("RS256",))


@asynccontextmanager
async def _judge(site: Site, **changes: object) -> AsyncIterator[CallbackVerifier]:
    settings = {"auth_by": "http", "auth_callback_url": site.url} | QUICK | changes
    verifier = CallbackVerifier(Settings.model_validate(settings))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(verifier.run)
        yield verifier
        tasks.cancel_scope.cancel()


async def _let_in(request: Request) -> Response:
    asked = await request.json()
    return JSONResponse({"user": asked["token"], "expires_at": int(time.time()) + 600, "topics": ["news"]})


async def test_service_that_hangs_is_left_alone_and_found_again(site: Site) -> None:
    """The breaker opens after so many, spares the service, and closes when a try passes."""
    hang = anyio.Event()

    async def hanging(request: Request) -> Response:
        await hang.wait()
        return await _let_in(request)

    site.answer = hanging
    spared = {"auth_timeout_s": 0.2, "auth_callback_failures_max": 2, "backoff_min_ms": 500, "backoff_max_ms": 500}
    async with _judge(site, **spared) as verifier:
        for _ in range(10):
            with pytest.raises(KeysUnavailable):
                await verifier.verify("alice")
        assert len(site.asked) == 2
        hang.set()
        site.answer = _let_in

        async def found() -> bool:
            try:
                return (await verifier.verify("alice")).user == "alice"
            except KeysUnavailable:
                return False

        await eventually(found)
        assert len(site.asked) == 3
        await verifier.verify("alice")
        assert len(site.asked) == 3


async def test_service_is_not_sent_elsewhere(site: Site) -> None:
    """The token and the secret go where the settings say."""

    async def elsewhere(_request: Request) -> Response:
        return RedirectResponse("/elsewhere", 307)

    site.answer = elsewhere
    async with _judge(site) as verifier:
        with pytest.raises(KeysUnavailable, match="307"):
            await verifier.verify("alice")
    assert [request.url.path for request in site.asked] == ["/page"]


async def test_edge_that_asks_a_service(site: Site, valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """Lets in whom the service lets in, by header or by frame; tells who it is; and sends the others where they belong."""
    site.answer = _let_in
    settings = {"auth_by": "http", "auth_callback_url": site.url, "auth_callback_headers": ("user-agent", "cookie")}
    async with running_edge(valkey_server.url, tmp_path, **settings) as edge:
        async with edge.open("alice", device="phone") as client:
            assert (await client.welcome())["user"] == "alice"
        async with edge.open() as client:
            await client.send(type="connect", token="bob")  # noqa: S106 - of a service that believes anything
            assert (await client.welcome())["user"] == "bob"
        asked = [await request.json() for request in site.asked]
        assert [(one["token"], one["address"], one["query"]) for one in asked] == [
            ("alice", "127.0.0.1", {"device": "phone"}),
            ("bob", "127.0.0.1", {}),
        ]
        assert [list(one["headers"]) for one in asked] == [["user-agent"]] * 2
        site.gives(b'{"reason":"go home"}', 403)
        async with edge.open("mallory") as client:
            assert await client.closed() == (4500, "not authenticated: go home")
        site.gives(b"", 500)
        async with edge.open("carol") as client:
            assert (await client.closed())[0] == 4001
        async with edge.open("alice", device="phone") as client:
            assert (await client.welcome())["user"] == "alice"


async def test_edge_that_asks_auth(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """/v1/verify is such a service; with a wrong secret nobody is sent away for good."""
    port = free_ports()
    settings = {
        "auth_by": "http",
        "auth_port": port,
        "auth_url": f"http://127.0.0.1:{port}",
        "auth_callback_url": f"http://127.0.0.1:{port}/v1/verify",
        "auth_callback_secret": "k",
    }
    async with running_edge(valkey_server.url, tmp_path, **settings) as edge:
        async with edge.open(edge.token("alice")) as client:
            assert (await client.welcome())["user"] == "alice"
        async with edge.open("nonsense") as client:
            assert (await client.closed())[0] == 4500
    wrong = settings | {"auth_callback_secret": "other"}
    async with running_edge(valkey_server.url, tmp_path, **wrong) as edge, edge.open(edge.token("alice")) as client:
        assert (await client.closed())[0] == 4001


@pytest.mark.parametrize("way", ["jwks", "file", "secret"])
async def test_edge_that_takes_an_issuer_s_tokens(site: Site, valkey_server: EmbeddedValkey, tmp_path: Path, way: str) -> None:
    """By a set, a file or a secret; tokens of our own auth get nobody in then."""
    site.gives(key_set(jwk(RSA_KEY, kid="a")))
    (tmp_path / "issuer.pem").write_bytes(pem(RSA_KEY))
    keys: dict[str, dict[str, Any]] = {
        "jwks": {"jwt_jwks_url": site.url},
        "file": {"jwt_key_file": str(tmp_path / "issuer.pem")},
        "secret": {"jwt_secret": (SECRET,)},
    }
    good = partial(sign, key=SECRET, algorithm="HS256") if way == "secret" else partial(sign, key=RSA_KEY, algorithm="RS256")
    async with running_edge(valkey_server.url, tmp_path, auth_by="jwt", **NAMES, **keys[way]) as edge:
        async with edge.open(good(payload(topics=["*"]), kid="a"), topics="news") as client:
            assert (await client.welcome())["user"] == "alice"
        async with edge.open(good(payload(exp=EXPIRES_MAX_S * 10), kid="a")) as client:
            await client.welcome()
        async with edge.open(good(payload(exp=int(time.time()) - 60), kid="a")) as client:
            assert (await client.closed())[0] == 4003
        for token in (edge.token("alice"), good(payload(aud="others"), kid="a"), good(payload(exp=None), kid="a")):
            async with edge.open(token) as client:
                assert (await client.closed())[0] == 4500


async def test_doctor_looks_at_what_edges_go_by(site: Site, tmp_path: Path) -> None:
    """At the keys, or at the service: whether it can be had, and is of use."""

    async def told(**changes: object) -> list[tuple[Severity, str]]:
        findings = await examine_auth(Settings.model_validate(changes))
        return [(one.severity, one.seen) for one in findings]

    jwks: dict[str, object] = {"auth_by": "jwt", "jwt_jwks_url": site.url}
    http: dict[str, object] = {"auth_by": "http", "auth_callback_url": site.url}
    [(severity, said)] = await told(**jwks)
    assert (severity, "HTTP status 404" in said) == (Severity.ERROR, True)
    [(severity, said)] = await told(**http)
    assert (severity, "neither lets in nor refuses" in said) == (Severity.ERROR, True)
    site.gives(key_set(jwk(RSA_KEY, kid="a")))
    anybodys: dict[str, object] = {"token_audience": ""}
    found = await told(**jwks | anybodys)
    assert [severity for severity, _ in found] == [Severity.OK, Severity.WARNING]
    assert "publishes 1 key " in found[0][1]
    site.answer = _let_in
    [(severity, said)] = await told(**http)
    assert (severity, "lets in whoever" in said) == (Severity.ERROR, True)
    site.gives(b"", 403)
    secret: dict[str, object] = {"auth_callback_secret": "s"}
    assert [severity for severity, _ in await told(**http | secret)] == [Severity.OK]
    assert site.asked[-1].headers["authorization"] == "Bearer s"
    nobody = f"http://127.0.0.1:{free_ports()}"
    assert [severity for severity, _ in await told(**http | {"auth_callback_url": nobody})] == [Severity.ERROR]
    assert [severity for severity, _ in await told(auth_by="jwt", jwt_secret=(SECRET,))] == [Severity.OK]
    file = tmp_path / "issuer.pem"
    assert [severity for severity, _ in await told(auth_by="jwt", jwt_key_file=str(file))] == [Severity.ERROR]
    file.write_bytes(pem(RSA_KEY))
    assert [severity for severity, _ in await told(auth_by="jwt", jwt_key_file=str(file))] == [Severity.OK]
