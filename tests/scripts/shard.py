"""One shard of one Redis as the tests of the scripts see it: the adapters, and what stands in Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from router.cluster_redis import client_at
from router.collect.batch import Item
from router.collect.entries import Message
from router.collect.eras import NONE_YET
from router.collect.intake import Broken, Cold, Intake, Place
from router.dispatch import Outlet
from router.keys import Keys
from router.lines import build_frame, build_line
from router.settings import Settings

HELD: Final = "me 1732262400123456"
STALE: Final = "me 1732262400000000"
"""The same owner's earlier lease: only the token differs."""

_HEAR_TIMEOUT_S: Final = 60.0
_END: Final = b"the end of what was published"


def now_ms() -> int:
    """Return Unix ms; the servers run on the same clock."""
    return time.time_ns() // 1_000_000


def item(target: str, message_id: str, entry_id: str = "1-0") -> Item:
    """Return a durable message for one target."""
    message = Message((target,), message_id, 0, '"text":"hi"', None, transient=False, trace=False, carried=())
    return Item(f"{target} {message_id}", target, message, entry_id)


def line(target: str, seq: int | None, *, prev: int = 0, expires_ms: int | None = None, text: str = "hi") -> str:
    """Return a payload line; `seq` None makes it transient."""
    frame = build_frame(target, seq, f"m{seq}", 0, f'"text":"{text}"')
    return build_line(target, None if seq is None else prev, seq, expires_ms, frame)


class Ear:
    """What a subscriber of some sharded channels hears."""

    def __init__(self, redis: Redis, pubsub: PubSub, channels: Sequence[str]) -> None:
        self._redis: Any = redis
        self._pubsub: Any = pubsub
        self._last_channel = channels[-1]

    async def heard(self) -> list[tuple[str, str]]:
        """Return (channel, payload) of all that was published so far, in order."""
        await self._redis.execute_command("SPUBLISH", self._last_channel, _END)
        payloads = []
        with anyio.fail_after(_HEAR_TIMEOUT_S):
            while (message := await self._next())["data"] != _END:
                payloads.append((message["channel"].decode(), message["data"].decode()))
        return payloads

    async def _next(self) -> dict[str, Any]:
        while True:
            message: dict[str, Any] | None = await self._pubsub.get_message(timeout=1.0)
            if message is not None and message["type"] == "smessage":
                return message


class Shard:
    """Shard 0 of prefix `push`, its lease of both roles held by the caller."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        # The driver's types name the replies of every protocol at once; these are RESP2's.
        self.redis: Any = redis
        self.settings = settings
        self.keys = Keys(settings.prefix, 0)
        self.intake = Intake(redis, self.keys, settings)
        self.outlet = Outlet(redis, self.keys, settings)
        self.era = NONE_YET

    def with_settings(self, **changes: object) -> Shard:
        """Return the same shard under other settings."""
        other = Shard(self.redis, self.settings.model_copy(update=changes))
        other.era = self.era
        return other

    async def prepare(self) -> None:
        """Hold the leases, and make the groups."""
        for role, stream, group in (("collect", self.keys.intake(), "collect"), ("dispatch", self.keys.out(), "dispatch")):
            await self.redis.set(self.keys.lease(role), HELD)
            await self.redis.xgroup_create(stream, group, id="0", mkstream=True)
        await self.redis.xgroup_create(self.keys.fast(), "dispatch", id="0", mkstream=True)
        await self.recover()

    async def recover(self) -> None:
        """Count the shard as recovered in an era of this Redis, begun now if need be."""
        self.era, _ = await self.intake.begin_era(HELD, self.era)
        assert await self.intake.confirm_era(HELD, self.era)

    async def place(self, held: str, items: Sequence[Item], floors: dict[str, int]) -> list[Place | Broken] | Cold:
        """Give items their places, in the era that was recovered last."""
        given = await self.intake.sequence(held, self.era, items, floors)
        return given if isinstance(given, Cold) else given.places

    async def count(self, target: str, **counters: int) -> None:
        """Set a target's counters, as of the present era."""
        era = await self.redis.hget(self.keys.era(), "era")
        await self.redis.hset(self.keys.seq(target), mapping={"era": era, **counters})

    async def appended(self, count: int, **fields: str) -> list[str]:
        """Append entries to `in`, as a producer does, and return their ids."""
        given: dict[Any, Any] = fields or {"to": "user:a", "text": "hi"}
        async with self.redis.pipeline(transaction=False) as pipe:
            for _ in range(count):
                pipe.xadd(self.keys.intake(), given)
            return [entry_id.decode() for entry_id in await pipe.execute()]

    async def append_flat(self, entry_id: str, flat: Sequence[bytes]) -> str:
        """Append an entry of these fields and values in turn, which may repeat and hold any bytes; return its id."""
        given: bytes = await self.redis.execute_command("XADD", self.keys.intake(), entry_id, *flat)
        return given.decode()

    async def put_out(self, *lines: str | bytes) -> list[str]:
        """Append lines to `out`, and return their entry ids."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for text in lines:
                pipe.xadd(self.keys.out(), {"line": text})
            return [entry_id.decode() for entry_id in await pipe.execute()]

    async def put_fast(self, *flats: Sequence[str | bytes]) -> list[str]:
        """Append entries to `fast`, each of fields and values in turn, and return their ids."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for flat in flats:
                pipe.execute_command("XADD", self.keys.fast(), "*", *flat)
            return [entry_id.decode() for entry_id in await pipe.execute()]

    async def ids(self, stream: str) -> list[str]:
        """Return the ids of the entries in a stream."""
        return [entry_id.decode() for entry_id, _ in await self.redis.xrange(stream)]

    async def lines_out(self) -> list[str]:
        """Return the lines in `out`."""
        return [line for text in await self.texts_out() for line in text.split("\n")]

    async def texts_out(self) -> list[str]:
        """Return what the entries in `out` hold: a line, or several."""
        return [fields[b"line"].decode() for _, fields in await self.redis.xrange(self.keys.out())]

    async def entries(self, stream: str) -> list[dict[str, str]]:
        """Return the fields of the entries in a stream."""
        found = await self.redis.xrange(stream)
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]

    async def pending_ids(self, stream: str, group: str) -> list[str]:
        """Return the ids of a stream that are taken and not acknowledged."""
        found = await self.redis.xpending_range(stream, group, "-", "+", 100_000)
        return [entry["message_id"].decode() for entry in found]

    async def counters(self, target: str) -> dict[str, int]:
        """Return a target's counters as they stand in Redis, all of them of the present era."""
        found = {name.decode(): int(value) for name, value in (await self.redis.hgetall(self.keys.seq(target))).items()}
        assert found.pop("era") == int(await self.redis.hget(self.keys.era(), "era"))
        return found

    async def route(self, user: str, *nodes: str, route_ms: int = 60_000, node_ms: int = 60_000) -> None:
        """Route a user to nodes; times are from now, and negative when they are over."""
        for node in nodes:
            await self.redis.zadd(self.keys.route(user), {node: now_ms() + route_ms})
            await self.redis.zadd(self.keys.nodes(), {node: now_ms() + node_ms})

    async def nodes_of(self, user: str) -> list[str]:
        """Return the nodes in a user's routes."""
        return sorted(node.decode() for node in await self.redis.zrange(self.keys.route(user), 0, -1))

    @asynccontextmanager
    async def listening(self, *channels: str) -> AsyncIterator[Ear]:
        """Subscribe to sharded channels, as an edge does."""
        async with client_at(self.redis, self.keys.base).pubsub() as pubsub:
            await pubsub.ssubscribe(*channels)
            with anyio.fail_after(_HEAR_TIMEOUT_S):
                for _ in channels:
                    while await pubsub.get_message(timeout=1.0) is None:
                        pass
            yield Ear(self.redis, pubsub, channels)
