"""Collect's side of Redis: taking entries, giving seqs, moving a finished batch on.

Every call that writes for the role shows the lease it believes to hold, and raises `Fenced` when it does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, ResponseError

import lua
from router.capped import Capped
from router.collect.batch import Forward, Item
from router.collect.entries import Entry
from router.collect.eras import Era
from router.errors import PushwayError
from router.keys import Keys
from router.metrics import REDIS_SECONDS
from router.own_connection import OwnConnection, pack
from router.settings import Settings
from router.streams import fencing, take_from_group
from router.trace import TraceEvent, Tracer

GROUP: Final = "collect"

_READ_FIRST: Final = 32
"""Entries that take.lua reads before it knows how long they are, unless so many of the longest pass its budget."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """A message's place in its target's order."""

    prev: int
    seq: int


class Broken(msgspec.Struct, frozen=True, gc=False):
    """A target whose counters cannot be used, and what Redis said."""

    reason: str


class Given(msgspec.Struct, frozen=True):
    """The places of a batch.

    Attributes:
        places: one an item.
        alone: `pending` held nothing before, so all that it holds until the batch is in `out` is this batch's.
    """

    places: list[Place | Broken]
    alone: bool


class Forgetful(PushwayError):
    """Redis has restarted or failed over since the shard was last recovered, and may have forgotten writes."""


@dataclass(frozen=True, slots=True)
class Cold:
    """Targets that have no head of this era in Redis: their newest seq has to be looked up first."""

    targets: tuple[str, ...]


def read_entries(reply: Sequence[Any]) -> list[Entry]:
    """Return entries as they come from Redis: an id, and fields and values in turn."""
    return [Entry(entry_id.decode(), flat) for entry_id, flat in reply]


class Intake:
    """Collect's calls to Redis for one shard.

    What every batch needs goes over a connection that is kept; see `router.own_connection`. The rest is rare.

    Attributes:
        connection: that one.
    """

    def __init__(self, redis: Redis, keys: Keys, settings: Settings) -> None:
        self._redis = redis
        self._keys = keys
        self._settings = settings
        self._lease = keys.lease("collect")
        self._idle_ms = int(settings.seq_idle_s * 1000)
        self.connection = OwnConnection(redis, self._lease)
        self._seconds = {name: REDIS_SECONDS.labels(name) for name in ("take", "sequence", "append")}
        self._take = redis.register_script(lua.source("take"))
        self._sequence = redis.register_script(lua.source("sequence"))
        self._append = redis.register_script(lua.source("append"))
        self._bury = redis.register_script(lua.source("bury"))
        self._forward = redis.register_script(lua.source("forward"))
        self._dead = Capped(redis, keys.dead(), settings.dead_max_bytes)
        self._tracer = Tracer(redis, settings)
        self._begin_era = redis.register_script(lua.source("era_begin"))
        self._confirm_era = redis.register_script(lua.source("era_confirm"))

    async def take(self, held: str, start: str) -> list[Entry]:
        """Take the first entries of `in`: `TAKEN_BEFORE` those that may have been given seqs before, `NEW` any.

        Nothing changes by that: what is not brought to its end is found again.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away.
        """
        settings = self._settings
        read_first = max(1, min(_READ_FIRST, settings.read_max_bytes // settings.body_max_bytes))
        args = [held, start, settings.batch_max, read_first, settings.read_max_bytes]
        stream = self._keys.intake()
        keys = [self._lease, stream, self._keys.era()]
        try:
            reply = await self._call("take", self._take, keys, args)
        except ResponseError as exc:
            if not str(exc).startswith("NOGROUP"):
                raise
            reply = await take_from_group(self._redis, self._take, stream, GROUP, keys, args)
        return read_entries(reply)

    async def sequence(
        self, held: str, era: Era, items: Sequence[Item], floors: dict[str, int], taken: str = ""
    ) -> Given | Cold:
        """Give each item its place, or tell which targets need a floor first; a second call gives the same places.

        Args:
            held: the lease.
            era: in which the shard has been recovered.
            items: what is to be placed.
            floors: target → newest seq that MongoDB has.
            taken: the last entry of `in` that is in hand, so that `TAKEN_BEFORE` finds it again; "" where none is.

        Raises:
            Fenced: when the lease is not ours.
            Forgetful: when the shard has to be recovered first.
            RedisError: when Redis is away.
        """
        targets = dict.fromkeys([item.target for item in items])
        numbers = dict(zip(targets, range(1, len(targets) + 1), strict=True))
        some_floors = " ".join([str(floors.get(target, "-")) for target in numbers])
        some_items = "\n".join([f"{numbers[item.target]} {item.id}" for item in items])
        names = self._keys
        keys = [self._lease, names.pending(), names.era(), *map(names.seq, numbers)]
        args: list[Any] = [held, self._idle_ms, era.number, some_floors, some_items, taken]
        what, *reply = await self._call("sequence", self._sequence, keys, args)
        if what == b"lost":
            raise Forgetful(f"Redis is not the one of era {era.number}")
        if what == b"cold":
            in_order = list(targets)
            return Cold(tuple(in_order[number - 1] for number in reply))
        alone, given, *broken = reply
        numbers_given = map(int, given.split())
        places: list[Place | Broken] = [Place(prev, seq) for prev, seq in zip(numbers_given, numbers_given, strict=True)]
        for number, reason in zip(broken[::2], broken[1::2], strict=True):
            places[number - 1] = Broken(reason.decode())
        return Given(places, bool(alone))

    async def append(
        self,
        held: str,
        *,
        lines: Sequence[str],
        heads: Mapping[str, int],
        entry_ids: Sequence[str],
        item_ids: Sequence[str] | None,
        trim: bool,
        before: Mapping[str, int] | None = None,
        then: bytes = b"",
    ) -> int:
        """Move a finished batch on, in one step, and return the length of `out`.

        Args:
            held: the lease.
            lines: payload lines for `out`, in order.
            heads: target → its highest seq among them.
            entry_ids: entries of `in` to remove, ascending.
            item_ids: fields of `pending` to forget; None for all there are.
            trim: whether every entry up to the last of `entry_ids` is done with.
            before: target → its head as `sequence` told it. It has not moved since; of a target that is not in it Redis looks.
            then: one command more, sent in the same write; its reply is left to the caller.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away; if it had been done, the entries are no longer found.
        """
        names, known = self._keys, before or {}
        moved = {target: head for target, head in heads.items() if known.get(target) != head}
        args: list[Any] = [
            held,
            int(trim),
            self._idle_ms,
            " ".join([f"{known.get(target, '-')} {head}" for target, head in moved.items()]),
            " ".join(entry_ids),
            "\n".join(lines),
            "*" if item_ids is None else "\n".join(item_ids),
        ]
        keys = [self._lease, names.intake(), names.out(), names.pending(), names.era(), *map(names.seq, moved)]
        length: int = await self._call("append", self._append, keys, args, then)
        return length

    async def show(self, held: str) -> None:
        """Show the lease, ahead of what changes anything without looking at it.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away.
        """
        await self.append(held, lines=(), heads={}, entry_ids=(), item_ids=(), trim=False)

    async def _call(self, name: str, script: AsyncScript, keys: list[str], args: list[Any], then: bytes = b"") -> Any:  # noqa: ANN401 - a script's reply
        """Call a script over the connection that is kept."""
        packed = pack("EVALSHA", script.sha, len(keys), *keys, *args)
        with self._seconds[name].time(), fencing():
            await self.connection.send(packed + then, 2 if then else 1)
            try:
                return await self.connection.receive()
            except NoScriptError:
                # The driver's way, which loads it. What was sent behind has been answered before that, and counts for nothing.
                if then:
                    await self.connection.receive()
                return await script(keys=keys, args=args)

    async def begin_era(self, held: str, last: Era) -> tuple[Era, bool]:
        """Begin an era if Redis is not what `last` was begun on; return the present one, and whether to recover in it.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away.
        """
        with fencing():
            server, number, due = await self._begin_era(
                keys=[self._lease, self._keys.era()], args=[held, last.server, last.number]
            )
        return Era(server.decode(), number), bool(due)

    async def confirm_era(self, held: str, era: Era) -> bool:
        """Note that the shard has been recovered in an era; tell whether it is the present one still.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away.
        """
        with fencing():
            return bool(await self._confirm_era(keys=[self._lease, self._keys.era()], args=[held, era.number]))

    async def bury(self, held: str, dead: Sequence[tuple[str, str]]) -> int:
        """Move entries (id, reason) to the dead-letter stream and return how many were moved.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away.
        """
        args: list[Any] = [held, GROUP, self._settings.dead_max, *(part for pair in dead for part in pair)]
        with fencing():
            moved: int = await self._bury(keys=[self._lease, self._keys.intake(), self._keys.dead()], args=args)
        await self._dead.grew(moved)
        return moved

    async def tell(self, held: str, events: Sequence[TraceEvent]) -> None:
        """Append trace events in the name of the lease's owner; none costs nothing, and none that fails is an error."""
        await self._tracer.write(held.partition(" ")[0], events)

    async def forward(self, forwards: Sequence[Forward]) -> None:
        """Append to other shards' `in`, in order; done twice, the message's id makes it once. None costs nothing.

        Raises:
            RedisError: when Redis is away.
        """
        by_shard: dict[int, list[Forward]] = {}
        for forward in forwards:
            by_shard.setdefault(forward.shard, []).append(forward)
        for shard, some in by_shard.items():
            keys = Keys(self._settings.prefix, shard)
            args: list[Any] = []
            for forward in some:
                args += [len(forward.fields) * 2, *(part for pair in forward.fields.items() for part in pair)]
            await self._forward(keys=[keys.intake(), keys.pending()], args=args)

    async def out_length(self) -> int:
        """Return how many entries wait in `out`."""
        length: int = await self._redis.xlen(self._keys.out())
        return length
