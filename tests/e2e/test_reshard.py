"""`pushway reshard` as an operator does it, with real processes under their Redis users, and killed again and again."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from router.keys import Keys
from router.up.folder import write_config
from tests.e2e.audience import Audience, Producer, in_order_and_once, numbers
from tests.e2e.command_line import PUSHWAY, run
from tests.guarded import guarded_stack
from tests.stack import Stack

pytestmark = pytest.mark.anyio

OLD, NEW = 3, 4
QUICK: Final = {"shards": OLD, "lease_ms": 1_000, "node_ttl_ms": 2_000, "offline_grace_ms": 500, "drain_timeout_s": 0.2}
USERS: Final = tuple(f"user-{number}" for number in range(8))
EACH: Final = 20
KILLS: Final = 2
COUNTERS: Final = 6_000
WAITS_S: Final = 12
TIMEOUT_S: Final = 30.0
SERVICES: Final = ("collect", "dispatch", "edge-1")


async def test_a_system_goes_to_more_shards(tmp_path: Path) -> None:
    """Refused while it runs; killed twice, it goes on; and each session has all, in order and once, before and after."""
    with guarded_stack(tmp_path, "valkey", edges=1, settings=QUICK) as (stack, server), server.client() as redis:
        async with Audience(stack) as audience:
            seats = [await audience.join(user, 0, again=True) for user in USERS]
            producer = Producer(stack, USERS)
            await producer.send(EACH * len(USERS))
            at_ms = int((time.time() + WAITS_S) * 1000)
            redis.xadd("push:{0}:in", {"to": ",".join(f"user:{user}" for user in USERS), "text": "later", "at": at_ms})
            await audience.until(lambda: all(len(seat.messages) == EACH for seat in seats))
            refused = run(stack, "reshard", "--to", str(NEW), "--yes")
            assert refused.returncode == 1
            assert "lives: end every edge" in refused.stderr
            assert "lives: end every collect" in refused.stderr
            await _end(stack, "edge-1")
            await producer.send(EACH * len(USERS))
            await _drained(redis)
            await _end(stack, "collect", "dispatch")
            await anyio.to_thread.run_sync(_resharded, stack, redis)
            write_config(stack.config, stack.settings.model_copy(update={"shards": NEW}))
            for name in SERVICES:
                stack[name].launch()
            for name in SERVICES:
                await anyio.to_thread.run_sync(stack[name].wait_ready)
            await producer.send(EACH * len(USERS))
            await audience.until(lambda: all(len(seat.messages) == 3 * EACH + 1 for seat in seats), TIMEOUT_S)
            for seat in seats:
                assert "later" in seat.bodies
                seat.messages = [message for message in seat.messages if "text" not in message]
            assert all(numbers(seat) == producer.sent[seat.user] for seat in seats)
            assert in_order_and_once(seats)
        assert redis.hgetall("push:config") == {b"shards": b"%d" % NEW, b"schema": b"1"}
        assert not server.refused()


async def _end(stack: Stack, *names: str) -> None:
    for name in names:
        await anyio.to_thread.run_sync(stack[name].stop)


async def _drained(redis: Any) -> None:  # noqa: ANN401 - the driver's types name the replies of every protocol
    """Return when nothing waits, and of everybody it has been said that they are offline."""
    shards = [Keys("push", shard) for shard in range(OLD)]
    streams = [stream for keys in shards for stream in (keys.intake(), keys.out(), keys.fast())]
    with anyio.fail_after(TIMEOUT_S):
        while any(map(redis.xlen, streams)) or any(redis.hlen(keys.online()) for keys in shards):  # noqa: ASYNC110 - Redis'
            await anyio.sleep(0.05)


def _resharded(stack: Stack, redis: Any) -> None:  # noqa: ANN401 - likewise
    """Kill the command in the middle of its work, some times, and then let it finish."""
    for number in range(COUNTERS):  # so that it has something to do
        redis.hset(Keys("push", number % OLD).seq(f"user:idle-{number}"), "handed", 1)
    words = [*PUSHWAY, "reshard", "--config", str(stack.config), "--to", str(NEW), "--yes"]
    for kill in range(KILLS):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        left = COUNTERS - COUNTERS * kill // KILLS
        while not redis.hexists("push:config", "resharding") or redis.dbsize() > left:
            assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        assert redis.hget("push:config", "shards") == b"%d" % OLD
    refused = run(stack, "send", "user:a", "early", "--text")
    assert f"pushway reshard --to {NEW}" in refused.stderr
    done = run(stack, "reshard", "--to", str(NEW), "--yes")
    assert f"set shards = {NEW} in the settings" in done.stdout, done.stderr
