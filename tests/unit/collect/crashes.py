"""A shard in a test's hand: owners that are cut off or frozen anywhere, Redis that forgets, and sessions that hear of it.

What is real: the owner, recovery, Redis' scripts (on fakeredis), and the rule of order of the sessions. The inbox is in memory,
and dispatch is played: what it does with a line is published to every session, once or more often.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any, Final, TypeVar

import fakeredis

from edge.position import Position, Verdict
from router.collect.intake import GROUP
from router.collect.owner import Owner
from router.lines import TRANSIENT
from router.outage import Outages
from router.settings import Settings
from router.stored import Document
from tests.collecting import Cut, Cutting, MemoryInbox, MemoryLater, Workshop, ordinary
from tests.unit.edge.outlets import KeptOutlet

T = TypeVar("T")

INBOX_CALLS: Final = ("insert", "find", "newest")
LATER_CALLS: Final = ("keep", "next_due_ms", "due", "take_in_hand", "sent")
INTAKE_CALLS: Final = ("begin_era", "confirm_era", "take", "sequence", "append", "bury")
SETTINGS: Final = Settings(batch_max=4, targets_inline_max=1)
"""So that what goes to two targets has a body, and a batch of it more than one slice."""

TARGETS: Final = ("user:a", "user:b", "all")

_HELD_MAX_BYTES: Final = 1_000_000

_AHEAD_MS: Final = 60_000
"""Redis' clock goes on while a test runs, and an entry must not come from a time that is yet to be."""


class Idle(Exception):
    """The owner has nothing left to do."""


class _NoBell:
    def call(self, most_ms: int | None = None) -> bytes:
        """Ask for nothing."""
        del most_ms
        return b""

    async def wait(self, most_ms: int | None = None) -> tuple[()]:
        """End the owner's work where it would wait for more."""
        if most_ms != 0:
            raise Idle
        return ()


class Freezing:
    """A part of an owner that stands still before the nth call of one method, until `go_on` is set."""

    def __init__(self, inner: object, method: str, nth: int) -> None:
        self._inner = inner
        self.method = method
        self._left = nth
        self.stands = False
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner one has
        found = getattr(self._inner, name)
        return self._freeze(found) if name == self.method else found

    def _freeze(self, method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(*args: object, **kwargs: object) -> object:
            self._left -= 1
            if self._left == 0:
                self.stands = True
                await self.go_on.wait()
            return await method(*args, **kwargs)

        return call


class Listener:
    """A session of one target: what it hears, what it reads, and what its client got.

    Attributes:
        began: the seq behind which it is owed everything.
        got: every seq its client got, in order.
    """

    def __init__(self, target: str, began: int, head: int, inbox: MemoryInbox) -> None:
        self.began = began
        self.got: list[int] = []
        self.target = target
        self._inbox = inbox
        self._position = Position(KeptOutlet(), target, _HELD_MAX_BYTES)
        self._position.start_after(began, head)
        self._catch_up()

    def hear(self, prev: int, seq: int) -> None:
        """Take a line."""
        verdict = self._position.take(prev, seq, b"%d" % seq)
        if verdict is Verdict.DELIVER:
            self.got.append(seq)
        self._catch_up()

    def resync(self, head: int) -> None:
        """Compare the head after a loss."""
        if self._position.at < head:
            self._position.fall_behind(head)
        self._catch_up()

    def _catch_up(self) -> None:
        while (goal := self._position.goal) is not None:
            seqs = sorted(one["seq"] for one in self._inbox.stored.values() if one["target"] == self.target)
            self.got += [seq for seq in seqs if self._position.at < seq <= goal]
            self.got += [int(frame) for frame, _ in self._position.arrive(goal)]


class Shard:
    """Shard 0, its producers, owners and sessions.

    Attributes:
        inbox: MongoDB.
        workshop: Redis, and the owners' parts.
        later: what waits in MongoDB.
        now_ms: what every clock shows but that of Redis.
        began_ms: what it showed at first.
        appended: (target, id) of every durable message that keeps the contract and is not lost, in the order of appending.
        due: the same of messages with an `at` → that, Unix ms.
        called_back: those of them that may come or not.
        listeners: sessions; the first of each target has been there from the beginning.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._server = fakeredis.FakeServer(version=(7,))
        self.redis = fakeredis.FakeAsyncRedis(protocol=2, version=(7,), server=self._server)
        self.inbox = MemoryInbox()
        self.later = MemoryLater()
        self.workshop = Workshop(self.redis, self.inbox, SETTINGS, later=self.later)
        self.now_ms = self.began_ms = time.time_ns() // 1_000_000 + _AHEAD_MS
        self.keys = self.workshop.keys(0)
        self.appended: list[tuple[str, str]] = []
        self.due: dict[tuple[str, str], int] = {}
        self.called_back: set[tuple[str, str]] = set()
        self.listeners = [Listener(target, 0, 0, self.inbox) for target in TARGETS]
        self.frozen: list[tuple[Freezing, asyncio.Task[None]]] = []
        self._make_group()

    def run(self, work: Awaitable[T]) -> T:
        """Return what comes of an asynchronous call."""
        return self._loop.run_until_complete(work)

    def append(self, targets: tuple[str, ...], message_id: str, *, transient: bool = False) -> None:
        """Append an entry as a producer does."""
        fields = {"to": ",".join(targets), "id": message_id, "text": "hi", "transient": str(int(transient))}
        self.run(self.workshop.append(0, **fields))
        if not transient:
            self.appended += [(target, message_id) for target in targets]

    def append_for(self, at_ms: int, targets: tuple[str, ...], message_id: str) -> None:
        """Append a message that is not to be sent before a time."""
        self.run(self.workshop.append(0, to=",".join(targets), id=message_id, text="hi", at=str(at_ms)))
        for target in targets:
            self.due[target, message_id] = at_ms
            self.called_back.discard((target, message_id))

    def call_back(self, message_id: str) -> None:
        """Cancel a message; one that an owner has in hand, or a frozen one may keep anew, can come all the same."""
        waited = {(target, one.id) for one in self.later.waiting.values() for target in one.targets}
        self.run(self.later.cancel(message_id))
        waits = {(target, one.id) for one in self.later.waiting.values() for target in one.targets}
        self.called_back |= waited - waits

    # -- owners --------------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Let a new owner work until nothing is left."""
        self.run(self._work(self._owner()))

    def cut_off(self, method: str, when: str, nth: int) -> None:
        """Let a new owner work until it is cut off there, or has nothing left."""
        self.run(self._work(self._owner(**self._with(method, lambda part: Cutting(part, method, when, nth)))))

    def freeze(self, method: str, nth: int) -> None:
        """Let a new owner work until it stands still before that call, or has nothing left."""
        made: list[Freezing] = []

        def freezing(part: object) -> Freezing:
            made.append(Freezing(part, method, nth))
            return made[0]

        owner = self._owner(**self._with(method, freezing))
        task = self._loop.create_task(self._work(owner))
        while not (made[0].stands or task.done()):
            self.run(asyncio.sleep(0))
        if not task.done():
            self.frozen.append((made[0], task))

    def wake(self) -> None:
        """Let the owner that was frozen first go on, to its end."""
        freezing, task = self.frozen.pop(0)
        freezing.go_on.set()
        self.run(_ended(task))

    def kill_frozen(self, *methods: str) -> None:
        """End the owners that are frozen before one of these calls."""
        for freezing, task in self.frozen.copy():
            if freezing.method in methods:
                self.frozen.remove((freezing, task))
                task.cancel()
                self.run(_ended(task))

    def _with(self, method: str, wrap: Callable[[object], object]) -> dict[str, object]:
        if method in INBOX_CALLS:
            return {"inbox": wrap(self.inbox)}
        if method in LATER_CALLS:
            return {"later": wrap(self.later)}
        return {"intake": wrap(self.workshop.intake())}

    def _owner(self, *, intake: object = None, inbox: object = None, later: object = None) -> Owner:
        stand_in: Any = intake or self.workshop.intake()
        store: Any = inbox or self.inbox
        bell: Any = _NoBell()
        eras: Any = self.workshop.eras
        outages, schedule = Outages(self.workshop.health, SETTINGS, shard=0), self.workshop.schedule(0, later)
        return Owner(0, stand_in, store, eras, bell, outages, SETTINGS, schedule, clock_ms=lambda: self.now_ms)

    async def _work(self, owner: Owner) -> None:
        held = await self.workshop.lease()
        try:
            await owner.run(held)
        except (Cut, Idle):
            return

    # -- dispatch and sessions -----------------------------------------------------------------------------------------

    def dispatch(self, count: int, *, acknowledged: bool = True) -> int:
        """Publish the first entries of `out`, and say how many; they stay where dispatch dies before it acknowledges them."""
        entries: Any = self.run(self.redis.xrange(self.keys.out(), count=count))
        for entry_id, fields in entries:
            for line in chain.from_iterable(map(ordinary, fields[b"line"].decode().split("\n"))):
                target, prev, seq, _ = line.split(" ", 3)
                if seq != TRANSIENT:
                    self._publish(target, int(prev), int(seq))
            if acknowledged:
                self.run(self.redis.xdel(self.keys.out(), entry_id))
        return len(entries)

    def _publish(self, target: str, prev: int, seq: int) -> None:
        for listener in self.listeners:
            if listener.target == target:
                listener.hear(prev, seq)

    def head(self, target: str) -> int:
        """Return what an edge takes for the head: Redis' where it counts, else MongoDB's newest."""
        handed: Any = self.run(self.redis.hmget(self.keys.seq(target), "handed", "era"))
        era: Any = self.run(self.redis.hmget(self.keys.era(), "server", "era"))
        if handed[0] is not None and era == [b"-", handed[1]]:
            return int(handed[0])
        return self.newest(target)

    def newest(self, target: str) -> int:
        """Return MongoDB's newest seq of a target."""
        return self.run(self.inbox.newest([target])).get(target, 0)

    # -- losses --------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[bytes, Any]:
        """Return a copy of all that Redis holds."""
        return copy.deepcopy(dict(self._server.dbs[0]._dict))

    def roll_back(self, snapshot: dict[bytes, Any] | None) -> None:
        """Make Redis one that has only what it held then, or nothing, under another replication id."""
        held = self._server.dbs[0]._dict
        held.clear()
        if snapshot is not None:
            held.update(copy.deepcopy(snapshot))
        self._make_group()
        if self.run(self.redis.exists(self.keys.era())):
            # fakeredis has no replication id to change, so what stands there of the last one is changed instead.
            self.run(self.redis.hset(self.keys.era(), mapping={"server": "before", "recovered": "none"}))

    def _make_group(self) -> None:
        # fakeredis answers XREADGROUP on a missing key with another error than NOGROUP.
        if not self.run(self.redis.exists(self.keys.intake())):
            self.run(self.redis.xgroup_create(self.keys.intake(), GROUP, id="0", mkstream=True))

    # -- what was promised ---------------------------------------------------------------------------------------------

    def accepted(self, target: str) -> list[Document]:
        """Return what MongoDB has of a target, by seq."""
        return sorted((one for one in self.inbox.stored.values() if one["target"] == target), key=lambda one: int(one["seq"]))

    def forget_what_is_lost(self, kept: int) -> None:
        """Expect no more of what was appended behind the first `kept` and has not been accepted."""
        later = [(target, name) for target, name in self.appended[kept:] if f"{target} {name}" in self.inbox.stored]
        self.appended = self.appended[:kept] + later
        waits = {(target, one.id) for one in self.later.waiting.values() for target in one.targets}
        self.called_back |= {pair for pair in self.due if f"{pair[0]} {pair[1]}" not in self.inbox.stored and pair not in waits}

    def holds_its_promise(self) -> None:
        """Assert what is promised when nothing is left to do."""
        expected: dict[str, dict[str, None]] = defaultdict(dict)
        for target, message_id in self.appended:
            expected[target][message_id] = None
        for target in TARGETS:
            ids = [one["id"] for one in self.accepted(target)]
            assert [one for one in ids if (target, one) not in self.due] == list(expected[target]), target
        stored = {pair for pair in self.due if f"{pair[0]} {pair[1]}" in self.inbox.stored}
        assert self.due.keys() - self.called_back <= stored
        assert not self.later.waiting
        for listener in self.listeners:
            owed = [one["seq"] for one in self.accepted(listener.target) if one["seq"] > listener.began]
            assert listener.got == owed, f"{listener.target} since {listener.began}: {listener.got}, not {owed}"

    def close(self) -> None:
        """Give everything back."""
        self.kill_frozen(*INBOX_CALLS, *INTAKE_CALLS)
        self.run(self.redis.aclose())
        self._loop.close()


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()
