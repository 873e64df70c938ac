"""The auth service over real HTTP: what it issues is what an edge's verifier believes."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import jwt
import pytest

from router.auth.jwks import JwksVerifier
from router.auth.service import serve
from router.errors import SetupError, TokenRefused
from router.mongo_client import open_mongo
from router.ops import Health
from router.revocation import Revocation, of_user
from router.revoked import Revoked
from router.settings import Settings
from tests.integration.edges import mongo_urls
from tests.servers import EmbeddedValkey, free_ports

pytestmark = pytest.mark.anyio

API_KEY: Final = "key-of-the-back-end"
SAYS_JSON: Final = {"content-type": "application/json"}
AUTHORIZED: Final = {"authorization": f"Bearer {API_KEY}"}
TIMEOUT_S: Final = 60.0
LATE_S: Final = 20.0
"""How late a slow machine may look at what was made."""


@asynccontextmanager
async def _auth(folder: Path, **changes: object) -> AsyncIterator[tuple[Settings, httpx.AsyncClient]]:
    """A running auth service, its settings, and a client that shows the API key."""
    port = free_ports()
    values = {
        "api_key": API_KEY,
        "auth_port": port,
        "auth_url": f"http://127.0.0.1:{port}",
        "auth_key_file": folder / "key.pem",
        "mongo_url": mongo_urls[-1],
        "mongo_database": f"auth_{port}",
    }
    settings, health = Settings.model_validate(values | changes), Health()
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tg:
            tg.start_soon(serve, settings, health, anyio.Event())
            while not health.ready:  # noqa: ASYNC110 - readiness is asked for, as a balancer would
                await anyio.sleep(0.005)
            async with httpx.AsyncClient(base_url=settings.auth_url, headers=AUTHORIZED) as client:
                yield settings, client
            tg.cancel_scope.cancel()  # see api_site.py


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncIterator[tuple[Settings, httpx.AsyncClient]]:
    """An auth service with the defaults."""
    async with _auth(tmp_path) as running:
        yield running


async def test_issued_token_is_believed_by_a_verifier(auth: tuple[Settings, httpx.AsyncClient]) -> None:
    """A token issued over HTTP says through JWKS what was asked for."""
    settings, client = auth
    before = int(time.time())
    answer = await client.post(
        "/v1/tokens", json={"user": "alice", "ttl_s": 60, "topics": ["news", "sport.*"], "subscribe": ["sport"]}
    )
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    issued = answer.json()
    claims = await JwksVerifier(settings).verify(issued["token"])
    assert (claims.user, claims.topics, claims.jti) == ("alice", ("news", "sport.*"), issued["jti"])
    assert claims.subscribe == ("sport",)
    assert claims.expires_at == issued["expires_at"]
    assert before + 60 <= claims.expires_at <= int(time.time()) + 60


async def test_token_lives_token_ttl_s_unless_asked_otherwise(auth: tuple[Settings, httpx.AsyncClient]) -> None:
    """The default life is the setting's."""
    settings, client = auth
    issued = (await client.post("/v1/tokens", json={"user": "alice"})).json()
    assert abs(issued["expires_at"] - time.time() - settings.token_ttl_s) < LATE_S


async def test_whole_number_may_have_a_fraction_of_zero(auth: tuple[Settings, httpx.AsyncClient]) -> None:
    """Some languages write 60 so; a real fraction is refused."""
    _, client = auth
    issued = (await client.post("/v1/tokens", json={"user": "alice", "ttl_s": 60.0})).json()
    assert abs(issued["expires_at"] - time.time() - 60) < LATE_S
    refused = await client.post("/v1/tokens", json={"user": "alice", "ttl_s": 60.5})
    assert (refused.status_code, refused.json()["field"]) == (400, "ttl_s")


async def test_published_key_is_standard(auth: tuple[Settings, httpx.AsyncClient]) -> None:
    """PyJWT's own JWK code reads the published set and verifies a token with it; anybody may read it."""
    settings, client = auth
    token = (await client.post("/v1/tokens", json={"user": "alice"})).json()["token"]
    async with httpx.AsyncClient() as stranger:
        answer = await stranger.get(f"{settings.auth_url}/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    key = jwt.PyJWKSet.from_dict(answer.json())[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, audience="pushway", issuer="pushway")["sub"] == "alice"


async def test_restart_keeps_tokens_good(tmp_path: Path) -> None:
    """The key is in the file, so another start verifies what an earlier one issued."""
    async with _auth(tmp_path) as (_, client):
        token = (await client.post("/v1/tokens", json={"user": "alice"})).json()["token"]
    async with _auth(tmp_path) as (settings, _):
        assert (await JwksVerifier(settings).verify(token)).user == "alice"


async def test_token_of_another_installation_is_refused(tmp_path: Path) -> None:
    """Another key file is another installation: unknown kid."""
    (tmp_path / "other").mkdir()
    async with _auth(tmp_path / "other") as (_, client):
        token = (await client.post("/v1/tokens", json={"user": "alice"})).json()["token"]
    async with _auth(tmp_path) as (settings, client):
        with pytest.raises(TokenRefused, match="does not know"):
            await JwksVerifier(settings).verify(token)
        assert (await client.post("/v1/verify", data={"token": token})).json() == {"active": False}


@pytest.mark.parametrize("form", ["data", "json"])
async def test_verify_tells_what_a_good_token_says(auth: tuple[Settings, httpx.AsyncClient], form: str) -> None:
    """RFC 7662's answer, for a form (the RFC's way) and for JSON."""
    _, client = auth
    issued = (await client.post("/v1/tokens", json={"user": "alice", "topics": ["news"], "subscribe": ["sport"]})).json()
    body: dict[str, Any] = {form: {"token": issued["token"], "token_type_hint": "access_token"}}
    answer = await client.post("/v1/verify", **body)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "active": True,
        "sub": "alice",
        "exp": issued["expires_at"],
        "iss": "pushway",
        "aud": "pushway",
        "jti": issued["jti"],
        "topics": ["news"],
        "subscribe": ["sport"],
    }


async def test_verify_tells_nothing_of_a_bad_token(auth: tuple[Settings, httpx.AsyncClient]) -> None:
    """Garbage and a changed token are inactive, with 200 and no reason (RFC 7662, section 2.2)."""
    _, client = auth
    token = (await client.post("/v1/tokens", json={"user": "alice"})).json()["token"]
    header, _, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps({"sub": "mallory"}).encode()).rstrip(b"=").decode()
    for bad in ("garbage", f"{header}.{forged}.{signature}"):
        answer = await client.post("/v1/verify", json={"token": bad})
        assert (answer.status_code, answer.json()) == (200, {"active": False})


@pytest.mark.parametrize("shown", [{}, {"authorization": "Bearer wrong"}, {"authorization": API_KEY}, {"authorization": "é"}])
@pytest.mark.parametrize("path", ["/v1/tokens", "/v1/verify"])
async def test_without_the_api_key_nothing_is_answered(
    auth: tuple[Settings, httpx.AsyncClient], path: str, shown: dict[str, str]
) -> None:
    """Neither tokens nor what they say are for strangers."""
    settings, _ = auth
    headers = httpx.Headers(shown, encoding="utf-8")
    async with httpx.AsyncClient(base_url=settings.auth_url) as stranger:
        answer = await stranger.post(path, json={"user": "alice", "token": "x"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="pushway"')
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (b"{}", "user", "missing required field"),
        (b'{"user":7}', "user", "Expected `str`"),
        (b'{"user":"a b"}', "user", "is not an id"),
        (b'{"user":"alice","ttl_s":"1"}', "ttl_s", "got `str`"),
        (b'{"user":"alice","ttl_s":0}', "ttl_s", ">= 1"),
        (b'{"user":"alice","ttl_s":86401}', "ttl_s", "at most 86400"),
        (b'{"user":"alice","topics":"news"}', "topics", "Expected `array`"),
        (b'{"user":"alice","topics":[1]}', "topics", "Expected `str`"),
        (b'{"user":"alice","topics":["a b"]}', "topics", "is not an id"),
        (json.dumps({"user": "alice", "topics": ["t"] * 101}).encode(), "topics", "at most 100"),
        (b'{"user":"alice","subscribe":["a b"]}', "subscribe", "is not an id"),
        (json.dumps({"user": "alice", "topics": ["t"] * 50, "subscribe": ["t"] * 51}).encode(), "subscribe", "at most 100"),
        (b'{"user":"alice","ttl":5}', "ttl", "there is no such field (fields: subscribe, topics, ttl_s, user)"),
        (b"[]", "body", "Expected `object`"),
        (b"", "body", "JSON object"),
        (b"\xff", "body", "JSON object"),
        (b'{"user":"\\ud800"}', "body", "JSON object"),
        (b"[" * 10_000, "body", ""),
    ],
)
async def test_bad_request_names_field_and_rule(
    auth: tuple[Settings, httpx.AsyncClient], body: bytes, field: str, said: str
) -> None:
    """Each problem is a 400 that says which field broke which rule."""
    _, client = auth
    answer = await client.post("/v1/tokens", content=body, headers=SAYS_JSON)
    problem = answer.json()
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["title"], problem["status"], problem["field"]) == ("Bad Request", 400, field)
    assert said in problem["rule"]
    assert problem["rule"] in problem["detail"]


@pytest.mark.parametrize("body", [b"", b"token=", b"tok=x", b"token=a&token=b", b"\xff"])
async def test_verify_form_needs_one_token(auth: tuple[Settings, httpx.AsyncClient], body: bytes) -> None:
    """A form without exactly one token is a 400."""
    _, client = auth
    answer = await client.post("/v1/verify", content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 400
    assert answer.json()["field"] == "token"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/tokens", 405),
        ("POST", "/.well-known/jwks.json", 405),
        ("GET", "/v1/revoke", 405),
    ],
)
async def test_wrong_address_is_a_problem_document(
    auth: tuple[Settings, httpx.AsyncClient], method: str, path: str, status: int
) -> None:
    """Unknown paths and methods get problem documents too."""
    _, client = auth
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


REVOKES: Final[list[tuple[dict[str, object], str]]] = [
    ({}, "body"),
    ({"user": "alice", "jti": "t"}, "body"),
    ({"all": False}, "all"),
    ({"all": True, "user": None}, "user"),
    ({"token": "t", "before": 5}, "before"),
    ({"jti": "t", "before": 5}, "before"),
    ({"user": "alice", "before": 9_999_999_999}, "before"),
    ({"user": "alice", "before": -1}, "before"),
    ({"user": "alice", "before": 1.5}, "before"),
    ({"user": "a b"}, "user"),
    ({"user": {"$gt": ""}}, "user"),
    ({"user": "alice", "befor": 5}, "befor"),
    ({"jti": "x" * 257}, "jti"),
    ({"jti": ""}, "jti"),
]


@pytest.mark.parametrize(("body", "field"), REVOKES)
async def test_what_cannot_be_revoked(auth: tuple[Settings, httpx.AsyncClient], body: dict[str, object], field: str) -> None:
    """The field at fault is named, and nothing is written."""
    settings, client = auth
    answer = await client.post("/v1/revoke", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    async with open_mongo(settings) as mongo:
        assert (await Revoked(mongo, settings).read()).revocations == []


async def test_a_token_that_is_good_for_nothing_is_as_good_as_revoked(auth: tuple[Settings, httpx.AsyncClient]) -> None:
    """RFC 7009, section 2.2: by a form or JSON, with a hint or without."""
    _, client = auth
    for sent in ({"data": {"token": "x", "token_type_hint": "access_token"}}, {"json": {"token": "x", "token_type_hint": "y"}}):
        answer = await client.post("/v1/revoke", **sent)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()) == (200, {"revoked": False})
        assert answer.headers["cache-control"] == "no-store"


async def test_revoked_is_what_was_issued_before_the_answer(tmp_path: Path, valkey_server: EmbeddedValkey) -> None:
    """In the same second, too; and what is issued behind it is good, at once."""
    async with _auth(tmp_path, redis_url=valkey_server.url) as (_, client):
        old = (await client.post("/v1/tokens", json={"user": "alice"})).json()["token"]
        other = (await client.post("/v1/tokens", json={"user": "bob"})).json()["token"]
        answer = await client.post("/v1/revoke", json={"user": "alice"})
        new = (await client.post("/v1/tokens", json={"user": "alice"})).json()["token"]
        assert answer.json() == {"revoked": True, "before": int(time.time())}
        assert [await _is_active(client, token) for token in (old, other, new)] == [False, True, True]
        assert (await client.post("/v1/revoke", data={"token": other})).json() == {"revoked": True}
        assert (await client.post("/v1/revoke", data={"all": "true", "before": "5"})).json() == {"revoked": True, "before": 5}
        for form, field in (
            (b"token=a&token=b", "token"),
            (b"user=a&before=soon", "before"),
            (b"\xff", "body"),
            (b"usr=a", "usr"),
            (b"all=1", "all"),
        ):
            headers = {"content-type": "application/x-www-form-urlencoded"}
            answer = await client.post("/v1/revoke", content=form, headers=headers)
            assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert [await _is_active(client, token) for token in (other, new)] == [False, True]
        assert (
            await client.post("/v1/revoke", json={"jti": jwt.decode(new, options={"verify_signature": False})["jti"]})
        ).is_success
        assert not await _is_active(client, new)


async def test_without_mongodb_tokens_are_issued_and_nothing_else(tmp_path: Path) -> None:
    """Nobody can tell whether one is good, and none can be called back."""
    away = f"mongodb://127.0.0.1:{free_ports()}/?directConnection=true"
    async with _auth(tmp_path, mongo_url=away, mongo_timeout_s=0.2) as (_, client):
        token = (await client.post("/v1/tokens", json={"user": "alice"})).json()["token"]
        for path, body in (("/v1/verify", {"token": token}), ("/v1/revoke", {"token": token}), ("/v1/revoke", {"user": "a"})):
            answer = await client.post(path, json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert (await client.post("/v1/verify", json={"token": "nonsense"})).json() == {"active": False}


async def test_without_redis_it_is_written_and_said_that_nobody_was_told(tmp_path: Path) -> None:
    """It holds for whoever comes; edges find it when they read the list."""
    away = f"redis://127.0.0.1:{free_ports()}/0"
    async with _auth(tmp_path, redis_url=away, redis_timeout_s=0.5) as (_, client):
        token = (await client.post("/v1/tokens", json={"user": "alice"})).json()["token"]
        answer = await client.post("/v1/revoke", json={"user": "alice"})
        assert answer.status_code == 503
        assert "it is written" in answer.json()["detail"]
        assert not await _is_active(client, token)


async def test_revocations_in_mongodb(auth: tuple[Settings, httpx.AsyncClient]) -> None:
    """Times never go back, whoever writes last; what changed since is read without what did not."""
    settings, _ = auth
    async with open_mongo(settings) as mongo:
        revoked = Revoked(mongo, settings)
        await revoked.make_indexes()
        await revoked.make_indexes()
        late, early = (of_user("alice", settings, time.time(), before) for before in (80, 50))
        await revoked.add(late)

        async def add(one: Revocation) -> None:
            await revoked.add(one)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(add, early)
                tasks.start_soon(add, of_user("bob", settings, 100.0))
        found, newest = await revoked.read()
        assert {one.id: one.before for one in found} == {"user:alice": 80, "user:bob": 101}
        assert newest is not None
        assert await revoked.find(["user:alice", "all"]) == [one for one in found if one.id == "user:alice"]
        # As if both had been written a while ago.
        assert (await revoked.read(newest + timedelta(minutes=5))).revocations == []
        assert (await revoked.read(newest + timedelta(minutes=5))).newest == newest + timedelta(minutes=5)
        assert len((await revoked.read(newest)).revocations) == 2
        await mongo[settings.mongo_database].revoked.insert_one({"_id": "user:eve", "before": "soon"})
        assert len((await revoked.read()).revocations) == 2


async def _is_active(client: httpx.AsyncClient, token: str) -> bool:
    active: bool = (await client.post("/v1/verify", json={"token": token})).json()["active"]
    return active


async def test_long_body_is_refused(auth: tuple[Settings, httpx.AsyncClient]) -> None:
    """A body over the limit is a 413, announced or in chunks."""
    settings, client = auth

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(settings.auth_body_max_bytes // 1024 + 1):
            yield b" " * 1024

    for content in (b" " * (settings.auth_body_max_bytes + 1), chunks()):
        answer = await client.post("/v1/tokens", content=content, headers=SAYS_JSON)
        assert answer.status_code == 413
        assert str(settings.auth_body_max_bytes) in answer.json()["detail"]


async def test_unforeseen_error_is_a_problem_document_without_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 500 tells nothing of the inside."""
    monkeypatch.setattr("router.auth.service.issue", lambda *_: 1 / 0)
    async with _auth(tmp_path) as (_, client):
        answer = await client.post("/v1/tokens", json={"user": "alice"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "division" not in answer.text


async def test_without_api_key_it_does_not_start(tmp_path: Path) -> None:
    """The error says how to set one, and no key file is made."""
    settings = Settings(auth_key_file=tmp_path / "key.pem")
    with pytest.raises(SetupError, match="PUSHWAY_API_KEY_FILE"):
        await serve(settings, Health(), anyio.Event())
    assert not settings.auth_key_file.exists()


async def test_taken_port_leaves_no_key_behind(tmp_path: Path) -> None:
    """A start that fails has made nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(api_key="k", auth_port=taken.getsockname()[1], auth_key_file=tmp_path / "key.pem")
        with pytest.raises(SetupError, match="cannot listen"):
            await serve(settings, Health(), anyio.Event())
    assert not settings.auth_key_file.exists()


@pytest.mark.parametrize("said", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_what_does_not_say_json_is_refused(auth: tuple[Settings, httpx.AsyncClient], said: str | None) -> None:
    """415: what a form of a page could send is no request for a token."""
    _, client = auth
    answer = await client.post("/v1/tokens", content=b'{"user":"alice"}', headers={"content-type": said} if said else {})
    assert answer.status_code == 415
