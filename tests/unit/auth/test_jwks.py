"""router.auth.jwks: keys kept, asked for anew, and never a final refusal without auth's word."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from router.auth.jwk import thumbprint, to_key_set
from router.auth.jwks import JwksVerifier
from router.auth.published import ASK_INTERVAL_S, UNKNOWN_MAX
from router.auth.tokens import Claims, TokenRules, issue
from router.errors import KeysUnavailable, TokenRefused
from router.settings import Settings

pytestmark = pytest.mark.anyio

SETTINGS: Final = Settings(backoff_min_ms=1, backoff_max_ms=2, jwks_refresh_s=1_000)
TIMEOUT_S: Final = 10.0


class FakeAuth(httpx.AsyncBaseTransport):
    """Auth as the verifier sees it: keys that may change, a state that may be `away`, and a count of questions."""

    def __init__(self, *keys: Ed25519PrivateKey) -> None:
        self.keys = list(keys)
        self.away = False
        self.questions = 0
        self.answering: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer with the keys as they were when the question came."""
        self.questions += 1
        keys, away = list(self.keys), self.away
        await self.answering()
        if away:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json=to_key_set(*[key.public_key() for key in keys]))


class Clock:
    """A clock that stands still until it is moved."""

    now = 1_000.0

    def __call__(self) -> float:
        """Tell the time in seconds."""
        return self.now


def _token(key: Ed25519PrivateKey, user: str = "alice") -> str:
    now = int(time.time())
    claims = Claims(user=user, expires_at=now + 60, topics=(), jti="t1")
    return issue(claims, key, thumbprint(key.public_key()), TokenRules.of(SETTINGS), now)


@pytest.fixture
def key() -> Ed25519PrivateKey:
    """A key that auth publishes."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def auth(key: Ed25519PrivateKey) -> FakeAuth:
    """Auth, publishing `key`."""
    return FakeAuth(key)


@pytest.fixture
def clock() -> Clock:
    """The verifier's clock."""
    return Clock()


@pytest.fixture
def verifier(auth: FakeAuth, clock: Clock) -> JwksVerifier:
    """A verifier that has no keys yet."""
    return JwksVerifier(SETTINGS, transport=auth, clock=clock)


async def test_first_token_fetches_the_keys_and_the_next_do_not(
    verifier: JwksVerifier, auth: FakeAuth, key: Ed25519PrivateKey
) -> None:
    """A key once had is used without asking."""
    assert not verifier.keys_at_hand
    assert (await verifier.verify(_token(key))).user == "alice"
    assert (await verifier.verify(_token(key, "bob"))).user == "bob"
    assert verifier.keys_at_hand
    assert auth.questions == 1


async def test_what_can_be_told_at_once(verifier: JwksVerifier, auth: FakeAuth, key: Ed25519PrivateKey) -> None:
    """With its key at hand a token is checked without asking anybody; without it nothing is told yet."""
    assert verifier.verify_at_once(_token(key)) is None
    await verifier.verify(_token(key))
    claims = verifier.verify_at_once(_token(key, "bob"))
    assert claims is not None
    assert claims.user == "bob"
    with pytest.raises(TokenRefused):
        verifier.verify_at_once(_token(key)[:-4] + "AAAA")
    assert verifier.verify_at_once(_token(Ed25519PrivateKey.generate())) is None
    assert auth.questions == 1


async def test_token_of_an_unknown_key_is_refused_on_auth_s_word(verifier: JwksVerifier, auth: FakeAuth) -> None:
    """Auth was asked after the kid was seen and does not know it: refused."""
    with pytest.raises(TokenRefused, match="auth does not know"):
        await verifier.verify(_token(Ed25519PrivateKey.generate()))
    assert auth.questions == 1


async def test_new_key_is_found_by_asking(verifier: JwksVerifier, auth: FakeAuth, clock: Clock, key: Ed25519PrivateKey) -> None:
    """After auth has a new key, its first token is accepted; tokens of the key gone are refused."""
    await verifier.verify(_token(key))
    new = Ed25519PrivateKey.generate()
    auth.keys = [new]
    clock.now += ASK_INTERVAL_S
    assert (await verifier.verify(_token(new))).user == "alice"
    with pytest.raises(TokenRefused):
        await verifier.verify(_token(key))


async def test_unknown_kids_ask_seldom(verifier: JwksVerifier, auth: FakeAuth, clock: Clock) -> None:
    """Within the interval auth is not asked again, and a kid not asked about is put off rather than refused."""
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    with pytest.raises(TokenRefused):
        await verifier.verify(_token(first))
    clock.now += 1
    with pytest.raises(KeysUnavailable):
        await verifier.verify(_token(second))
    with pytest.raises(TokenRefused):
        await verifier.verify(_token(first))
    assert auth.questions == 1
    clock.now += ASK_INTERVAL_S
    with pytest.raises(TokenRefused):
        await verifier.verify(_token(second))
    assert auth.questions == 2


async def test_tokens_at_once_share_one_question(verifier: JwksVerifier, auth: FakeAuth, key: Ed25519PrivateKey) -> None:
    """A crowd that arrives before there are keys asks once and is all let in."""
    users: list[str] = []

    async def connect(user: str) -> None:
        users.append((await verifier.verify(_token(key, user))).user)

    async with anyio.create_task_group() as tg:
        for number in range(50):
            tg.start_soon(connect, f"user-{number}")
    assert len(users) == 50
    assert auth.questions == 1


async def test_without_auth_an_unknown_key_is_put_off(verifier: JwksVerifier, auth: FakeAuth, key: Ed25519PrivateKey) -> None:
    """Auth away and no key: the token may be good, so it is not refused."""
    auth.away = True
    with pytest.raises(KeysUnavailable):
        await verifier.verify(_token(key))


async def test_keys_outlive_auth(verifier: JwksVerifier, auth: FakeAuth, clock: Clock, key: Ed25519PrivateKey) -> None:
    """Tokens of known keys are accepted while auth is away, and asking in vain does not change that."""
    await verifier.verify(_token(key))
    auth.away = True
    clock.now += ASK_INTERVAL_S
    with pytest.raises(KeysUnavailable):
        await verifier.verify(_token(Ed25519PrivateKey.generate()))
    assert (await verifier.verify(_token(key))).user == "alice"
    assert verifier.keys_at_hand


async def test_garbage_asks_nobody(verifier: JwksVerifier, auth: FakeAuth) -> None:
    """What is no token is refused without a question to auth."""
    with pytest.raises(TokenRefused):
        await verifier.verify("garbage")
    assert auth.questions == 0


async def test_unknown_kids_are_remembered_within_a_bound(
    verifier: JwksVerifier, auth: FakeAuth, key: Ed25519PrivateKey
) -> None:
    """Sending ever new kids fills no memory."""
    for number in range(UNKNOWN_MAX + 10):
        verifier._published._note_unknown(f"kid-{number}")
    assert len(verifier._published._first_seen) == UNKNOWN_MAX
    assert (await verifier.verify(_token(key))).user == "alice"
    assert auth.questions == 1


async def test_run_tries_until_auth_is_there_and_says_so_once(auth: FakeAuth) -> None:
    """auth_lost and auth_reached are said once a change, however many tries lie between."""
    verifier = JwksVerifier(SETTINGS, transport=auth)
    auth.away = True
    came_back = anyio.Event()

    async def answering() -> None:
        if auth.questions == 4:
            auth.away = False
        if auth.questions == 5:
            came_back.set()

    auth.answering = answering
    with capture_logs() as lines, anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tg:
            tg.start_soon(verifier.run)
            await came_back.wait()
            while not verifier.keys_at_hand:
                await anyio.lowlevel.checkpoint()
            tg.cancel_scope.cancel()
    assert [line["event"] for line in lines] == ["auth_lost", "auth_reached"]


async def test_run_reads_the_keys_anew(auth: FakeAuth) -> None:
    """The keys are read again every jwks_refresh_s."""
    verifier = JwksVerifier(SETTINGS.model_copy(update={"jwks_refresh_s": 0.001}), transport=auth)
    third = anyio.Event()

    async def answering() -> None:
        if auth.questions == 3:
            third.set()

    auth.answering = answering
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tg:
            tg.start_soon(verifier.run)
            await third.wait()
            tg.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, text="<html>"), httpx.Response(302)])
async def test_answer_that_is_no_key_set_counts_as_away(answer: httpx.Response, key: Ed25519PrivateKey) -> None:
    """An error page of something in between does not take the keys away."""
    verifier = JwksVerifier(SETTINGS, transport=httpx.MockTransport(lambda _request: answer))
    with pytest.raises(KeysUnavailable):
        await verifier.verify(_token(key))
