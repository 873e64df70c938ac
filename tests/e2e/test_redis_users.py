"""The whole system under the Redis users of deploy/redis/users.acl: all of it works, and what is not needed is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis as redis_py
from redis import Redis

from tests.e2e.audience import Audience
from tests.e2e.command_line import run
from tests.guarded import KINDS, GuardedRedis, guarded_stack
from tests.servers import DebianRedis, wait_until
from tests.stack import API_KEY, Stack

pytestmark = pytest.mark.anyio

IN, FAST, OUT, ALL = "push:{0}:in", "push:{0}:fast", "push:{0}:out", "push:{0}:all"


@pytest.fixture(scope="module", params=KINDS)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, GuardedRedis]]:
    """Yield the system with two edges, on each kind of server; nothing that it does was refused until its end."""
    if request.param == "redis-server" and not DebianRedis.available():
        pytest.skip("no redis-server here")
    settings = {"offline_grace_ms": 200, "route_ttl_ms": 3_000, "lease_ms": 1_000}
    with guarded_stack(tmp_path_factory.mktemp("guarded"), request.param, settings=settings) as (stack, server):
        yield stack, server
        # The driver of the tests themselves tells its name, and doctor asks for what it can do without.
        refused = [told for told in server.refused() if not told.endswith(("client|setinfo", "config|get"))]
    assert refused == []


@pytest.fixture
def stack(guarded: tuple[Stack, GuardedRedis]) -> Stack:
    """Return the system."""
    return guarded[0]


@pytest.fixture
def server(guarded: tuple[Stack, GuardedRedis]) -> GuardedRedis:
    """Return its Redis."""
    return guarded[1]


@pytest.fixture
def producer(server: GuardedRedis) -> Iterator[Redis]:
    """Yield a producer's connection."""
    with server.client_of("pushway-producer") as client:
        yield client


def _api(stack: Stack, method: str, path: str, base: str = "", **more: Any) -> httpx.Response:  # noqa: ANN401 - httpx' own
    url = (base or f"http://127.0.0.1:{stack.settings.api_port}") + path
    answer = httpx.request(method, url, headers={"authorization": f"Bearer {API_KEY}"}, trust_env=False, timeout=30, **more)
    return answer.raise_for_status()


async def test_what_is_appended_arrives(stack: Stack, producer: Redis) -> None:
    """To a user, a topic and everybody, stored or on the fast lane, over the stream or the API."""
    async with Audience(stack) as audience:
        ann, bob = await audience.join("ann", 0), await audience.join("bob", 1)
        producer.xadd(IN, {"to": "user:ann,user:bob", "body": "1", "trace": "1"})
        producer.xadd(IN, {"to": "all", "body": "2"})
        await audience.until(lambda: len(ann.messages) >= 2 and len(bob.messages) >= 2)
        producer.xadd(FAST, {"to": "user:ann", "body": "3"})
        _api(stack, "POST", "/v1/messages", json={"to": "user:bob", "body": 4})
        await audience.until(lambda: len(ann.messages) >= 3 and len(bob.messages) >= 3)
    # A user's messages and those of everybody have no order among one another.
    assert (sorted(ann.bodies), sorted(bob.bodies)) == ([1, 2, 3], [1, 2, 4])


async def test_what_was_missed_is_replayed(stack: Stack, producer: Redis) -> None:
    """After an edge was killed, whose users the others find."""
    async with Audience(stack) as audience:
        cara = await audience.join("cara", 0, again=True)
        producer.xadd(IN, {"to": "user:cara", "body": "0"})
        await audience.until(lambda: bool(cara.messages))
        stack["edge-1"].kill()
        producer.xadd(IN, {"to": "user:cara", "body": "1"})
        stack["edge-1"].start()
        producer.xadd(IN, {"to": "user:cara", "body": "2"})
        await audience.until(lambda: cara.bodies[-1] == 2)
    assert cara.bodies == [0, 1, 2]


async def test_who_is_there_is_told(stack: Stack, server: GuardedRedis) -> None:
    """By the API and by events, of coming and going."""

    def told() -> set[tuple[bytes | None, bytes | None]]:
        with server.client() as client:
            entries: Any = client.xrange("push:{0}:events")
        return {(fields.get(b"event"), fields.get(b"user")) for _, fields in entries}

    async with Audience(stack) as audience:
        await audience.join("dora", 0)
        wait_until(lambda: (b"online", b"dora") in told(), "dora is said to be online")
        for path in ("/v1/online", "/v1/nodes", "/v1/users/dora", "/v1/topics/news/members"):
            _api(stack, "GET", path)
        assert _api(stack, "POST", "/v1/presence", json={"users": ["dora"]}).json()["users"][0]["online"] is True
    wait_until(lambda: (b"offline", b"dora") in told(), "dora is said to be offline")


async def test_tokens_are_called_back(stack: Stack) -> None:
    """By auth, which tells the edges."""
    async with Audience(stack) as audience:
        gina = await audience.join("gina", 0, again=True)
        _api(stack, "POST", "/v1/revoke", json={"user": "gina"}, base=stack.settings.auth_url)
        await audience.until(lambda: bool(gina.closes))
    assert gina.closes[0] == 4500


async def test_a_lease_changes_hands(stack: Stack, producer: Redis) -> None:
    """A standby that takes over, with the era and the recovery of a Redis that came back, needs no further right."""
    for name in ("collect", "dispatch"):
        stack[name].kill()
    for name in ("collect", "dispatch"):
        stack[name].start()
    async with Audience(stack) as audience:
        emil = await audience.join("emil", 1)
        producer.xadd(IN, {"to": "user:emil", "body": "1"})
        await audience.until(lambda: bool(emil.messages))


async def test_an_administrator_looks_and_mends(stack: Stack, producer: Redis) -> None:
    """Every command for people that goes to Redis works as `pushway-admin`."""
    producer.xadd(IN, {"to": "user:fred", "text": "hello"})
    producer.xadd(IN, {"to": "user:fred", "body": "{"})
    with stack.redis_client() as client:
        wait_until(lambda: client.xlen("push:{0}:dead") == 1, "the dead letter is there")
    letter = json.loads(run(stack, "dead", "list", "--json").stdout)[0]["id"]
    typed = [
        ["dead", "retry", letter, "--set", "body=1"],
        ["dead", "drop", "--all", "--yes"],
        ["send", "user:fred", "1"],
        ["route", "fred"],
        ["nodes"],
        ["presence", "fred"],
        ["members", "news"],
        ["disconnect", "fred"],
        ["revoke", "fred"],
        ["forget", "fred", "--yes"],
    ]
    for words in typed:
        done = run(stack, *words)
        assert "NOPERM" not in done.stderr, (words, done.stderr)
        assert "lacks a right" not in done.stderr, (words, done.stderr)
        assert done.returncode == 0, (words, done.stdout, done.stderr)


@pytest.mark.parametrize("user", ["pushway-admin", "pushway-operator"])
async def test_doctor_needs_no_more_than_to_read(stack: Stack, server: GuardedRedis, user: str, tmp_path: Any) -> None:  # noqa: ANN401 - a path
    """It finds nothing amiss, once an edge that another test has killed has lapsed; and what it may not ask it says."""
    config = tmp_path / "pushway.toml"
    text = stack.config.read_text(encoding="utf-8").replace(server.url_of("pushway-admin"), server.url_of(user))
    config.write_text(text, encoding="utf-8")
    config.chmod(0o600)
    wait_until(lambda: not _amiss(stack, str(config)), "doctor finds nothing amiss")


def _amiss(stack: Stack, config: str) -> list[str]:
    """Return what doctor finds that needs mending, but for the key of the tests, which is short."""
    told = json.loads(run(stack, "doctor", "--json", "--config", config).stdout)
    assert "could not be looked at: " not in str(told)
    findings = [finding for group in told for finding in group["findings"] if finding["severity"] in ("warning", "error")]
    return [finding["seen"] for finding in findings if not finding["seen"].startswith("api_key ")]


REFUSED = [
    ("pushway-producer", ("XRANGE", IN, "-", "+")),
    ("pushway-producer", ("XLEN", IN)),
    ("pushway-producer", ("XDEL", IN, "1-1")),
    ("pushway-producer", ("XTRIM", IN, "MAXLEN", "0")),
    ("pushway-producer", ("XADD", OUT, "*", "line", "x")),
    ("pushway-producer", ("DEL", IN)),
    ("pushway-producer", ("GET", "push:{0}:lease:collect")),
    ("pushway-producer", ("SPUBLISH", ALL, "x")),
    ("pushway-producer", ("SSUBSCRIBE", ALL)),
    ("pushway-producer", ("EVAL", "return 1", "0")),
    ("pushway-producer", ("KEYS", "*")),
    ("pushway-edge", ("XADD", OUT, "*", "line", "x")),
    ("pushway-edge", ("XADD", IN, "*", "to", "all", "body", "1")),
    ("pushway-edge", ("XRANGE", OUT, "-", "+")),
    ("pushway-edge", ("SPUBLISH", ALL, "x")),
    ("pushway-edge", ("SET", "push:{0}:lease:dispatch", "me 1")),
    ("pushway-edge", ("SSUBSCRIBE", "other:{0}:all")),
    ("pushway-edge", ("HSET", "push:{0}:seq:user:ann", "handed", "1")),
    ("pushway-dispatch", ("XRANGE", IN, "-", "+")),
    ("pushway-dispatch", ("XADD", OUT, "*", "line", "x")),
    ("pushway-dispatch", ("ZADD", "push:{0}:route:ann", "1", "me.1")),
    ("pushway-dispatch", ("SSUBSCRIBE", ALL)),
    ("pushway-collect", ("SPUBLISH", ALL, "x")),
    ("pushway-collect", ("SET", "push:{0}:lease:dispatch", "me 1")),
    ("pushway-collect", ("ZADD", "push:{0}:route:ann", "1", "me.1")),
    ("pushway-auth", ("XADD", IN, "*", "to", "all", "body", "1")),
    ("pushway-auth", ("HGETALL", "push:{0}:info:x")),
    ("pushway-operator", ("XADD", IN, "*", "to", "all", "body", "1")),
    ("pushway-operator", ("XDEL", IN, "1-1")),
    ("pushway-operator", ("SPUBLISH", ALL, "x")),
    ("pushway-operator", ("ACL", "LIST")),
    ("pushway-auth", ("SSUBSCRIBE", ALL)),
    ("pushway-admin", ("FLUSHALL",)),
    ("pushway-admin", ("CONFIG", "GET", "requirepass")),
    ("pushway-admin", ("ACL", "SETUSER", "me")),
    ("pushway-admin", ("XRANGE", "other:{0}:in", "-", "+")),
]


@pytest.mark.parametrize(("user", "words"), REFUSED, ids=lambda part: part if isinstance(part, str) else " ".join(part[:2]))
async def test_what_is_not_needed_is_refused(server: GuardedRedis, user: str, words: tuple[str, ...]) -> None:
    """Asked of the server itself, which then runs nothing."""
    with server.client() as client:
        answer: Any = client.execute_command("ACL DRYRUN", user, *words)
    assert b"has no permissions" in answer


async def test_a_script_may_not_what_its_caller_may_not(server: GuardedRedis) -> None:
    """EVALSHA is granted on every key, and gives nothing by itself."""
    with server.client_of("pushway-edge") as client:
        digest = client.script_load("return redis.call('XADD', KEYS[1], '*', 'line', 'forged')")
        with pytest.raises(redis_py.exceptions.ResponseError, match=r"No permissions|can't access"):
            client.evalsha(digest, 1, OUT)
    with server.client() as client:
        assert client.xlen(OUT) == 0
        client.acl_log_reset()


async def test_nobody_gets_in_without_a_password(server: GuardedRedis) -> None:
    """`default` is off."""
    with (
        Redis(port=server.port, protocol=2) as stranger,
        pytest.raises(redis_py.exceptions.AuthenticationError),
    ):
        stranger.ping()
