"""Rights that a Redis user lacks: who is refused says whose right it is and to what, waits, and goes on when it is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from redis.exceptions import NoPermissionError

import lua
from edge import subscriber
from edge.subscriber import Subscriber
from router.fitness import await_redis
from router.keys import Keys
from router.ops import Health
from router.redis_client import open_redis
from router.settings import Settings
from tests.guarded import KINDS, GuardedRedis
from tests.integration.edges import eventually
from tests.servers import DebianRedis

pytestmark = pytest.mark.anyio

KEYS = Keys("push", 0)
ELSEWHERE = Keys("other", 0).topic_channel("news")


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GuardedRedis]:
    """Yield a server with our users, of each kind."""
    if request.param == "redis-server" and not DebianRedis.available():
        pytest.skip("no redis-server here")
    with GuardedRedis(tmp_path, request.param) as server:
        yield server


def _settings(server: GuardedRedis, user: str, password: str = "") -> Settings:
    url = server.url_of(user).replace(f":{user}@", f":{password or user}@")
    return Settings(redis_url=url, backoff_min_ms=1, backoff_max_ms=20)


async def test_a_command_that_is_refused_says_whose_right_is_lacking(server: GuardedRedis) -> None:
    """A command by its name, a script by its file and line, one of several by the driver's own words."""
    async with open_redis(_settings(server, "pushway-edge")) as redis:
        with pytest.raises(NoPermissionError, match=r"user pushway-edge lacks a right \(SET\)"):
            await redis.set("x", "y")
        group = redis.register_script(lua.source("group_make"))
        with pytest.raises(NoPermissionError, match=r"pushway-edge lacks a right \(group_make\.lua, line \d+\).*ACL LOG"):
            await group(keys=[KEYS.out()], args=["dispatch"])
        async with redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.xlen(KEYS.out())
            with pytest.raises(NoPermissionError, match=r"XLEN.*pushway-edge lacks a right"):
                await pipe.execute()


async def test_a_service_waits_for_its_rights(server: GuardedRedis) -> None:
    """It tells on /readyz what it lacks, does not end, and starts as soon as it may."""
    health = Health()
    with server.client() as client:
        client.execute_command("ACL SETUSER", "late", "on", ">a-password", "+client|setname")
        # Its password is not its name, which would be taken out of what is told.
        settings = _settings(server, "late", "a-password")
        async with open_redis(settings) as redis, anyio.create_task_group() as tasks:
            tasks.start_soon(await_redis, redis, settings, health)
            await eventually(lambda: "late lacks a right (INFO)" in health.reasons.get("redis", ""))
            client.execute_command("ACL SETUSER", "late", "+@all", "~push:*")
            await eventually(lambda: health.ready)


async def test_a_topic_that_is_refused_keeps_no_other_away(server: GuardedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is heard as soon as it may be; what is subscribed stays so meanwhile."""
    monkeypatch.setattr(subscriber, "REFUSED_AGAIN_S", 0.05)
    told: list[str] = []
    heard: list[bytes] = []
    ear = Subscriber(
        _settings(server, "pushway-edge"),
        [KEYS.node_channel("e.1")],
        heard.extend,
        lambda: told.append("subscribed"),
        told.append,
    )
    ear.hear(ELSEWHERE)
    ear.hear(KEYS.topic_channel("news"))
    with server.client() as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ear.run)
            await eventually(lambda: list(ear.refused) == [ELSEWHERE])
            await ear.subscribed()
            client.spublish(KEYS.topic_channel("news"), "a")
            await eventually(lambda: heard)
            client.execute_command("ACL SETUSER", "pushway-edge", "(+ssubscribe &other:*)")
            await eventually(lambda: ELSEWHERE in told)
            tasks.cancel_scope.cancel()
    assert told == ["subscribed", ELSEWHERE]
    assert heard == [b"a"]
