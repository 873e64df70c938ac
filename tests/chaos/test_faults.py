"""Faults do what they say to the real system, and undo it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import psutil
import pytest
from redis import Redis

from tests.chaos.faults import BadLink, Kill, Pause, Restart, SlowDisk, disks_can_be_slowed
from tests.chaos.proxy import BLACK_HOLE, CUT
from tests.chaos.stand import Stand, standing

pytestmark = pytest.mark.anyio

PATIENCE_S = 30.0
FLUSH_MS = 400.0


@pytest.fixture(scope="module")
async def stand(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    """Yield the whole system."""
    async with standing(Stand(tmp_path_factory.mktemp("stand"))) as stand:
        yield stand


@pytest.mark.parametrize("name", ["edge-1", "collect-2", "dispatch", "auth"])
async def test_kill(stand: Stand, name: str) -> None:
    """A killed process ends by SIGKILL, stays away for as long as is asked, and is ready again afterwards."""
    before = stand.processes[name].pid
    async with Kill(name, 0).strike(stand):
        assert stand.processes[name].wait() == -signal.SIGKILL
        await anyio.sleep(0.3)
        assert stand.processes[name].ended
    assert stand.processes[name].pid != before
    assert await stand.ready(name)
    assert stand.deaths == []


async def test_restart(stand: Stand) -> None:
    """A calm restart ends it with exit code 0, and Redis keeps what it had."""
    with Redis.from_url(stand.stack.settings.redis_url, protocol=2) as redis:
        redis.set("kept", "1")
    async with Restart("redis", 0).strike(stand):
        assert stand.processes["redis"].wait() == 0
    with Redis.from_url(stand.stack.settings.redis_url, protocol=2) as redis:
        assert redis.get("kept") == b"1"
    assert stand.deaths == []


async def test_pause(stand: Stand) -> None:
    """A frozen process is there and does nothing, and goes on as the same one."""
    before = stand.processes["store"].pid
    async with Pause("store", 0).strike(stand):
        assert psutil.Process(before).status() == psutil.STATUS_STOPPED
    assert stand.processes["store"].pid == before
    assert await stand.ready("store")


async def test_bad_links(stand: Stand) -> None:
    """A pattern troubles all the links that it means, and no other; afterwards none is troubled."""
    async with BadLink("edge-1>*", 0, CUT).strike(stand), BadLink("*>store", 0, BLACK_HOLE).strike(stand):
        assert {name for name, link in stand.links.items() if link.trouble.cut} == {
            "edge-1>redis",
            "edge-1>store",
            "edge-1>auth",
        }
        assert {name.partition(">")[2] for name, link in stand.links.items() if link.trouble.stalled} == {"store"}
    assert not any(link.trouble.cut or link.trouble.stalled for link in stand.links.values())


async def test_slow_disk(stand: Stand, tmp_path: Path) -> None:
    """With appendfsync always, a write waits for the slow flush; afterwards it does not."""
    if not await anyio.to_thread.run_sync(disks_can_be_slowed, tmp_path):
        pytest.skip("strace is not installed or may not attach")
    with Redis.from_url(stand.stack.settings.redis_url, protocol=2) as redis:
        async with SlowDisk("redis", 0, flush_ms=FLUSH_MS).strike(stand):
            with anyio.fail_after(PATIENCE_S):
                # strace takes its time between attaching and holding up the first call.
                while await _write_s(redis) < FLUSH_MS / 1000:
                    pass
        with anyio.fail_after(PATIENCE_S):
            while await _write_s(redis) >= FLUSH_MS / 1000:
                pass  # a disk that others keep busy is slow by itself now and then


async def _write_s(redis: Redis) -> float:
    began_s = anyio.current_time()
    await anyio.to_thread.run_sync(redis.set, "slow", "1")
    return anyio.current_time() - began_s
