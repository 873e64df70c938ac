"""router.own_connection: replies belong to the commands that were sent last, whatever became of those before."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from router.dispatch import Dispatched, Lane, News
from router.errors import Fenced
from router.own_connection import OwnConnection, pack
from tests.scripts.shard import HELD, STALE, Shard, line

pytestmark = pytest.mark.anyio


async def _echo(own: OwnConnection, *texts: str) -> None:
    await own.send(b"".join(pack("ECHO", text) for text in texts), len(texts))


async def test_replies_come_in_order(shard: Shard) -> None:
    """One by one, and then none is owed."""
    own = OwnConnection(shard.redis, shard.keys.intake())
    await _echo(own, "a", "ü\r\n")
    assert [await own.receive(), await own.receive()] == [b"a", "ü\r\n".encode()]
    assert own.owed == 0


async def test_reply_that_nobody_waits_for_is_left_behind(shard: Shard) -> None:
    """Whoever sends again gets the reply to that."""
    own = OwnConnection(shard.redis, shard.keys.intake())
    await _echo(own, "a", "b")
    assert await own.receive() == b"a"
    await _echo(own, "c")
    assert await own.receive() == b"c"


async def test_cancelled_wait_leaves_nothing(real_shard: Shard) -> None:
    """The same where the wait for a reply was cancelled."""
    own = OwnConnection(real_shard.redis, real_shard.keys.intake())
    await own.send(pack("BLPOP", "nothing", 0), 1)
    with anyio.move_on_after(0.05) as scope:
        await own.receive()
    assert scope.cancelled_caught
    await _echo(own, "c")
    assert await own.receive() == b"c"


async def test_error_is_one_reply(shard: Shard) -> None:
    """What was sent behind a command that fails is still answered."""
    own = OwnConnection(shard.redis, shard.keys.intake())
    await own.send(pack("NOSUCH") + pack("ECHO", "a"), 2)
    with pytest.raises(ResponseError):
        await own.receive()
    assert await own.receive() == b"a"


async def test_lost_connection_is_made_anew(real_shard: Shard) -> None:
    """A loss is an error once, if it was not seen before."""
    own = OwnConnection(real_shard.redis, real_shard.keys.intake())
    await own.send(pack("CLIENT", "ID"), 1)
    number = await own.receive()
    await real_shard.redis.client_kill_filter(_id=str(number))
    with suppress(RedisError, OSError):
        await _echo(own, "a")
        await own.receive()
    await _echo(own, "b")
    assert await own.receive() == b"b"


async def test_replica_is_left(real_shard: Shard) -> None:
    """READONLY ends the connection, as it does for everybody: the next goes to whoever has the address now."""
    own = OwnConnection(real_shard.redis, real_shard.keys.intake())
    await own.send(pack("CLIENT", "ID"), 1)
    number = await own.receive()
    await real_shard.redis.replicaof("127.0.0.1", 1)
    try:
        await own.send(pack("DEL", "x"), 1)
        with pytest.raises(ReadOnlyError):
            await own.receive()
    finally:
        await real_shard.redis.replicaof("NO", "ONE")
    await own.send(pack("CLIENT", "ID"), 1)
    assert await own.receive() != number


async def test_call_that_rings(real_shard: Shard) -> None:
    """What a call leaves is news at once; so is what comes later, from the lane where it is."""
    shard = real_shard
    await shard.put_out(line("topic:news", 1), line("topic:news", 2))
    assert (await shard.outlet.dispatch(HELD, 1, ring=True)).done == 1
    assert (await shard.outlet.news(HELD, 1)).lanes == [Lane.OUT]
    assert (await shard.outlet.dispatch(HELD, 1, ring=True)).done == 1
    await shard.put_fast(("to", "user:a", "body", "1"))
    assert (await shard.outlet.news(HELD, 1)).lanes == [Lane.FAST]


async def test_call_that_goes_ahead(real_shard: Shard) -> None:
    """What comes while a call waits behind the ring is handed on at once; what stands in the other lane is still news."""
    shard = real_shard
    assert (await shard.outlet.dispatch(HELD, 9, Lane.FAST, ring=True, ahead=Lane.FAST)).done == 0
    await shard.put_fast(("to", "user:a", "body", "1"))
    with anyio.fail_after(30):
        while await shard.redis.xlen(shard.keys.fast()):  # noqa: ASYNC110 - it is Redis that changes
            await anyio.sleep(0.005)
    assert await shard.outlet.news(HELD, 9) == News([Lane.FAST], Lane.FAST)
    assert (await shard.outlet.handed_on(HELD, 9, Lane.FAST)).done == 1
    await shard.put_out(line("topic:news", 1))
    assert await shard.outlet.news(HELD, 9, Lane.FAST) == News([Lane.OUT], Lane.FAST)
    assert (await shard.outlet.handed_on(HELD, 9, Lane.FAST)).done == 0


async def test_call_that_goes_ahead_is_fenced(real_shard: Shard) -> None:
    """One that waits while its lease goes to somebody else hands on nothing."""
    shard = real_shard
    await shard.outlet.dispatch(HELD, 9, Lane.FAST, ring=True, ahead=Lane.FAST)
    await shard.redis.set(shard.keys.lease("dispatch"), STALE)
    await shard.put_fast(("to", "user:a", "body", "1"))
    assert (await shard.outlet.news(HELD, 9)).ahead is Lane.FAST
    with pytest.raises(Fenced):
        await shard.outlet.handed_on(HELD, 9, Lane.FAST)
    assert await shard.redis.xlen(shard.keys.fast()) == 1


async def test_silence_has_all_lanes_looked_at(real_shard: Shard) -> None:
    """After the longest wait, and without having asked before."""
    brisk = real_shard.with_settings(wait_ms=20)
    assert list((await brisk.outlet.news(HELD, 1)).lanes) == [Lane.OUT, Lane.FAST]


async def test_server_that_forgot_the_script(real_shard: Shard) -> None:
    """It is loaded again within the call, and the ring comes all the same."""
    shard = real_shard.with_settings(wait_ms=20)
    await shard.redis.script_flush()
    await shard.put_out(line("topic:news", 1))
    assert await shard.outlet.dispatch(HELD, 10, ring=True) == Dispatched(1, 1, 1, 0, "", "")
    assert (await shard.outlet.news(HELD, 10)).lanes
    assert await shard.outlet.dispatch(HELD, 10) == Dispatched(0, 0, 0, 0, "", "")
