"""A producer that means harm, or has lost its mind, on `in` and `fast`: what its neighbours notice, and what it leaves behind.

What an entry may say is held elsewhere (tests/unit/collect/test_entries.py, tests/scripts/test_dispatch_hostile.py); here it is
many of them, and large ones, among those of others.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import pytest
from redis.exceptions import ResponseError

from router.dispatch import Dispatcher, Outlet
from router.ops import Health
from router.outage import Outages
from tests.collecting import SETTLE_TIMEOUT_S
from tests.integration.site import Site, open_site
from tests.servers import EmbeddedValkey, Store

pytestmark = pytest.mark.anyio

MIB: Final = 1_048_576
DEAD_MAX_BYTES: Final = 4 * MIB

Flat = list[bytes]

BAD: Final[dict[str, Flat]] = {
    "no target": [b"text", b"x"],
    "a forged line": [b"to", b"user:alice\nuser:bob 0 1 - {}", b"text", b"x"],
    "a key of another": [b"to", b"user:{1}x", b"text", b"x"],
    "not UTF-8": [b"to", b"user:\xff\xfe", b"body", b"\xff"],
    "an operator": [b"to", b'{"$gt":""}', b"body", b'{"$where":"sleep(1000)"}'],
    "deep JSON": [b"to", b"user:mallory", b"body", b"[" * 60_000],
    "a number without end": [b"to", b"user:mallory", b"body", b"1" * 60_000 + b"e999"],
    "numbers that are hard to read": [b"to", b"user:mallory", b"body", b"[" + b",".join([b"2.2250738585072011e-308"] * 2_500)],
    "both": [b"to", b"user:mallory", b"body", b"1", b"text", b"1"],
    "a thousand fields": [b"to", b"user:mallory", *itertools.chain.from_iterable((b"x-%d" % n, b"1") for n in range(1_000))],
    "one field a thousand times": [b"to", b"user:mallory", *[b"text", b"x"] * 1_000],
    "commas": [b"to", b"," * 100_000, b"text", b"x"],
    "a target a thousand times, and none": [b"to", b"user:mallory," * 5_000, b"text", b"x"],
    "a long id": [b"to", b"user:mallory", b"text", b"x", b"id", b"x" * 100_000],
    "a long name": [b"to", b"user:mallory", b"text", b"x", b"x-" + b"y" * 100_000, b"1"],
    "a long body": [b"to", b"user:mallory", b"text", b"x" * 200_000],
}


@pytest.fixture
async def site(valkey_server: EmbeddedValkey, store_server: Store) -> AsyncIterator[Site]:
    """Yield one shard whose dead letters may take little memory."""
    async with AsyncExitStack() as stack:
        yield await open_site(stack, valkey_server.url, store_server.url, dead_max_bytes=DEAD_MAX_BYTES)


async def _flood(site: Site, stream: str, count: int) -> None:
    """Append bad entries of all kinds, `count` in all."""
    kinds = itertools.cycle(BAD.values())
    for first in range(0, count, 100):
        async with site.redis.pipeline(transaction=False) as pipe:
            for _ in range(min(100, count - first)):
                pipe.execute_command("XADD", stream, "*", *next(kinds))
            await pipe.execute()


async def _memory_of_dead(site: Site) -> int:
    used: int | None = await site.redis.memory_usage(site.keys(0).dead(), samples=0)
    return used or 0


async def _good(site: Site, number: int) -> None:
    await site.append(to=f"user:{number % 3}", text=str(number), id=f"m{number}")


async def _took_s(site: Site, bad: int) -> float:
    """Return how long 200 good entries take from the first XADD to `out`, with so many bad ones before each ten of them."""
    began_s, already = time.monotonic(), len(await site.lines())
    async with site.working():
        for number in range(already, already + 200):
            if number % 10 == 0:
                await _flood(site, site.keys(0).intake(), bad)
            await _good(site, number)
        await site.has_lines(already + 200)
    return time.monotonic() - began_s


async def test_bad_entries_among_good_ones_cost_them_no_order_and_little_time(site: Site) -> None:
    """4,000 of them, many of 64 KiB and more: the 200 good ones keep their order, and each comes while the flood goes on."""
    quiet_s = await _took_s(site, 0)
    flooded_s = await _took_s(site, 200)
    # Measured: 0.2 and 6 s, half of which it takes the test to append them.
    assert flooded_s < 30 + 10 * quiet_s
    await site.is_kept()
    await site.nothing_is_left()
    assert await _memory_of_dead(site) <= DEAD_MAX_BYTES


async def test_dead_letters_do_not_fill_redis(site: Site) -> None:
    """However large they are: the newest are kept, and the last thing that Redis runs out of is room for producers."""
    for number in range(40):
        await site.redis.execute_command("XADD", site.keys(0).intake(), "*", "nobody", str(number), "x", b"y" * 500_000)
    await _good(site, 0)
    await site.settle()
    assert 0 < await _memory_of_dead(site) <= DEAD_MAX_BYTES
    letters = await site.dead()
    assert [letter["nobody"] for letter in letters] == [str(number) for number in range(40 - len(letters), 40)]
    await site.is_kept()


@pytest.mark.parametrize("size", [20 * MIB, 60 * MIB])
async def test_an_entry_of_megabytes_harms_nobody(site: Site, size: int) -> None:
    """It is no dead letter either, since it would be most of them; those around it are delivered."""
    await _good(site, 0)
    await site.redis.execute_command("XADD", site.keys(0).intake(), "*", "to", "user:0", "text", b"x" * size)
    await site.redis.execute_command("XADD", site.keys(0).intake(), "*", *[b"x"] * 200_000)
    await _good(site, 1)
    await site.settle()
    await site.is_kept()
    assert await _memory_of_dead(site) <= DEAD_MAX_BYTES


async def test_ids_that_are_made_are_not_ours_alone(site: Site) -> None:
    """Who names a message as collect would name another's has it count as a repetition: ids are one space for a target.

    It takes the entry's id to the millisecond, and all that it says: who knows that could as well append in its place.
    """
    await site.append(to="user:0", text="mine")
    await site.settle()
    (document,) = await site.stored()
    made = document["_id"].partition(" ")[2]
    await site.append(to="user:0", text="yours", id=made)
    await site.append(to="user:1", text="yours", id=made)
    await site.settle()
    assert sorted(document["_id"] for document in await site.stored()) == [f"user:0 {made}", f"user:1 {made}"]


@pytest.mark.parametrize(
    "entry_id", ["1-1", "9999999999999-0", "18446744073709551615-0", "18446744073709551615-18446744073709551614"]
)
async def test_an_entry_id_of_the_producers_own_lies_about_nothing(site: Site, entry_id: str) -> None:
    """Long ago or in the far future, messages count as appended now at the latest, and others come behind."""
    await site.redis.execute_command("XADD", site.keys(0).intake(), entry_id, "to", "user:0", "text", "0", "id", "m0")
    site.appended.append(("user:0", "m0"))
    await _good(site, 3)
    await site.settle()
    await site.is_kept()
    now_ms = time.time() * 1000
    for document in await site.stored():
        ts = int(document["frame"].partition('"ts":')[2].partition(",")[0])
        assert ts <= now_ms


async def test_a_stream_can_be_used_up_and_mended(site: Site) -> None:
    """Behind the last id there is, Redis takes no more: what ACLs cannot stop. Once collect is through, DEL mends it."""
    stream: Any = site.keys(0).intake()
    await site.redis.execute_command("XADD", stream, f"{2**64 - 1}-{2**64 - 1}", "to", "user:0", "text", "0", "id", "m0")
    with pytest.raises(ResponseError, match="exhausted"):
        await _good(site, 1)
    await site.settle()
    assert await site.redis.xlen(stream) == 0
    await site.redis.delete(stream)
    await _good(site, 3)
    await site.settle()
    assert len(await site.lines()) == 2


async def test_the_fast_lane_is_as_hard(site: Site) -> None:
    """Bad entries by the thousand among good ones: those go out in order, and Redis keeps little of the others."""
    keys = site.keys(0)
    await site.redis.zadd(keys.route("alice"), {"edge.1": 2**42})
    await site.redis.zadd(keys.nodes(), {"edge.1": 2**42})
    async with site.redis.pubsub() as pubsub, anyio.create_task_group() as tasks:
        await pubsub.ssubscribe(keys.node_channel("edge.1"))
        held = "me 1"
        await site.redis.set(keys.lease("dispatch"), held)
        outlet = Outlet(site.redis, keys, site.settings)
        tasks.start_soon(Dispatcher(outlet, Outages(Health(), site.settings, shard=0), site.settings).run, held)
        for number in range(100):
            await _flood(site, keys.fast(), 20)
            await site.redis.execute_command("XADD", keys.fast(), "*", "to", "user:alice", "text", f"m{number}")
        heard: list[bytes] = []
        with anyio.fail_after(SETTLE_TIMEOUT_S):
            while not heard or b'"text":"m99"' not in heard[-1]:
                got = await pubsub.get_message(timeout=1.0)
                if got and got["type"] == "smessage":
                    heard += got["data"].split(b"\n")
            # Room is made behind the batch that has been published.
            while await _memory_of_dead(site) > DEAD_MAX_BYTES:  # noqa: ASYNC110 - Redis'
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert [line.partition(b'"text":"')[2].rstrip(b'"}').decode() for line in heard] == [f"m{number}" for number in range(100)]
