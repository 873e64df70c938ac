"""Tokens that say more of themselves than they may, or ask to be believed in another way, at a real edge, in all its ways.

What decides is held in tests/unit/auth; what follows here is what a whole edge makes of it: 4500, at once, and nobody is asked
whom the token names.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import jwt
import pytest
from pydantic import ValidationError

from router.auth.keyfile import load_or_make
from router.combined import problems
from router.settings import Settings
from tests.integration.edges import Edge, running_edge
from tests.issuers import ED_KEY, RSA_KEY, SECRET, jwk, payload, pem, sign
from tests.servers import EmbeddedValkey, free_ports

pytestmark = pytest.mark.anyio


TURNED_AWAY: Final = {4500, 4001}
"""For good; or for now, with the name of a key that auth has not been asked about yet (router/auth/published.py)."""


class Trap:
    """A port that counts who connects."""

    def __init__(self) -> None:
        self.port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}/keys"
        self.visits = 0

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Count until cancelled."""
        async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=self.port) as listener:
            task_status.started()
            await listener.serve(self._count)

    async def _count(self, stream: anyio.abc.SocketStream) -> None:
        self.visits += 1
        await stream.aclose()


@pytest.fixture(scope="module")
async def edge(valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """Yield an edge that takes frames as long as a token may be."""
    async with running_edge(valkey_server.url, tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture(scope="module")
async def trap() -> AsyncIterator[Trap]:
    """Yield a port that nobody is to connect to."""
    trap = Trap()
    async with anyio.create_task_group() as tasks:
        await tasks.start(trap.run)
        yield trap
        tasks.cancel_scope.cancel()


def _part(said: object) -> str:
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _headers(url: str) -> list[dict[str, Any]]:
    """Return what is added to a header; where it replaces the key or the algorithm, that is another one."""
    return [
        *({name: url} for name in ("jku", "x5u")),
        {"jku": "file:///etc/passwd", "kid": "../../../../etc/passwd"},
        {"jwk": json.loads(json.dumps(jwk(RSA_KEY, kid="own")))},
        {"x5c": ["MIIB"], "x5t": "AAAA"},
        *({"kid": kid} for kid in ("", "x" * 2_000, "' OR 1=1 --", "a\0b", "../key.pem", {"$gt": ""}, ["a"], 1, None)),
        *(
            {"alg": alg}
            for alg in ("none", "None", "NONE", "nOnE", "", "HS256", "EdDSA\0", "eddsa", " EdDSA", 1, None, ["EdDSA"])
        ),
        *({"crit": crit} for crit in (["exp"], ["b64"], [], "exp", None)),
        {"b64": False, "crit": ["b64"]},
        {"zip": "DEF", "alg": "none"},
        {"enc": "A256GCM", "alg": "dir"},
    ]


def forgeries(settings: Settings, url: str) -> list[str]:
    """Return tokens of which none may let anybody in; some name an address, which nobody is to ask."""
    key, now = load_or_make(settings.auth_key_file), int(time.time())
    said = {"iss": "pushway", "aud": "pushway", "sub": "mallory", "jti": "j", "iat": now, "exp": now + 600}
    good = jwt.encode(said, key.private, algorithm="EdDSA", headers={"kid": key.kid})
    _, body, signature = good.split(".")
    return [
        # With the signature of another header: whatever the header asks for, it is not signed.
        *(f"{_part({'alg': 'EdDSA', 'kid': key.kid, 'typ': 'JWT'} | more)}.{body}.{signature}" for more in _headers(url)),
        *(f"{_part({'alg': 'none', 'kid': key.kid})}.{body}.{end}" for end in ("", signature, "AA")),
        *(sign(said, RSA_KEY, "RS256", kid=key.kid), sign(said, ED_KEY, "EdDSA", kid=key.kid), sign(said, ED_KEY, "EdDSA")),
        *(f"{good}.{signature}", f"{good}..", f".{good}", f"{good}A", good[:-1], good.replace(".", ".."), f"{good} {good}"),
        *(good.replace(".", "%2e"), good + "\u00e9", "a.b.c", "..", ".", "", "null", "x" * 8_193, "." * 8_000),
        *(f"{_part(b'[' * 6_000)}.{body}.{signature}", f"{_part(b'{' * 6_000)}.{body}.{signature}"),
        *(f"{_part(b'1e999')}.{body}.{signature}", f"{_part(b'null')}.{body}.{signature}", f"{_part(chr(0xD8).encode())}.a.b"),
    ]


async def test_no_token_but_a_good_one_lets_anybody_in(edge: Edge, trap: Trap) -> None:
    """By header and by frame; no address in a token is asked, and a good one is as good as before."""
    before = trap.visits
    for token in forgeries(edge.settings, trap.url):
        async with edge.open() as client:
            await client.send(type="connect", token=token)
            assert (await client.closed())[0] in TURNED_AWAY, token[:200]
        if token.isascii() and token.strip() == token and len(token) < 8_000:
            async with edge.open(token) as client:
                assert (await client.closed())[0] in TURNED_AWAY, token[:200]
    assert trap.visits == before
    async with edge.session("alice"):
        pass


async def test_what_is_signed_twice_over_says_the_last(edge: Edge) -> None:
    """Of a claim that stands there twice all readers take the last: what was signed short is what the long way finds."""
    key, now = load_or_make(edge.settings.auth_key_file), int(time.time())
    claims = f'"iss":"pushway","aud":"pushway","jti":"j","exp":{now + 600}'
    for more in ("", ',"x":1'):  # with a claim of its own it goes the long way
        said = f'{{"sub":"bob",{claims}{more},"sub":"alice"}}'.encode()
        signed = f"{_part({'alg': 'EdDSA', 'kid': key.kid})}.{_part(said)}"
        async with edge.open(f"{signed}.{_part(key.private.sign(signed.encode()))}") as client:
            assert (await client.welcome())["user"] == "alice"


WAYS: Final[dict[str, dict[str, Any]]] = {
    "a key file": {"auth_by": "jwt"},
    "a secret": {"auth_by": "jwt", "jwt_secret": (SECRET,)},
    "a callback": {"auth_by": "http"},
}


@pytest.mark.parametrize("way", WAYS)
async def test_other_ways_let_nobody_in_either(valkey_server: EmbeddedValkey, tmp_path: Path, trap: Trap, way: str) -> None:
    """Tokens of our own auth and of nobody, addresses and keys within: 4500; a service that hangs up is "come again"."""
    changes = dict(WAYS[way]) | ({"token_issuer": "", "token_audience": ""} if way != "a callback" else {})
    if way == "a key file":
        (tmp_path / "issuer.pem").write_bytes(pem(RSA_KEY))
        changes["jwt_key_file"] = str(tmp_path / "issuer.pem")
    if way == "a callback":
        changes["auth_callback_url"] = trap.url
    before = trap.visits
    async with running_edge(valkey_server.url, tmp_path, **changes) as edge:
        forged = [
            edge.token("alice"),
            sign(payload(), ED_KEY, "EdDSA", kid="x", jku=trap.url),
            sign(payload(), ED_KEY, "EdDSA", jwk=json.loads(json.dumps(jwk(ED_KEY)))),
            jwt.encode(payload(), "", algorithm="none"),
            *forgeries(edge.settings, trap.url)[:8],
        ]
        for token in forged:
            async with edge.open(token) as client:
                assert (await client.closed())[0] == (4001 if way == "a callback" else 4500), token[:100]
    assert way == "a callback" or trap.visits == before


URLS: Final = [
    *(
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "ftp://keys.example/x",
        "gopher://keys.example/x",
        "data:,{}",
        "//x/y",
    ),
    *(
        "http://keys.example/x",
        "https://user:pw@keys.example/x",
        "https:///x",
        "https://keys.example/#x",
        "https://[::1",
        "x",
        "/x",
    ),
    *("https://keys.example:99999/x", "unix:///run/x", "javascript:1"),
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("name", ["jwt_jwks_url", "auth_callback_url"])
def test_no_address_but_that_of_a_service_is_taken(name: str, url: str) -> None:
    """Neither a file nor another scheme, nor a password that would stand in logs, nor plain http beyond this machine."""
    way = "jwt" if name == "jwt_jwks_url" else "http"
    try:
        found = [problem.name for problem in problems(Settings.model_validate({"auth_by": way, name: url}))]
    except ValidationError as exc:
        found = [str(error["loc"][0]) for error in exc.errors()]
    assert name in found
