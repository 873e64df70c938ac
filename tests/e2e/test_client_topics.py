"""The Python client's topics on the real system: each message once, of every target, though an edge is killed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from edge.client import Client, FileCursors, Message, Parted, Pauses, Refused, Status, Subscribed, TokenSource, Unsubscribed
from router.timed_redis import TimedRedis
from tests.e2e.audience import PATIENCE_S
from tests.stack import Stack

pytestmark = pytest.mark.anyio

QUICK: Final = Pauses(min_s=0.01, max_s=0.1)
MESSAGES: Final = 600
"""To all targets together; an edge is killed when a third has been sent."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with two edges."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


async def granting(stack: Stack, user: str, *topics: str) -> TokenSource:
    """Return a source of one token."""
    token = await anyio.to_thread.run_sync(lambda: stack.token(user, topics=list(topics)))

    async def give() -> str:
        return token

    return give


class Heard:
    """What an application got, and was told."""

    def __init__(self) -> None:
        self.told: list[Status] = []
        self.numbers: defaultdict[str, list[int]] = defaultdict(list)
        self.news = anyio.Event()

    def tell(self, status: Status) -> None:
        """Take a status."""
        self.told.append(status)
        self._ring()

    async def listen(self, client: Client) -> None:
        """Take messages, for ever."""
        async for message in client:
            self.take(message)

    def take(self, message: Message) -> None:
        """Take a message."""
        self.numbers[message.to].append(message.body)
        self._ring()

    def _ring(self) -> None:
        news, self.news = self.news, anyio.Event()
        news.set()

    async def until(self, *statuses: type[Status], messages: int = 0) -> None:
        """Return when so many messages, and statuses of these kinds, have come."""
        with anyio.fail_after(PATIENCE_S):
            while sum(map(len, self.numbers.values())) < messages or not {*map(type, self.told)}.issuperset(statuses):
                await self.news.wait()


async def send(stack: Stack, target: str, *numbers: int) -> None:
    """Append messages."""
    async with TimedRedis.from_url(stack.settings.redis_url, protocol=2) as redis:
        for number in numbers:
            await redis.xadd("push:{0}:in", {"to": target, "body": json.dumps(number)})


@pytest.mark.parametrize("device", [True, False], ids=["device", "file"])
async def test_each_message_once_though_the_edge_is_killed(stack: Stack, tmp_path: Path, device: bool) -> None:
    """Of two topics, of `all` and of the user, in the order of each, while they come."""
    user = f"ann-{device}"
    topics = [f"news-{device}", f"sport-{device}"]
    targets = [f"user:{user}", "all", *(f"topic:{topic}" for topic in topics)]
    keeping: dict[str, Any] = {"device": "phone"} if device else {"cursors": FileCursors(tmp_path / "c")}
    heard = Heard()
    async with (
        Client(
            stack.edge_urls, await granting(stack, user, "*"), topics=topics, on_status=heard.tell, pauses=QUICK, **keeping
        ) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(heard.listen, client)
        await heard.until(Subscribed)
        with anyio.fail_after(PATIENCE_S):
            while sum(isinstance(status, Subscribed) for status in heard.told) < len(topics):
                await heard.news.wait()
        for number in range(MESSAGES):
            await send(stack, targets[number % len(targets)], number)
            if number == MESSAGES // 3:
                await anyio.to_thread.run_sync(stack["edge-1"].kill)
        await heard.until(Parted, messages=MESSAGES)
        assert heard.numbers == {target: list(range(begin, MESSAGES, len(targets))) for begin, target in enumerate(targets)}
        tasks.cancel_scope.cancel()
    stack["edge-1"].start()


async def test_topics_come_and_go(stack: Stack) -> None:
    """A topic that was given up and is taken again begins now; of one that the token does not grant the application is told."""
    heard = Heard()
    async with (
        Client(stack.edge_urls, await granting(stack, "bob", "news"), on_status=heard.tell) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(heard.listen, client)
        await client.subscribe("news")
        await heard.until(Subscribed)
        await send(stack, "topic:news", 1)
        await heard.until(messages=1)
        await client.unsubscribe("news")
        await heard.until(Unsubscribed)
        await send(stack, "topic:news", 2)
        await send(stack, "user:bob", 3)
        await heard.until(messages=2)
        heard.told.clear()
        await client.subscribe("secret")
        await client.subscribe("news")
        await heard.until(Refused, Subscribed)
        await send(stack, "topic:news", 4)
        await heard.until(messages=3)
        tasks.cancel_scope.cancel()
    assert heard.numbers == {"topic:news": [1, 4], "user:bob": [3]}
