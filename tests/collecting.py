"""Collect's owners in a test's hands: cut off anywhere, followed by others, and held against what was promised.

Works on any Redis and on any inbox that can insert, find and tell the newest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

import anyio
from redis.asyncio import Redis

from router.bell import Bell
from router.collect.eras import NONE_YET, Era, Eras
from router.collect.intake import Intake
from router.collect.owner import Owner
from router.collect.schedule import Schedule
from router.inbox import Inbox
from router.keys import Keys
from router.later import Cancelled, Due, Later
from router.lines import MANY, split_many
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from router.shards import shard_of_target
from router.stored import Body, Document, Insertion, Recent, Stored
from router.waiting import Waiting, in_order

SETTLE_TIMEOUT_S: Final = 60.0


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds."""
    with anyio.fail_after(SETTLE_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - whatever sets it knows nothing of tests
            await anyio.sleep(0.005)


class Cut(Exception):
    """The owner's process ends here."""


class Cutting:
    """A part of an owner that ends its process before or after the nth call of one method."""

    def __init__(self, inner: object, method: str, when: str, nth: int = 1) -> None:
        self._inner = inner
        self._method = method
        self._when = when
        self._left = nth

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner one has
        found = getattr(self._inner, name)
        return self._cut(found) if name == self._method else found

    def _cut(self, method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(*args: object, **kwargs: object) -> object:
            self._left -= 1
            if self._left == 0 and self._when == "before":
                raise Cut
            answer = await method(*args, **kwargs)
            if self._left == 0:
                raise Cut
            return answer

        return call


class MemoryInbox:
    """An inbox without a server.

    Attributes:
        stored: documents by their `_id`.
        bodies: likewise, what many targets share.
        keep_only: when set, the next insert stores only the documents at these indexes, in any order as an unordered bulk
            insert may, and then cuts the owner off.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Document] = {}
        self.bodies: dict[str, Document] = {}
        self.keep_only: frozenset[int] | None = None

    async def insert(self, documents: Sequence[Document], bodies: Sequence[Document] = ()) -> Insertion:
        """Store what is new."""
        for body in bodies:
            # As in MongoDB, it lives as long as the last that refers to it, also when a clock has gone back.
            ends = [body["expires_at"], self.bodies.get(body["_id"], body)["expires_at"]]
            self.bodies[body["_id"]] = body | {"expires_at": max(ends)}
        outcome = Insertion()
        keep_only, self.keep_only = self.keep_only, None
        places = {(document["target"], document["seq"]) for document in self.stored.values()}
        for index, document in enumerate(documents):
            place = (document["target"], document["seq"])
            if keep_only is not None and index not in keep_only:
                continue
            if document["_id"] in self.stored or place in places:
                outcome.taken.add(index)
            else:
                self.stored[document["_id"]] = document
                places.add(place)
        if keep_only is not None:
            raise Cut
        return outcome

    async def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Return what is stored under these ids."""
        return {one: self._stored(self.stored[one]) for one in ids if one in self.stored}

    async def find_among_new(self, ids: Sequence[str]) -> dict[str, Stored] | None:
        """Return what is stored under these `_id`s, however many."""
        return await self.find(ids)

    def _stored(self, document: Document) -> Stored:
        expires_ms, body = int(document["expires_at"].timestamp() * 1000), self._body(document)
        return Stored(document["seq"], document["prev"], document.get("frame", ""), expires_ms, body=body)

    def _body(self, document: Document) -> Body | None:
        if "body" not in document:
            return None
        body = self.bodies[document["body"]]
        assert body["expires_at"] >= document["expires_at"]
        return Body(body["_id"], body["id"], body["ts"], body["content"])

    async def recent(self, shard: int, since: datetime, most: int, most_bytes: int) -> AsyncGenerator[list[Recent]]:
        """Yield what was stored lately, a message a part."""
        assert min(most, most_bytes) > 0
        lately = [one for one in self.stored.values() if one["shard"] == shard and one["stored_at"] >= since]
        for one in sorted(lately, key=lambda one: (one["stored_at"], one["seq"])):
            stored = self._stored(one)
            yield [Recent(one["target"], one["seq"], stored.frame, stored.expires_ms or 0, body=stored.body)]

    async def newest(self, targets: Sequence[str]) -> dict[str, int]:
        """Return the highest seq of each target."""
        newest: dict[str, int] = {}
        for document in self.stored.values():
            if document["target"] in targets:
                newest[document["target"]] = max(document["seq"], newest.get(document["target"], 0))
        return newest


class MemoryLater:
    """What waits, without a server.

    Attributes:
        waiting: by `_id`.
        in_hand: those of them that are being sent.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, Waiting] = {}
        self.in_hand: set[str] = set()

    async def keep(self, waiting: Sequence[Waiting]) -> None:
        """Store what is new."""
        for one in waiting:
            self.waiting.setdefault(one.key, one)

    async def next_due_ms(self, shard: int, now_ms: int) -> int | None:
        """Return when the first is due."""
        del now_ms
        return min((self._due_ms(one) for one in self.waiting.values() if one.shard == shard), default=None)

    async def due(self, shard: int, now_ms: int) -> list[Due]:
        """Return what is due, by time."""
        found = [one for one in self.waiting.values() if one.shard == shard and self._due_ms(one) <= now_ms]
        return [
            Due(one.key, len(one.targets), len(one.content), one.key in self.in_hand) for one in sorted(found, key=self._due_ms)
        ]

    async def take_in_hand(self, shard: int, keys: Sequence[str]) -> list[Waiting]:
        """Take some in hand and return all that is."""
        self.in_hand.update(key for key in keys if key in self.waiting)
        return in_order(one for key, one in self.waiting.items() if key in self.in_hand and one.shard == shard)

    async def sent(self, keys: Sequence[str]) -> None:
        """Remove what has been sent."""
        for key in keys:
            self.waiting.pop(key, None)
            self.in_hand.discard(key)

    async def cancel(self, message_id: str) -> Cancelled:
        """Call back what is not in hand."""
        found = [one for one in self.waiting.values() if one.id == message_id]
        free = [one for one in found if one.key not in self.in_hand]
        for one in free:
            del self.waiting[one.key]
        counts = [sum(len(one.targets) for one in some) for some in (found, free)]
        return Cancelled(counts[1], counts[0] - counts[1])

    def _due_ms(self, one: Waiting) -> int:
        return 0 if one.key in self.in_hand else one.at_ms


class MemoryEras:
    """What MongoDB knows of eras, without a server."""

    def __init__(self) -> None:
        self._last: dict[int, Era] = {}

    async def last(self, shard: int) -> Era:
        """Return a shard's last era."""
        return self._last.get(shard, NONE_YET)

    async def note(self, shard: int, era: Era) -> bool:
        """Make an era the last, unless a higher one is."""
        if self._last.get(shard, NONE_YET).number >= era.number:
            return False
        self._last[shard] = era
        return True


class Workshop:
    """All shards of one prefix: producers append, owners come and go, and what came of it is looked at."""

    def __init__(
        self,
        redis: Redis,
        inbox: Inbox | MemoryInbox,
        settings: Settings,
        eras: Eras | MemoryEras | None = None,
        later: Later | MemoryLater | None = None,
    ) -> None:
        # The driver's types name the replies of every protocol at once; these are RESP2's.
        self.redis: Any = redis
        self.inbox = inbox
        self.eras: Eras | MemoryEras = eras or MemoryEras()
        self.later: Later | MemoryLater = later or MemoryLater()
        self.settings = settings
        self.health = Health()
        self.appended: list[tuple[str, str]] = []
        """(target, id) of every durable message that keeps the contract, in the order of appending."""
        self._holders = 0

    def keys(self, shard: int) -> Keys:
        """Return the names of a shard."""
        return Keys(self.settings.prefix, shard)

    async def append(self, shard: int = 0, /, **fields: str) -> str:
        """Append an entry as a producer does; name its `id` when it is to be looked for."""
        entry: bytes = await self.redis.xadd(self.keys(shard).intake(), fields)
        if "id" in fields and fields.get("transient") != "1":
            self.appended += [(target, fields["id"]) for target in fields["to"].split(",")]
        return entry.decode()

    async def lease(self, shard: int = 0) -> str:
        """Give the shard's lease to somebody new, and return what is held."""
        self._holders += 1
        held = f"owner-{self._holders} {self._holders}"
        await self.redis.set(self.keys(shard).lease("collect"), held)
        return held

    def owner(self, shard: int = 0, *, intake: object = None, inbox: object = None) -> Owner:
        """Return an owner with parts of the test's own."""
        stand_in: Any = intake or self.intake(shard)
        connection: Any = stand_in.connection
        store: Any = inbox or self.inbox
        bell = Bell(connection, self.keys(shard).intake(), self.settings)
        eras: Any = self.eras
        outages = Outages(self.health, self.settings, shard=shard)
        return Owner(shard, stand_in, store, eras, bell, outages, self.settings, self.schedule(shard))

    def schedule(self, shard: int = 0, later: object = None) -> Schedule:
        """Return what a shard's owner knows of what waits, by a store of the test's own."""
        store: Any = later or self.later
        return Schedule(shard, store, self.settings)

    def intake(self, shard: int = 0) -> Intake:
        """Return a shard's intake."""
        return Intake(self.redis, self.keys(shard), self.settings)

    async def cut_off(self, part: str, method: str, when: str, nth: int = 1) -> bool:
        """Let an owner of shard 0 work until it is cut off there, or has nothing left; tell whether it was cut."""
        intake: object = self.intake()
        inbox: object = self.inbox
        if part == "intake":
            intake = Cutting(intake, method, when, nth)
        else:
            inbox = Cutting(inbox, method, when, nth)
        return await self.run_until_cut(self.owner(intake=intake, inbox=inbox))

    async def run_until_cut(self, owner: Owner, shard: int = 0) -> bool:
        """Let an owner work until it is cut off or has nothing left; tell whether it was cut."""
        held = await self.lease(shard)
        was_cut = False

        async def work(scope: anyio.CancelScope) -> None:
            nonlocal was_cut
            try:
                await owner.run(held)
            except Cut:
                was_cut = True
            scope.cancel()

        with anyio.fail_after(SETTLE_TIMEOUT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work, tasks.cancel_scope)
                await self.settled(shard)
                tasks.cancel_scope.cancel()
        return was_cut

    async def settle(self) -> None:
        """Let a new owner of every shard work until nothing is left anywhere."""
        with anyio.fail_after(SETTLE_TIMEOUT_S):
            async with anyio.create_task_group() as tasks:
                for shard in range(self.settings.shards):
                    tasks.start_soon(self.owner(shard).run, await self.lease(shard))
                await self.settled(*range(self.settings.shards))
                tasks.cancel_scope.cancel()

    async def settled(self, *shards: int) -> None:
        """Return when nothing is left in these shards' `in`, and they are recovered."""
        while await self._has_work(shards):  # noqa: ASYNC110 - Redis'
            await anyio.sleep(0.002)

    async def _has_work(self, shards: Sequence[int]) -> bool:
        # At one moment: between two looks one shard could pass what it has on to another that was found empty.
        async with self.redis.pipeline(transaction=True) as pipe:
            for keys in map(self.keys, shards):
                pipe.hmget(keys.era(), "era", "recovered")
                pipe.xlen(keys.intake())
            found = iter(await pipe.execute())
        return any(era is None or recovered != era or left > 0 for (era, recovered), left in zip(found, found, strict=True))

    async def lines(self, shard: int = 0) -> list[str]:
        """Return the lines in a shard's `out`."""
        entries = await self.redis.xrange(self.keys(shard).out())
        return [line for _, fields in entries for line in fields[b"line"].decode().split("\n")]

    async def dead(self, shard: int = 0) -> list[dict[str, str]]:
        """Return a shard's dead letters."""
        found = await self.redis.xrange(self.keys(shard).dead())
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]

    async def nothing_is_left(self) -> None:
        """Assert that no shard has anything in hand."""
        for shard in range(self.settings.shards):
            keys = self.keys(shard)
            assert await self.redis.xlen(keys.intake()) == 0
            assert (await self.redis.xpending(keys.intake(), "collect"))["pending"] == 0
            assert await self.redis.hgetall(keys.pending()) == {}

    async def keeps_its_promise(self, stored: Sequence[Document], *, in_order: bool = True) -> None:
        """Assert what is promised of accepted messages.

        Args:
            stored: all documents of the inbox.
            in_order: whether the order of appending is to be that of each target.
        """
        await self.nothing_is_left()
        expected: dict[str, list[str]] = defaultdict(list)
        for target, message_id in self.appended:
            if message_id not in expected[target]:
                expected[target].append(message_id)
        for target, ids in expected.items():
            documents = sorted((one for one in stored if one["target"] == target), key=lambda one: int(one["seq"]))
            ours = [one for one in documents if one["id"] in ids]
            names = [one["id"] for one in ours]
            assert names == ids if in_order else sorted(names) == sorted(ids)
            shard = shard_of_target(target, self.settings.shards)
            # Where Redis has lost the counter, MongoDB's newest counts as the head.
            head = await self.redis.hget(self.keys(shard).seq(target), "handed")
            assert head is None or int(head) >= ours[-1]["seq"]
            frames = [one["frame"] for one in ours]
            assert [frame for frame in delivered(target, await self.lines(shard), documents) if frame in frames] == frames


def delivered(target: str, lines: Sequence[str], documents: Sequence[Document]) -> list[str]:
    """Return the frames that an edge delivers of a target's lines, by the rule of prev and seq, from the beginning.

    Asserts that `prev` never passes over what was there: an edge that missed a line would not notice.
    """
    last, frames = 0, []
    for line in (one for shared in lines for one in ordinary(shared)):
        to, prev_text, seq_text, _, frame = line.split(" ", 4)
        if to != target or seq_text == "-":
            continue
        prev, seq = int(prev_text), int(seq_text)
        if prev > last:
            frames += [one["frame"] for one in documents if last < one["seq"] <= prev]
            last = prev
        if last < seq:
            assert prev == last, f"{line} follows {last}"
            frames.append(frame)
            last = seq
    return frames


def ordinary(line: str) -> list[str]:
    """Return the lines that one of `out` stands for."""
    word, _, _, opts, payload = line.split(" ", 4)
    return [one.decode() for one in split_many(opts.encode(), payload.encode())] if word == MANY else [line]
