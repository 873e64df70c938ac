"""router.doctor on real servers: break one thing, and it is found; nothing is ever written, and nobody is waited for long."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from router.doctor import examination
from router.doctor.examination import GROUPS, examine
from router.doctor.findings import Examined, Finding, Severity, exit_code
from router.inbox import TTL_INDEX
from router.keys import Keys, config_key
from router.migrate import migrate
from router.redis_client import check_redis, open_redis
from router.settings import Settings
from tests.servers import EmbeddedValkey, Store

pytestmark = pytest.mark.anyio

NOBODY = "http://127.0.0.1:1"

PATIENCE_S = 60.0
"""How long a server may take that is only slow."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "ANSWER_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(examination, "GROUP_TIMEOUT_S", 2 * PATIENCE_S)


def _settings(valkey: EmbeddedValkey, store: Store, **changes: Any) -> Settings:  # noqa: ANN401 - settings
    name = f"test-{uuid.uuid4().hex}"
    own: dict[str, Any] = {"redis_url": valkey.url, "mongo_url": store.url, "prefix": name, "mongo_database": name}
    timeouts = {"redis_timeout_s": PATIENCE_S, "mongo_timeout_s": PATIENCE_S}
    return Settings(api_key="k" * 32, auth_url=NOBODY, **timeouts, **own | changes)


async def _examine(settings: Settings) -> list[Examined]:
    return await examine(settings, None, lambda _group, _what: None)


async def _of(settings: Settings, group: str) -> list[Finding]:
    return next((list(one.findings) for one in await _examine(settings) if one.group == group), [])


def _told(findings: list[Finding], severity: Severity, said: str) -> Finding:
    found = [finding for finding in findings if finding.severity is severity and said in finding.seen]
    assert found, findings
    return found[0]


async def _contents(redis: Any) -> dict[bytes, bytes]:  # noqa: ANN401 - the driver's types name the replies of every protocol
    return {key: await redis.dump(key) for key in await redis.keys("*")}


async def test_new_servers_need_a_first_start(store_server: Store, tmp_path: Path) -> None:
    """Each thing that a start makes is missed, in its group; nothing is made by looking."""
    # What other tests have left in a shared Redis would lapse meanwhile.
    with EmbeddedValkey(tmp_path) as valkey:
        settings = _settings(valkey, store_server)
        async with open_redis(settings) as redis:
            await redis.set("somebody's", "own")
            examined = await _examine(settings)
            assert await _contents(redis) == {b"somebody's": await redis.dump("somebody's")}
    assert [one.group for one in examined] == [group for group in GROUPS if group != "cluster"]
    found = {one.group: list(one.findings) for one in examined}
    _told(found["prefix"], Severity.WARNING, "no service has ever started")
    _told(found["leases"], Severity.ERROR, "nobody works on shard 0 as collect")
    _told(found["leases"], Severity.ERROR, "nobody works on shard 0 as dispatch")
    _told(found["edges"], Severity.WARNING, "no edge is registered")
    assert "migrate" in _told(found["MongoDB"], Severity.ERROR, "inbox lacks the index").remedy
    _told(found["auth"], Severity.ERROR, "cannot be reached")
    _told(found["Redis"], Severity.OK, "Valkey")
    _told(found["clocks"], Severity.OK, "Redis' clock agrees")
    _told(found["clocks"], Severity.OK, "MongoDB's clock agrees")
    assert exit_code(examined) == 2


async def test_what_a_start_makes_is_well(valkey_server: EmbeddedValkey, store_server: Store) -> None:
    """After migrate and the check of every service, prefix and database are as they should be."""
    settings = _settings(valkey_server, store_server, shards=2)
    async with open_redis(settings) as redis:
        await check_redis(redis, settings)
    await migrate(settings)
    examined = {one.group: one for one in await _examine(settings)}
    assert exit_code([examined["prefix"], examined["MongoDB"], examined["strays"], examined["clocks"]]) == 0
    other = settings.model_copy(update={"shards": 1})
    _told(await _of(other, "prefix"), Severity.ERROR, "says shards=2")


async def test_servers_that_are_away_are_told_once(
    store_server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One finding each, in a few seconds, and what can be asked still is."""
    monkeypatch.setattr(examination, "ANSWER_TIMEOUT_S", 2.0)
    away = Settings(redis_url="redis://me:hunter2@127.0.0.1:1/0", mongo_url=store_server.url, auth_url=NOBODY)
    examined = await _examine(away)
    assert [one.group for one in examined] == ["settings", "Redis", "MongoDB", "auth", "certificates", "clocks", "hardening"]
    (finding,) = next(one.findings for one in examined if one.group == "Redis")
    assert "Redis at 127.0.0.1:1 does not answer" in finding.seen
    assert "hunter2" not in finding.seen + finding.remedy
    with EmbeddedValkey(tmp_path) as valkey:
        settings = Settings(redis_url=valkey.url, mongo_url="mongodb://me:hunter2@127.0.0.1:1/", auth_url=NOBODY)
        examined = await _examine(settings)
    (finding,) = next(one.findings for one in examined if one.group == "MongoDB")
    assert finding.seen.startswith("MongoDB does not answer")
    assert "hunter2" not in finding.seen
    assert {one.group for one in examined} >= {"Redis", "streams", "edges"}


@pytest.mark.parametrize("name", ["redis_url", "mongo_url"])
async def test_address_that_is_none_is_told(name: str) -> None:
    """Without what the driver says, which may quote the password."""
    scheme = "redis" if name == "redis_url" else "mongodb"
    (one,) = await _examine(Settings(api_key="k" * 32, auth_url=NOBODY, **{name: f"{scheme}://me:hunter2:x@[::1"}))
    assert one.group == "settings"
    assert [finding.seen for finding in one.findings] == [f"{name} is not an address that its driver understands"]


async def test_server_that_hangs_holds_up_nobody(store_server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen Redis is waited for a few seconds, and no group beyond its limit."""
    monkeypatch.setattr(examination, "ANSWER_TIMEOUT_S", 0.5)
    with EmbeddedValkey(tmp_path) as valkey:
        valkey.pause()
        began = time.monotonic()
        _told(await _of(_settings(valkey, store_server), "Redis"), Severity.ERROR, "does not answer")
        assert time.monotonic() - began < 10
        valkey.resume()


async def test_group_has_a_limit(valkey_server: EmbeddedValkey, store_server: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not end is told of, and the others are there."""
    monkeypatch.setattr(examination, "GROUP_TIMEOUT_S", 0.3)
    monkeypatch.setattr("router.doctor.leases.examine", lambda _redis, _settings: anyio.sleep_forever())
    found = {one.group: one.findings for one in await _examine(_settings(valkey_server, store_server))}
    assert "no answer within 0.3 s" in found["leases"][0].seen
    assert "streams" in found


@pytest.mark.parametrize(
    ("name", "value", "severity", "said"),
    [
        ("maxmemory-policy", "allkeys-lru", Severity.ERROR, "maxmemory-policy is allkeys-lru"),
        ("appendonly", "no", Severity.WARNING, "no append-only file"),
        ("appendfsync", "no", Severity.WARNING, "appendfsync is no"),
        ("client-output-buffer-limit", "pubsub 1048576 0 0", Severity.WARNING, "is cut off"),
        ("min-replicas-to-write", "1", Severity.ERROR, "it refuses writes"),
        ("timeout", "5", Severity.WARNING, "idle for 5 s"),
        ("maxmemory", "1mb", Severity.ERROR, "memory are used"),
    ],
)
async def test_setting_of_redis_is_found_and_mended(
    store_server: Store, tmp_path: Path, name: str, value: str, severity: Severity, said: str
) -> None:
    """Set wrong it is told, with a remedy; set back it is not."""
    with EmbeddedValkey(tmp_path) as valkey:
        settings = _settings(valkey, store_server)
        async with open_redis(settings) as redis:
            before = str((await redis.config_get(name))[name])
            await redis.config_set(name, value)
            assert _told(await _of(settings, "Redis"), severity, said).remedy
            await redis.config_set(name, before)
            assert not [one for one in await _of(settings, "Redis") if said in one.seen]


async def test_ttl_that_is_not_the_setting_s_is_told(valkey_server: EmbeddedValkey, store_server: Store) -> None:
    """With the command that changes the index."""
    settings = _settings(valkey_server, store_server)
    await migrate(settings)
    later = settings.model_copy(update={"idempotency_s": 7_200.0})
    finding = _told(await _of(later, "MongoDB"), Severity.WARNING, "idempotency_s is 7,200")
    assert f'collMod: "inbox", index: {{name: "{TTL_INDEX}", expireAfterSeconds: 7200}}' in finding.remedy
    # A body that goes before what refers to it is a message lost.
    finding = _told(await _of(later, "MongoDB"), Severity.WARNING, f"the index {TTL_INDEX} of bodies removes after")
    assert 'collMod: "bodies"' in finding.remedy


async def test_streams_that_stand_still_are_told(valkey_server: EmbeddedValkey, store_server: Store) -> None:
    """What waits since long ago, what is in hand since then, who else reads, and what died."""
    settings = _settings(valkey_server, store_server)
    keys = Keys(settings.prefix, 0)
    redis: Any
    async with open_redis(settings) as redis:
        await redis.xadd(keys.intake(), {"to": "user:a"}, id="1000-0")
        await redis.xadd(keys.out(), {"line": "x"})
        await redis.xgroup_create(keys.out(), "dispatch", id="0")
        await redis.xgroup_create(keys.out(), "mine", id="0")
        await redis.xadd(keys.dead(), {"reason": "no"})
        found = await _of(settings, "streams")
    _told(found, Severity.ERROR, f"{keys.intake()}: 1 entry not done, the oldest for")
    _told(found, Severity.WARNING, "no collect has ever read")
    _told(found, Severity.WARNING, f"{keys.out()} has other groups (mine)")
    assert "dead list" in _told(found, Severity.WARNING, f"{keys.dead()}: 1 dead letter").remedy
    _told(found, Severity.OK, f"{keys.fast()}: nothing waits")


async def test_broken_keys_of_presence_are_told(valkey_server: EmbeddedValkey, store_server: Store) -> None:
    """Which, and what it means; those that are not there yet are well."""
    settings = _settings(valkey_server, store_server, shards=2)
    redis: Any
    async with open_redis(settings) as redis:
        _told(await _of(settings, "presence"), Severity.OK, "shard 1: its keys are what they should be")
        await redis.set(Keys(settings.prefix, 1).leaving(), "by hand")
        found = await _of(settings, "presence")
    _told(found, Severity.OK, "shard 0: its keys")
    assert "DEL it" in _told(found, Severity.ERROR, "leaving is a string and should be a zset").remedy


async def _node(redis: Any, keys: Keys, node: str, left_ms: int) -> None:  # noqa: ANN401 - as above
    seconds, _ = await redis.time()
    await redis.zadd(keys.nodes(), {node: seconds * 1000 + left_ms})


async def test_edges_that_do_not_hear_are_told(valkey_server: EmbeddedValkey, store_server: Store) -> None:
    """One that is subscribed, one that is not, one that is dead; a tap is no ear; and where routes lead."""
    settings = _settings(valkey_server, store_server)
    keys = Keys(settings.prefix, 0)
    redis: Any
    async with open_redis(settings) as redis, redis.pubsub() as ear:
        await ear.ssubscribe(keys.node_channel("well.1"), keys.node_channel("deaf.1"), keys.tap_channel("deaf.1"))
        for node, left_ms in (("well.1", 60_000), ("deaf.1", 60_000), ("dead.1", -1_000)):
            await _node(redis, keys, node, left_ms)
            await redis.zadd(keys.route(f"of-{node}"), {node: (await redis.time())[0] * 1000 + 60_000})
        await redis.zadd(keys.route("of-nobody"), {"gone.1": 1})
        found = await _of(settings, "edges")
    _told(found, Severity.OK, "well.1")
    _told(found, Severity.ERROR, "deaf.1 is deaf")
    _told(found, Severity.WARNING, "dead.1 has not been heard from")
    _told(found, Severity.NOTE, "of the routes of 4 users, 1 leads to a node that does not live: dead.1")


async def test_stray_streams_are_found(valkey_server: EmbeddedValkey, store_server: Store) -> None:
    """A client's own prefix, a shard that there is not, and lost braces; another tenant's stream is its own."""
    settings = _settings(valkey_server, store_server)
    redis: Any
    async with open_redis(settings) as redis:
        for key in ("app:{}", "{}", "tenant-{}"):
            await redis.xadd(key.format(f"{settings.prefix}:{{7}}:in"), {"to": "user:a"})
        await redis.hset(config_key(f"tenant-{settings.prefix}"), "shards", "8")
        await redis.xadd(Keys(settings.prefix, 0).intake(), {"to": "user:a"})
        for key in ("{}:in", "{}:0:in", "{}{{0}}:in", "{}-notes:in", "a-{}:in"):
            await redis.xadd(key.format(settings.prefix), {"to": "user:a"})
        await redis.set(f"text-{settings.prefix}:{{0}}:in", "no stream")
        found = await _of(settings, "strays")
    assert len(found) == 5
    for name in (":in", ":0:in", "{0}:in"):
        _told(found, Severity.WARNING, f"{settings.prefix}{name} has 1 entry that nobody reads: the name lacks")
    _told(found, Severity.WARNING, f"app:{settings.prefix}:{{7}}:in has 1 entry that nobody reads")
    _told(found, Severity.WARNING, f"{settings.prefix}:{{7}}:in has 1 entry, and there is no such shard")


async def test_what_a_user_may_not_do_is_told(store_server: Store, tmp_path: Path) -> None:
    """An ACL user of Pushway alone has no INFO; the other groups go on."""
    with EmbeddedValkey(tmp_path) as valkey:
        settings = _settings(valkey, store_server)
        redis: Redis
        async with open_redis(settings) as redis:
            await redis.acl_setuser(
                "limited", enabled=True, nopass=True, keys=["*"], channels=["*"], categories=["+@all"], commands=["-info"]
            )
        limited = settings.model_copy(update={"redis_url": f"redis://limited:x@127.0.0.1:{valkey.port}/0"})
        found = {one.group: list(one.findings) for one in await _examine(limited)}
    _told(found["Redis"], Severity.WARNING, "this could not be looked at: ")
    _told(found["streams"], Severity.OK, "nothing waits")
