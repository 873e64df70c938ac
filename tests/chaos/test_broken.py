"""The checker sees red: with a guarantee broken a short run of faults is found wrong, and with all of them kept it is not.

Each scene is played on the product as it is too, or its red would prove nothing. A scene leaves nothing to chance: each of its
steps waits until the one before has shown, in the product as it is or in the broken one, so that on a slow machine it is the
same scene.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.chaos.broken import (
    ACK_BEFORE_STORE,
    BREAKAGES,
    FENCING_OFF,
    IDS_FORGOTTEN,
    PENDING_FORGOTTEN,
    PREV_IGNORED,
    REPEATS_DELIVERED,
    REPLAY_BEFORE_REGISTER,
    Breakage,
    broken_copy,
)
from tests.chaos.checker import Kind
from tests.chaos.proxy import BLACK_HOLE, HOST, Link
from tests.chaos.scene import Scene, until
from tests.servers import Process
from tests.stack import Service, Stack

pytestmark = pytest.mark.anyio

# Routes live long, or a renewal would now and then mend what a scene breaks; so do leases, which lapse when a scene says so.
QUICK = {"lease_ms": 6_000, "route_ttl_ms": 600_000, "mongo_timeout_s": 5.0, "redis_timeout_s": 30.0, "drain_timeout_s": 0.1}

PATIENCE_S = 60.0
"""How long the product may take until all is well, and any step of a scene; it never does."""
RED_TIMEOUT_S = 2.0
"""How long a broken one is given to mend it."""

ERA, OFFLINE, LEASE, ASIDE = "push:{0}:era", "push:{0}:offline", "push:{0}:lease:collect", "push:{0}:aside"
OUTAGE_BEGAN, LEASE_LOST = "outage_began", "lease_lost"
INSERTS = 'pushway_mongo_seconds_count{operation="insert"}'
Play = Callable[[Scene], Awaitable[None]]


async def owner_dies_with_a_batch_in_hand(scene: Scene) -> None:
    """MongoDB is away, so that collect has taken what is appended and cannot store it; then collect is killed."""
    user, stack = scene.user(0), scene.stack
    await scene.join(user)
    await scene.append(user)
    assert await scene.all_well(PATIENCE_S)
    outages = _told(scene, OUTAGE_BEGAN)
    stack.store.kill()
    await scene.append(user, user, user)
    # Only with a batch in hand does it find out.
    await until(lambda: _told(scene, OUTAGE_BEGAN) > outages, PATIENCE_S)
    stack["collect"].kill()
    await scene.redis.delete(LEASE)
    for process in (stack.store, stack["collect"]):
        process.launch()
        await anyio.to_thread.run_sync(process.wait_ready)


def _told(scene: Scene, event: str) -> int:
    """Return how often collect's log tells of an event."""
    return scene.stack["collect"].log.read_text(encoding="utf-8").count(event)


async def appended_while_they_connect(scene: Scene) -> None:
    """Messages come just as a session begins, and none after them that would show that they are missing."""
    users = [scene.user(number) for number in range(3)]
    for user in users:
        await scene.join(user, kinds=("raw",))
        missed = await scene.redis.xlen(OFFLINE)
        await scene.append(user, user)
        await _until_dispatched(scene, missed + 2, user)
    with scene.stack.redis_client() as redis:
        await until(lambda: redis.exists(*map(_route, users)) == len(users), PATIENCE_S)


async def _until_heard(scene: Scene, *users: str) -> None:
    await until(lambda: scene.heard(*users), PATIENCE_S)


async def _until_dispatched(scene: Scene, offline: int, *users: str) -> None:
    """Return when these users have what was appended last, or so many reports say that there is nobody to have it."""
    with scene.stack.redis_client() as redis:
        await until(lambda: scene.heard(*users) or redis.xlen(OFFLINE) >= offline, PATIENCE_S)


async def route_is_gone_for_a_moment(scene: Scene) -> None:
    """A route vanishes and comes back, as when a replica that lags becomes primary: one message reaches nobody."""
    users = [scene.user(number) for number in range(3)]
    await scene.join(*users)
    await scene.append(*users)
    await _until_heard(scene, *users)
    for user in users:
        while not await _missed_without_route(scene, user):
            pass  # its edge has just written the route once more, because a device has answered the first ping
        await scene.append(user)
        await _until_heard(scene, user)


async def _missed_without_route(scene: Scene, user: str) -> bool:
    """Append a message while the user has no route; tell whether it was dispatched to nobody."""
    missed = await scene.redis.xlen(OFFLINE)
    await scene.redis.rename(_route(user), ASIDE)
    await scene.append(user)
    await _until_dispatched(scene, missed + 1, user)
    await scene.redis.rename(ASIDE, _route(user))
    return await scene.redis.xlen(OFFLINE) > missed


def _route(user: str) -> str:
    return f"push:{{0}}:route:{user}"


async def owner_is_cut_off_and_its_write_comes_late(scene: Scene) -> None:
    """An owner has stored a batch, and what it then writes to Redis is on its way until its successor has brought more through.

    That the user's devices miss, because their route is gone for a moment: only what comes behind it shows them that.
    """
    user, collect = scene.user(0), scene.stack["collect"]
    await scene.join(user)
    await scene.append(user)
    assert await scene.all_well(PATIENCE_S)
    async with Link("owner>store", scene.stack.store.port) as to_store, Link("owner>redis", scene.stack.redis.port) as to_redis:
        owner = await _standing_by(scene, to_store, to_redis)
        async with _frozen(collect):
            await scene.redis.delete(LEASE)
            # Once it has brought a message through, it waits for the next one and for nothing else.
            await scene.append(user)
            await _until_heard(scene, user)
            to_store.suffer(BLACK_HOLE)
            in_hand, stored = _taken(scene), owner.metric(INSERTS)
            await scene.append(user)
            await until(lambda: _taken(scene) != in_hand, PATIENCE_S)
            to_redis.suffer(BLACK_HOLE)
            to_store.recover(BLACK_HOLE)
            await until(lambda: owner.metric(INSERTS) > stored, PATIENCE_S)
            await scene.redis.delete(LEASE)
        await _until_heard(scene, user)
        while not await _missed_without_route(scene, user):
            pass
        head = _head(scene, user)
        to_redis.recover(BLACK_HOLE)
        await until(lambda: _head(scene, user) != head or LEASE_LOST in owner.log.read_text(encoding="utf-8"), PATIENCE_S)
        await scene.append(user)
        await _until_heard(scene, user)
        await anyio.to_thread.run_sync(owner.stop)


def _head(scene: Scene, user: str) -> Any:  # noqa: ANN401 - a number, as the driver gives it
    with scene.stack.redis_client() as redis:
        return redis.hget(f"push:{{0}}:seq:user:{user}", "handed")


async def _standing_by(scene: Scene, to_store: Link, to_redis: Link) -> Service:
    """Return a second collect, ready, which reaches its servers through links and gives up on nothing."""
    name = f"{scene.user(0)}-standby"
    scene.stack.another("collect", name)
    mongo_url, redis_url = f"mongodb://{HOST}:{to_store.port}/?directConnection=true", f"redis://{HOST}:{to_redis.port}/0"
    scene.stack.set(name, mongo_url=mongo_url, redis_url=redis_url, mongo_timeout_s=2 * PATIENCE_S)
    standby = scene.stack[name]
    standby.launch()
    await anyio.to_thread.run_sync(standby.wait_ready)
    return standby


@asynccontextmanager
async def _frozen(process: Process) -> AsyncIterator[None]:
    try:
        await anyio.to_thread.run_sync(process.pause)
        yield
    finally:
        process.resume()


def _taken(scene: Scene) -> Any:  # noqa: ANN401 - an entry's id, as the driver gives it
    with scene.stack.redis_client() as redis:
        return redis.hget(ERA, "taken")


async def producer_says_it_again(scene: Scene) -> None:
    """A producer that does not know whether its message was taken appends it again, when others have come behind it."""
    user = scene.user(0)
    await scene.join(user)
    producer = scene.producer()
    for _ in range(3):
        await producer.append(scene.redis, [user])
        # Each in a batch of its own, or collect would see at once that they are one.
        await _until_heard(scene, user)
        await producer.repeat(scene.redis, 0)
    await scene.append(user)
    await _until_heard(scene, user)


SCENES: dict[str, Play] = {
    play.__name__: play
    for play in (
        owner_dies_with_a_batch_in_hand,
        appended_while_they_connect,
        route_is_gone_for_a_moment,
        owner_is_cut_off_and_its_write_comes_late,
        producer_says_it_again,
    )
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the product as it is."""
    with Stack(tmp_path_factory.mktemp("whole"), edges=1, settings=QUICK) as stack:
        yield stack


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_edits(breakage: Breakage, tmp_path: Path) -> None:
    """Every edit still finds its place; this fails at once, and not after a minute, when the code has moved."""
    assert (broken_copy(tmp_path / "product", breakage) / breakage.edits[0].file).exists()


@pytest.mark.parametrize("name", SCENES)
async def test_whole(stack: Stack, name: str) -> None:
    """With every guarantee kept nothing is found, whatever the scene."""
    async with Scene(stack, name) as scene:
        await SCENES[name](scene)
        verdict = await scene.verdict(PATIENCE_S)

    assert verdict.figures.accepted > 0
    assert verdict.findings == ()


@pytest.mark.parametrize(
    ("breakage", "play", "expected"),
    [
        (ACK_BEFORE_STORE, owner_dies_with_a_batch_in_hand, Kind.NEVER_ACCEPTED),
        (PENDING_FORGOTTEN, owner_dies_with_a_batch_in_hand, Kind.NEVER_ACCEPTED),
        (REPLAY_BEFORE_REGISTER, appended_while_they_connect, Kind.LOST),
        (PREV_IGNORED, route_is_gone_for_a_moment, Kind.GAP),
        (IDS_FORGOTTEN, producer_says_it_again, Kind.STORED_TWICE),
        (REPEATS_DELIVERED, producer_says_it_again, Kind.DUPLICATED),
        (FENCING_OFF, owner_is_cut_off_and_its_write_comes_late, Kind.LOST),
    ],
    ids=lambda value: value.name if isinstance(value, Breakage) else "",
)
async def test_broken(breakage: Breakage, play: Play, expected: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one guarantee broken the same scene is found wrong, for the right reason."""
    monkeypatch.setenv("PYTHONPATH", str(broken_copy(tmp_path / "product", breakage)))
    with Stack(tmp_path / "stack", edges=1, settings=QUICK) as stack:
        async with Scene(stack, "broken") as scene:
            await play(scene)
            verdict = await scene.verdict(RED_TIMEOUT_S)

    assert not verdict.green
    assert verdict.count(expected) > 0, verdict.counts
