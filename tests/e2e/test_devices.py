"""Devices that remember nothing themselves: what they have missed comes to them, and once only, wherever they come back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis import Redis

from tests.e2e.clients import Client, client_of, until
from tests.stack import Stack

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    with Stack(tmp_path_factory.mktemp("stack"), settings={"cursor_flush_s": 0.2}) as stack:
        yield stack


class Device(Client):
    """A device, which counts what comes."""

    @property
    def numbers(self) -> list[int]:
        """What the messages say."""
        return [message["body"] for message in self.messages]

    async def takes(self, count: int) -> None:
        """Return when there are so many messages."""
        while len(self.messages) < count:
            await self.until("message")

    async def ack(self, number: int) -> int:
        """Acknowledge everything up to this message, and return its seq."""
        seq: int = self.messages[number]["seq"]
        await self.say(type="ack", seq=seq)
        return seq


@asynccontextmanager
async def device(stack: Stack, user: str, edge: int, name: str = "phone") -> AsyncIterator[Device]:
    """Yield a device that is connected to edge 0 or 1, and says nothing of what it has."""
    async with client_of(Device, stack, user, edge, f"?device={name}") as made:
        yield made
        made.connection.transport.abort()


def send(redis: Redis, user: str, numbers: range) -> None:
    """Append numbered messages."""
    for number in numbers:
        redis.xadd("push:{0}:in", {"to": f"user:{user}", "body": str(number), "id": f"{user}-{number}"})


def stored(stack: Stack, user: str) -> int | None:
    """Return where the phone's cursor stands."""
    with stack.mongo_client() as mongo:
        found = mongo[stack.settings.mongo_database].cursors.find_one({"_id": f"{user} phone user:{user}"})
        return None if found is None else int(found["seq"])


async def test_a_device_comes_back_through_another_edge(stack: Stack) -> None:
    """Its edge was killed: it gets exactly what it had not acknowledged, in order, and then what comes live."""
    with stack.redis_client() as redis:
        async with device(stack, "ann", 0) as phone:
            await phone.until("caught_up")
            send(redis, "ann", range(10))
            await phone.takes(10)
            seq = await phone.ack(5)
            await until(lambda: stored(stack, "ann") == seq)
            stack["edge-1"].kill()
            send(redis, "ann", range(10, 20))
        async with device(stack, "ann", 1) as phone:
            await phone.until("caught_up")
            # The last may still be on its way to MongoDB when the device comes, and is live then.
            await phone.takes(14)
            send(redis, "ann", range(20, 22))
            await phone.takes(16)
            assert phone.numbers == list(range(6, 22))
    stack["edge-1"].start()


async def test_a_new_device_is_owed_everything_from_its_welcome_on(stack: Stack) -> None:
    """Though its edge is killed the next moment, before anybody could note anything else; what came before is not for it."""
    with stack.redis_client() as redis:
        async with device(stack, "bob", 1, "tablet") as tablet:
            await tablet.until("caught_up")
            send(redis, "bob", range(3))
            await tablet.takes(3)
        async with device(stack, "bob", 0):
            stack["edge-1"].kill()
        send(redis, "bob", range(3, 8))
        async with device(stack, "bob", 1) as phone:
            await phone.takes(5)
            assert phone.numbers == list(range(3, 8))
    stack["edge-1"].start()


async def test_one_session_a_device_on_all_edges(stack: Stack) -> None:
    """The newer one stays, whichever edge it is on, and gets the messages; another device is left alone."""
    with stack.redis_client() as redis:
        async with device(stack, "cid", 0, "tablet") as tablet:
            await tablet.until("caught_up")
            for older_edge, newer_edge in ((0, 1), (1, 0)):
                async with device(stack, "cid", older_edge) as older, device(stack, "cid", newer_edge) as newer:
                    assert (await older.closed())[0] == 4502
                    await newer.until("caught_up")
                    send(redis, "cid", range(newer_edge, newer_edge + 1))
                    await newer.takes(1)
            await tablet.takes(2)
            assert tablet.numbers == [1, 0]
