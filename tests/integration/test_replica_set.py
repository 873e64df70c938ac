"""All that asks MongoDB, on a replica set whose members refuse, interrupt and are lost: nothing lost, nothing done twice."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import TypeVar

import anyio
import pytest
import structlog
from pymongo.errors import PyMongoError

from router.collect.eras import NONE_YET, Era, Eras
from router.cursors import CursorKey, Cursors
from router.migrate import migrate
from router.mongo_client import STORE_OUTAGE
from router.revocation import of_user
from router.revoked import Revoked
from router.subscriptions import Subscriptions
from tests.collecting import until
from tests.failures import OF_READS, OF_WRITES, Failure
from tests.integration.api_site import serving
from tests.integration.site import Site, open_site
from tests.replica_set import ReplicaSet
from tests.servers import EmbeddedValkey, Store
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.anyio

T = TypeVar("T")

TIMES = 2
"""How often in a row a command fails: the driver tries again once by itself, and then it is for us."""

PATIENCE_S = 30.0
RECOVERY_S = 2.0

AHEAD_MS = 600
"""For when messages are that are to wait: collect has to read the first of them before."""

MANY = ",".join(f"user:many-{number}" for number in range(20))

of_writes = pytest.mark.parametrize("failure", OF_WRITES.values(), ids=OF_WRITES)
of_reads = pytest.mark.parametrize("failure", OF_READS.values(), ids=OF_READS)


@pytest.fixture
def members(store_server: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplicaSet]:
    """Yield a set in front of the run's store. The driver looks more often than each half second who is left after a cut."""
    monkeypatch.setattr("pymongo.network_layer._POLL_TIMEOUT", 0.02)
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.05)
    with ReplicaSet(store_server.port) as members:
        yield members


@pytest.fixture
async def site(valkey_server: EmbeddedValkey, members: ReplicaSet) -> AsyncIterator[Site]:
    """Yield one shard on that set."""
    async with AsyncExitStack() as stack:
        yield await open_site(stack, valkey_server.url, members.url)


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Return what a call returns that is repeated as long as MongoDB is away."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                return await call()
            except STORE_OUTAGE:
                await anyio.sleep(0.01)


def outages(logs: list[structlog.typing.EventDict]) -> list[str]:
    """Return what was said of outages, each change once."""
    return [entry["event"] for entry in logs if entry["event"].startswith("outage_")]


async def _collect(site: Site, members: ReplicaSet, command: str, failure: Failure, *, ahead_ms: int = 0) -> None:
    """Append around a failing command, for now or for so much later, and return when all of it is through."""
    await site.append(to="user:a", text="0", id="m0")
    with structlog.testing.capture_logs() as logs, anyio.fail_after(PATIENCE_S):
        async with site.working():
            await site.settled(0)
            members.fail(command, failure, TIMES)
            fields = {"at": str(int(time.time() * 1000) + ahead_ms)} if ahead_ms else {}
            for number in range(1, 6):
                await site.append(to="user:a,user:b", text=str(number), id=f"m{number}", **fields)
                await site.append(to=MANY, text=str(number), id=f"many-{number}", **fields)
            await site.settled(0)
            await site.has_lines(1 + 5 * (2 + 1))
            # What is done is not asked for again, whatever was answered; and what is removed last may be still to come.
            await until(lambda: members.left < TIMES and not site.health.reasons)
    told = outages(logs)
    assert told == ["outage_began", "outage_ended"] * (len(told) // 2)
    for entry in logs:
        if entry["event"] == "outage_began":
            assert "{" not in entry["error"], entry


@of_writes
async def test_collect_stores(site: Site, members: ReplicaSet, failure: Failure) -> None:
    """Documents and bodies are stored once, in order, whatever an insert meets with; each outage is said once, in few words."""
    await _collect(site, members, "insert", failure)
    await site.is_kept()


@pytest.mark.parametrize("command", ["insert", "update", "delete"])
@of_writes
async def test_what_waits(site: Site, members: ReplicaSet, failure: Failure, command: str) -> None:
    """What is kept until its time is sent once and in order, wherever between keeping and removing a write fails."""
    await _collect(site, members, command, failure, ahead_ms=AHEAD_MS)
    await site.is_kept()


@of_reads
async def test_recovery(site: Site, members: ReplicaSet, failure: Failure) -> None:
    """A shard whose eras and newest messages cannot be read is not worked on until they can."""
    for number in range(5):
        await site.append(to="user:a", text=str(number), id=f"m{number}")
    members.fail("find", failure, TIMES)
    members.fail("aggregate", failure, TIMES)
    with anyio.fail_after(PATIENCE_S):
        async with site.working():
            await site.settled(0)
    await site.is_kept()


@of_writes
async def test_cursors(site: Site, members: ReplicaSet, failure: Failure) -> None:
    """Who begins begins once, and goes forward only."""
    cursors = Cursors(site.mongo, site.settings)
    key, other = CursorKey("ann", "phone", "user:ann"), CursorKey("ann", "desk", "user:ann")
    members.fail("update", failure, TIMES)
    assert await insist(lambda: cursors.begin({key: 10, other: 10})) == {key: 10, other: 10}
    members.fail("update", failure, TIMES)
    await insist(lambda: cursors.advance({key: 12}))
    await insist(lambda: cursors.advance({key: 11}))
    members.fail("find", failure, TIMES)
    assert await insist(lambda: cursors.find([key, other])) == {key: 12, other: 10}


@of_writes
async def test_subscriptions(site: Site, members: ReplicaSet, failure: Failure) -> None:
    """A topic stands once, and is gone when it was removed."""
    subscriptions = Subscriptions(site.mongo, site.settings)
    for topic in ("news", "sport", "news"):
        members.fail("update", failure, TIMES)
        await insist(lambda topic=topic: subscriptions.add("ann", topic))  # type: ignore[misc]
    assert await subscriptions.topics_of("ann") == ["news", "sport"]
    members.fail("update", failure, TIMES)
    members.fail("delete", failure, TIMES)
    await insist(lambda: subscriptions.remove("ann", "news"))
    assert await subscriptions.topics_of("ann") == ["sport"]


@of_writes
async def test_revocations_and_eras(site: Site, members: ReplicaSet, failure: Failure) -> None:
    """What is revoked is so, and an era is noted once."""
    revoked, eras = Revoked(site.mongo, site.settings), Eras(site.mongo, site.settings)
    one = of_user("ann", site.settings, time.time())
    members.fail("update", failure, TIMES)
    await insist(lambda: revoked.add(one))
    members.fail("find", failure, TIMES)
    assert await insist(lambda: revoked.find([one.id])) == [one]
    members.fail("update", failure, TIMES)
    await insist(lambda: eras.note(7, Era("redis", 3)))
    assert not await eras.note(7, Era("older", 2))
    assert await eras.last(7) == Era("redis", 3)
    assert await eras.last(8) == NONE_YET


@of_reads
async def test_reads(site: Site, members: ReplicaSet, failure: Failure) -> None:
    """Whoever reads is answered rightly or not at all."""
    for number in range(5):
        await site.append(to="user:a", text=str(number), id=f"m{number}")
    async with site.working():
        await site.settled(0)
    newest = (await site.inbox.newest(["user:a"]))["user:a"]
    reads: list[tuple[Callable[[], Awaitable[object]], object]] = [
        (lambda: site.inbox.newest(["user:a"]), {"user:a": newest}),
        (lambda: site.inbox.newest_above("user:a", 1), newest),
        (lambda: site.inbox.newest_of_few(["user:a", "user:b"]), {"user:a": newest}),
    ]
    for read, expected in reads:
        members.fail("find", failure, TIMES)
        members.fail("aggregate", failure, TIMES)
        assert await insist(read) == expected
    members.fail("find", failure, TIMES)
    page = await insist(lambda: site.inbox.page("user:a", 0, newest, 9, 9_999, head=newest))
    assert (len(page.messages), page.whole) == (5, True)


@of_reads
async def test_api(site: Site, members: ReplicaSet, failure: Failure) -> None:
    """The API answers rightly, or says that it cannot; never that what is stored is not."""
    await site.append(to="user:a", text="0", id="m0")
    async with site.working():
        await site.settled(0)
    async with serving(site) as api:
        for path in ("/v1/messages/m0", "/v1/users/a/messages", "/v1/users/a"):
            members.fail("find", failure, 2 * TIMES)
            answers = [await api.client.get(path)]
            while members.left or answers[-1].status_code != 200:
                answers.append(await api.client.get(path))
            assert {answer.status_code for answer in answers} <= {200, 503}
            assert "m0" in answers[-1].text or path == "/v1/users/a"


@of_writes
async def test_migrate(site: Site, members: ReplicaSet, failure: Failure) -> None:
    """It goes through, or says that it has not; and may be run again."""
    settings = site.settings.model_copy(update={"mongo_database": f"{site.settings.mongo_database}-2"})
    members.fail("createIndexes", failure, TIMES)
    with anyio.fail_after(PATIENCE_S):
        while members.left:
            try:
                await migrate(settings)
            except PyMongoError:
                await anyio.sleep(0.01)
    await migrate(settings)
    index = (await site.mongo[settings.mongo_database].inbox.index_information())["target_seq"]
    assert index["unique"]


async def _next_line(site: Site) -> None:
    """Return when collect has handed on more than it has now."""
    out = site.keys(0).out()
    before = (await site.redis.xinfo_stream(out))["last-generated-id"]
    while (await site.redis.xinfo_stream(out))["last-generated-id"] == before:  # noqa: ASYNC110 - Redis'
        await anyio.sleep(0.005)


@pytest.mark.parametrize("how", ["calmly", "hard"])
async def test_failover(site: Site, members: ReplicaSet, how: str) -> None:
    """The other member becomes primary under traffic: it goes on by itself in two seconds, and nothing is lost or doubled."""
    fail_over = members.step_down if how == "calmly" else members.crash
    with structlog.testing.capture_logs() as logs, anyio.fail_after(PATIENCE_S):
        async with site.working(), anyio.create_task_group() as tasks:
            over = anyio.Event()

            async def produce() -> None:
                number = 0
                while not over.is_set():
                    await site.append(to="user:a,user:b", text=str(number), id=f"m{number}")
                    number += 1
                    await anyio.sleep(0.005)

            tasks.start_soon(produce)
            await site.has_lines(10)
            for _ in range(3):
                await anyio.to_thread.run_sync(fail_over, 0.7)
                watch = Stopwatch()
                await _next_line(site)
                assert watch.own_s() < RECOVERY_S
            over.set()
        async with site.working():
            await site.settled(0)
    assert set(outages(logs)) <= {"outage_began", "outage_ended"}
    await site.is_kept()
