"""The checker sees red: with a guarantee broken a short run of faults is found wrong, and with all of them kept it is not.

Each scene is played on the product as it is first, or its red would prove nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
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
from tests.chaos.proxy import HOST, Link, Trouble
from tests.chaos.scene import Scene, until
from tests.stack import Stack

pytestmark = pytest.mark.anyio

LEASE_MS = 1_000
# Routes live long, or a renewal would now and then mend what a scene breaks; so do leases but for the one that is to lapse.
QUICK = {"lease_ms": LEASE_MS, "route_ttl_ms": 60_000, "mongo_timeout_s": 2.0, "redis_timeout_s": 2.0, "drain_timeout_s": 0.1}

GREEN_TIMEOUT_S = 20.0
"""How long the product may take until all is well; it never does."""
RED_TIMEOUT_S = 2.0
"""How long a broken one is given to mend it."""

IN, OFFLINE, LEASE, ASIDE = "push:{0}:in", "push:{0}:offline", "push:{0}:lease:collect", "push:{0}:aside"
PATIENCE_S = 10.0

FAR = Trouble(delay_ms=250)

Play = Callable[[Scene], Awaitable[None]]


async def owner_dies_with_a_batch_in_hand(scene: Scene) -> None:
    """MongoDB is away, so that collect has taken what is appended and cannot store it; then collect is killed."""
    user, stack = scene.user(0), scene.stack
    await scene.join(user)
    await scene.append(user)
    assert await scene.all_well(GREEN_TIMEOUT_S)
    stack.store.kill()
    taken = _taken(scene)
    await scene.append(user, user, user)
    await until(lambda: _taken(scene) != taken, PATIENCE_S)
    await anyio.sleep(0.2)  # for whatever it does next, before it waits
    stack["collect"].kill()
    for process in (stack.store, stack["collect"]):
        process.launch()
        await anyio.to_thread.run_sync(process.wait_ready)


def _taken(scene: Scene) -> Any:  # noqa: ANN401 - an entry's id, as the driver gives it
    with scene.stack.redis_client() as redis:
        return redis.xinfo_groups(IN)[0]["last-delivered-id"]


async def appended_while_they_connect(scene: Scene) -> None:
    """Messages come just as a session begins, and none after them that would show that they are missing."""
    for number in range(3):
        await scene.join(scene.user(number), kinds=("raw",))
        await scene.append(scene.user(number), scene.user(number))


async def route_is_gone_for_a_moment(scene: Scene) -> None:
    """A route vanishes and comes back, as when a replica that lags becomes primary: one message reaches nobody."""
    users = [scene.user(number) for number in range(3)]
    await scene.join(*users)
    await scene.append(*users)
    for user in users:
        route = f"push:{{0}}:route:{user}"
        missed = await scene.redis.xlen(OFFLINE)
        await scene.redis.rename(route, ASIDE)
        await scene.append(user)
        await _until_longer(scene, OFFLINE, missed)
        await scene.redis.rename(ASIDE, route)
        await scene.append(user)


async def _until_longer(scene: Scene, stream: str, length: int) -> None:
    with scene.stack.redis_client() as redis:
        await until(lambda: redis.xlen(stream) > length, PATIENCE_S)


async def owner_is_frozen_and_wakes(scene: Scene) -> None:
    """An owner is frozen until another has its lease, and wakes while that one, far from MongoDB, has a batch in hand."""
    user = scene.user(0)
    await scene.join(user)
    await scene.append(user)
    assert await scene.all_well(GREEN_TIMEOUT_S)
    async with Link("standby>store", scene.stack.store.port) as link:
        standby = f"{user}-standby"
        scene.stack.another("collect", standby)
        scene.stack.set(standby, mongo_url=f"mongodb://{HOST}:{link.port}/?directConnection=true")
        scene.stack[standby].launch()
        await anyio.to_thread.run_sync(scene.stack[standby].wait_ready)
        await _freeze_owner(scene)
        link.suffer(FAR)
        taken = _taken(scene)
        await scene.append(user)
        await until(lambda: _taken(scene) != taken, PATIENCE_S)
        scene.stack["collect"].resume()
        await scene.append(user, user)
        await scene.all_well(RED_TIMEOUT_S)
        scene.stack[standby].stop()


async def _freeze_owner(scene: Scene) -> None:
    """Freeze collect, and return when its standby has taken the lease."""
    holder = await scene.redis.get(LEASE)
    scene.stack["collect"].pause()
    with scene.stack.redis_client() as redis:
        await until(lambda: redis.get(LEASE) not in {None, holder}, PATIENCE_S)


async def producer_says_it_again(scene: Scene) -> None:
    """A producer that does not know whether its message was taken appends it again, when others have come behind it."""
    user = scene.user(0)
    await scene.join(user)
    producer = scene.producer()
    for _ in range(3):
        await producer.append(scene.redis, [user])
        await producer.repeat(scene.redis, 0)


SCENES: dict[str, Play] = {
    play.__name__: play
    for play in (
        owner_dies_with_a_batch_in_hand,
        appended_while_they_connect,
        route_is_gone_for_a_moment,
        owner_is_frozen_and_wakes,
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
        verdict = await scene.verdict(GREEN_TIMEOUT_S)

    assert verdict.figures.accepted > 0
    assert verdict.findings == ()


@pytest.mark.parametrize(
    ("breakage", "play", "expected"),
    [
        (ACK_BEFORE_STORE, owner_dies_with_a_batch_in_hand, Kind.NEVER_ACCEPTED),
        (PENDING_FORGOTTEN, owner_dies_with_a_batch_in_hand, Kind.NEVER_ACCEPTED),
        (REPLAY_BEFORE_REGISTER, appended_while_they_connect, Kind.LOST),
        (PREV_IGNORED, route_is_gone_for_a_moment, Kind.GAP),
        (FENCING_OFF, owner_is_frozen_and_wakes, Kind.LOST),
        (IDS_FORGOTTEN, producer_says_it_again, Kind.STORED_TWICE),
        (REPEATS_DELIVERED, producer_says_it_again, Kind.DUPLICATED),
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
