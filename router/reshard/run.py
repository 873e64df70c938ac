"""The steps from one number of shards to another, each of which may be cut off anywhere and done again.

    drained? ─▶ push:config says `resharding` ─▶ drained still? ─▶ MongoDB ─▶ Redis ─▶ push:config says the new number

From when `resharding` stands there until the end no service starts, and nothing but the same command goes on. The new number is
written last, in one step with the removal of that word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from router.errors import PushwayError, SetupError
from router.keys import config_key
from router.reshard.moved import STREAMS, Moved
from router.reshard.obstacles import find_obstacles
from router.reshard.stored import Stored
from router.settings import Settings

Tell = Callable[[str, int], None]
"""Is told each step that is done, and how many of what it is about were moved."""


class NotDrained(PushwayError):
    """Something is in the way.

    Attributes:
        obstacles: what, in words.
    """

    def __init__(self, obstacles: list[str]) -> None:
        self.obstacles = obstacles
        super().__init__("the system is not drained, and nothing was changed:\n  " + "\n  ".join(obstacles))


async def reshard(redis: Redis, mongo: AsyncMongoClient[dict[str, Any]], settings: Settings, shards: int, tell: Tell) -> bool:
    """Take a drained system to another number of shards; tell whether there was anything to do.

    Args:
        redis: where it is.
        mongo: likewise.
        settings: prefix and database; how many shards there are is read from `push:config`.
        shards: how many there are to be.
        tell: see `Tell`.

    Raises:
        NotDrained: when something is in the way; then nothing has been changed.
        SetupError: when it was never set up, or another number was begun with.
        RedisError, PyMongoError, OSError: when a server cannot be asked; call it again.
    """
    before, began = await _read(redis, settings.prefix, shards)
    if before == shards:
        return False
    was = settings.model_copy(update={"shards": before})
    moved = Moved(redis, was, shards)
    if not began:
        await _begin(redis, was, moved, shards)
    tell("begun", 0)
    await _move_stored(Stored(mongo, was), before, shards, tell)
    await _move_keys(moved, tell)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hset(config_key(settings.prefix), "shards", str(shards))
        pipe.hdel(config_key(settings.prefix), "resharding")
        await pipe.execute()
    tell("set push:config", shards)
    await moved.forget_progress()
    return True


async def _read(redis: Any, prefix: str, shards: int) -> tuple[int, bool]:  # noqa: ANN401 - its types name the replies of every protocol
    """Return how many shards there are, and whether this has been begun."""
    key = config_key(prefix)
    before, resharding = await redis.hmget(key, ["shards", "resharding"])
    if before is None:
        raise SetupError(f"{key} is not there: nothing was ever set up under this prefix, so set shards={shards} and start.")
    if resharding is not None and int(resharding) != shards:
        raise SetupError(
            f"{key} says that shards={int(resharding)} was begun with: finish that first (--to {int(resharding)})."
        )
    return int(before), resharding is not None


async def _begin(redis: Any, was: Settings, moved: Moved, shards: int) -> None:  # noqa: ANN401 - likewise
    if obstacles := await find_obstacles(redis, was):
        raise NotDrained(obstacles)
    await moved.forget_progress()
    await redis.hset(config_key(was.prefix), "resharding", str(shards))
    # Who started a moment before it was written.
    if obstacles := await find_obstacles(redis, was):
        await redis.hdel(config_key(was.prefix), "resharding")
        raise NotDrained(obstacles)


async def _move_stored(stored: Stored, before: int, shards: int, tell: Tell) -> None:
    count = 0
    for key in await stored.waiting_keys():
        count += await stored.divide(key, shards)
        tell("moved what waits for its time", count)
    tell("numbered what was stored lately", await stored.number_recent(before, shards))


async def _move_keys(moved: Moved, tell: Tell) -> None:
    count = 0
    async for key in moved.named("ack"):
        count += await moved.move_cursors(key)
        tell("moved cursors of users", count)
    for keys in moved.all_shards():
        tell(f"moved who is online of shard {keys.shard}", await moved.move_online(keys))
    for keys in moved.gone():
        for stream in STREAMS:
            count = 0
            while some := await moved.move_entries(keys, stream):
                count += some
                tell(f"moved {stream} of shard {keys.shard}", count)
    count = 0
    async for names in moved.found_anew():
        await moved.drop(names)
        count += len(names)
        tell("dropped what is found anew", count)
    await moved.drop(moved.left_over())
    tell("dropped what is left over", 0)
