"""Following a message by its trace events while it is on its way: who has it, and whether there is more to wait for.

`Progress` decides, from events alone; `follow` reads the trace streams of the shards concerned, all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from redis.asyncio import Redis

from router.keys import Keys
from router.redis_client import OUTAGE
from router.settings import Settings
from router.shards import shard_of_target
from router.trace import Stage, TraceEvent, read_event

REST_S: Final = 2.0
"""How long the rest is waited for once all is over: collect tells behind dispatch at times, client libraries acknowledge once a
second, and many a client not at all."""

_BLOCK_MS: Final = 200
"""How long one read waits for news: well below any timeout of the connection."""

_READ_MAX: Final = 1_000
_AGAIN_S: Final = 0.1


@dataclass(slots=True)
class _OnItsWay:
    """What is known of a message for one target."""

    appended: bool = False
    dispatched: bool = False
    nodes: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    acked: set[str] = field(default_factory=set)
    trouble: str = ""

    @property
    def delivered(self) -> bool:
        # A topic's channel has no list of nodes: one that has delivered is all that can be known.
        return self.dispatched and (self.nodes <= self.reached if self.nodes else bool(self.reached))

    @property
    def over(self) -> bool:
        return self.delivered or bool(self.trouble)


class Progress:
    """How far a message has come, for each of its targets.

    Args:
        targets: all of them.

    Attributes:
        events: what was told so far, in the order it came.
    """

    def __init__(self, targets: Iterable[str]) -> None:
        self.events: list[TraceEvent] = []
        self._targets = {target: _OnItsWay() for target in targets}

    @property
    def delivered(self) -> bool:
        """Whether every node that it was dispatched to has delivered it."""
        return all(one.delivered for one in self._targets.values())

    @property
    def over(self) -> bool:
        """Whether it is known what becomes of it, though not every event may be there yet."""
        return all(one.over for one in self._targets.values())

    @property
    def complete(self) -> bool:
        """Whether collect has told of it, and every session that has it has acknowledged it: there is no event to come."""
        return all(one.appended and one.sessions <= one.acked for one in self._targets.values())

    @property
    def troubles(self) -> dict[str, str]:
        """Target → why it is not delivered there, or not yet."""
        return {target: one.trouble or _missing(one) for target, one in self._targets.items() if not one.delivered}

    def take(self, event: TraceEvent) -> None:
        """Take an event in."""
        self.events.append(event)
        one = self._targets.get(event.to)
        if one is None:
            return
        match event.stage:
            case Stage.APPENDED:
                one.appended = True
            case Stage.DISPATCHED:
                one.dispatched = True
                one.nodes.update(event.nodes)
            case Stage.DELIVERED | Stage.REPLAYED:
                one.reached.add(event.by)
                if event.seq is not None and event.session is not None:
                    one.sessions.add(event.session)
            case Stage.ACKED if event.session is not None:
                one.acked.add(event.session)
            case Stage.DEAD | Stage.EXPIRED:
                one.trouble = f"{event.stage}: {event.why}"
            case Stage.OFFLINE if not one.dispatched:
                one.trouble = f"{event.stage}: {event.why}"


def _missing(one: _OnItsWay) -> str:
    if not one.dispatched:
        return "not dispatched yet"
    return f"not delivered yet by {', '.join(sorted(one.nodes - one.reached)) or 'any node'}"


async def ends(redis: Redis, settings: Settings, targets: Iterable[str]) -> dict[str, str]:
    """Return trace stream → its last entry id, for the shards of these targets: where to follow from.

    Raises:
        RedisError: when Redis is away.
    """
    found: dict[str, str] = {}
    for shard in {shard_of_target(target, settings.shards) for target in targets}:
        key = Keys(settings.prefix, shard).trace()
        # The driver's types name the replies of every protocol at once.
        last: Any = await redis.xrevrange(key, count=1)
        found[key] = last[0][0].decode() if last else "0-0"
    return found


async def follow(
    redis: Redis,
    begins: Mapping[str, str],
    message_id: str,
    progress: Progress,
    changed: Callable[[], None],
    wait_s: float,
) -> None:
    """Take a message's events in as they come, until it is over, or `wait_s` are.

    Args:
        redis: where the trace streams are. Away, it is asked again.
        begins: trace stream → the entry id to begin behind; see `ends`.
        message_id: whose events.
        progress: takes them.
        changed: is called after each.
        wait_s: the limit.
    """
    news = anyio.Event()

    def take(event: TraceEvent) -> None:
        nonlocal news
        progress.take(event)
        changed()
        news.set()
        news = anyio.Event()

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await news.wait()

    with anyio.move_on_after(wait_s):
        async with anyio.create_task_group() as tasks:
            for key, begin in begins.items():
                # A connection each: in a Cluster, one XREAD names streams of one slot only.
                tasks.start_soon(_tail, redis, key, begin, message_id, take)
            await until(lambda: progress.over)
            with anyio.move_on_after(REST_S):
                await until(lambda: progress.complete)
            tasks.cancel_scope.cancel()


async def _tail(redis: Any, key: str, begin: str, message_id: str, take: Callable[[TraceEvent], None]) -> None:  # noqa: ANN401 - see `ends`
    wanted = message_id.encode()
    while True:
        try:
            reply = await redis.xread({key: begin}, count=_READ_MAX, block=_BLOCK_MS)
        except OUTAGE:
            await anyio.sleep(_AGAIN_S)
            continue
        for entry_id, fields in (entry for _, entries in reply for entry in entries):
            begin = entry_id.decode()
            event = read_event(fields) if fields.get(b"id") == wanted else None
            if event is not None:
                take(event)
