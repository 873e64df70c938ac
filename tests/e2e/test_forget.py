"""Ending a user's sessions and erasing a person, over HTTP and by the command, with all of Pushway running."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

import anyio
import httpx
import pytest

from tests.e2e.clients import Client, client
from tests.e2e.command_line import run
from tests.servers import wait_until
from tests.stack import API_KEY, Stack
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.anyio

PATIENCE_S: Final = 30.0
KICK_S: Final = 1.0
"""How soon a kicked session is to be closed."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with two edges."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=2) as running:
        yield running


def _session(stack: Stack, user: str, edge: int, device: str) -> AbstractAsyncContextManager[Client]:
    return client(stack, user, edge, f"?device={device}")


async def _api(stack: Stack, method: str, path: str) -> httpx.Response:
    base = f"http://{stack.settings.api_host}:{stack.settings.api_port}"
    headers = {"authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=PATIENCE_S) as http:
        return await http.request(method, path)


def _send(stack: Stack, to: str, **fields: str) -> None:
    entry: dict[Any, Any] = {"to": to, **({"text": "hi"} if "body" not in fields else {}), **fields}
    with stack.redis_client() as redis:
        redis.xadd("push:{0}:in", entry)


def _mentions(stack: Stack, user: str) -> list[str]:
    """Return every key and document of the servers in which a name stands."""
    found: list[str] = []
    with stack.redis_client() as connection, stack.mongo_client() as mongo:
        redis: Any = connection
        for key in redis.scan_iter():
            read = {"hash": redis.hgetall, "string": redis.get, "stream": redis.xrange, "zset": redis.zscan}
            kind = redis.type(key).decode()
            if kind != "none":  # gone since it was found
                found.append(f"{key!r} {read[kind](key)!r}")
        # The replication log forgets by itself, as docs/operations.md says.
        for database in set(mongo.list_database_names()) - {"local"}:
            for name in mongo[database].list_collection_names():
                found += [f"{database}.{name} {document}" for document in mongo[database][name].find({})]
    return [text for text in found if user in text]


async def test_kicked_sessions_end_on_every_edge(stack: Stack) -> None:
    """With 4502 and a reason, at once, and nobody else's; the routes go with them."""
    async with AsyncExitStack() as open_sessions:
        first, second, third, other = [
            await open_sessions.enter_async_context(_session(stack, *words))
            for words in (("ann", 0, "phone"), ("ann", 1, "tablet"), ("ann", 1, "desk"), ("annette", 1, "phone"))
        ]
        state = (await _api(stack, "GET", "/v1/users/ann")).json()
        assert (state["online"], len(state["routes"])) == (True, 2)
        watch = Stopwatch()
        answer = await _api(stack, "DELETE", "/v1/users/ann/sessions")
        closes = [await connection.closed() for connection in (first, second, third)]
        took_s = watch.own_s()
        assert (answer.status_code, sorted(answer.json()["nodes"])) == (202, sorted(one["node"] for one in state["routes"]))
        assert closes == [(4502, "kicked: the sessions were ended by the service")] * 3
        assert took_s < KICK_S
        _send(stack, "user:annette")
        assert (await other.until("message"))["to"] == "user:annette"
        await anyio.to_thread.run_sync(wait_until, lambda: not _routes(stack, "ann"), "the routes are gone")


def _routes(stack: Stack, user: str) -> int:
    with stack.redis_client() as redis:
        return int(redis.exists(f"push:{{0}}:route:{user}"))


async def test_nothing_is_left_of_a_person_who_is_online(stack: Stack) -> None:
    """Devices on two edges that have acknowledged, messages live, traced, shared, dead and unread: no key and no document."""
    user = "bert-who-goes"
    async with _session(stack, user, 0, "phone") as phone, _session(stack, user, 1, "tablet") as tablet:
        for n in range(40):
            _send(stack, f"user:{user}" if n % 2 else f"user:{user},user:carl", trace="1" if n % 5 == 0 else "0")
        _send(stack, f"user:{user}", body="no json")
        _send(stack, f"user:{user},user:carl", body="no json")
        _send(stack, f"user:{user}", transient="1")
        for connection in (phone, tablet):
            seqs = [message["seq"] for message in [await connection.until("message") for _ in range(40)] if "seq" in message]
            await connection.say(type="ack", seq=max(seqs))
        _send(stack, f"user:{user},user:carl")
        assert len(_mentions(stack, user)) > 40
        answer = await _api(stack, "DELETE", f"/v1/users/{user}")
        assert answer.status_code == 200, answer.text
        closes = [await connection.closed() for connection in (phone, tablet)]
        assert closes == [(4502, "kicked: the person has been erased")] * 2
    found = answer.json()
    assert (found["complete"], len(found["nodes"]), found["messages"], found["replaced"]["dead"]) == (True, 2, 41, 1)
    assert found["cursors"] >= 2
    assert _mentions(stack, user) == []
    messages = (await _api(stack, "GET", "/v1/users/carl/messages")).json()["messages"]
    assert len(messages) == 21


async def test_same_name_afterwards(stack: Stack) -> None:
    """Somebody new: gets what is sent from then on, with a seq above those of before, and ids count anew."""
    seqs = []
    for _ in range(2):
        async with _session(stack, "dora", 0, "phone") as connection:
            _send(stack, "user:dora", id="once")
            seqs.append((await connection.until("message"))["seq"])
        assert (await _api(stack, "DELETE", "/v1/users/dora")).json()["messages"] == 1
    assert seqs[1] > seqs[0]


def test_command_works_without_the_services(stack: Stack) -> None:
    """It asks first, speaks to the servers alone, tells what is left, and finishes when it is run again."""
    user = "emil-who-goes"
    _send(stack, f"user:{user}")
    wait_until(lambda: any("inbox" in text for text in _mentions(stack, user)), "the message is stored")
    for name in ("collect", "dispatch"):
        stack[name].stop()
    try:
        _send(stack, f"user:{user}")
        before = _mentions(stack, user)
        refused = run(stack, "forget", user, answer="n\n")
        assert (refused.returncode, refused.stdout.strip()) == (1, "")
        assert f"Erase {user}" in refused.stderr
        assert _mentions(stack, user) == before
        done = run(stack, "forget", user, "--yes", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["complete"], found["messages"], found["entries"]["in"]) == (True, 1, 1)
        assert _mentions(stack, user) == []
        _send(stack, f"user:{user},user:fred")
        left = run(stack, "forget", user, "--yes", "--wait", "0")
        assert left.returncode == 1
        assert "collect has to take them first. Run it again." in left.stderr
        assert "REMOVED" in left.stdout
    finally:
        for name in ("collect", "dispatch"):
            stack[name].start()
    done = run(stack, "forget", user, answer="y\n")
    assert done.returncode == 0, done.stderr
    assert "messages in MongoDB" in done.stdout
    assert _mentions(stack, user) == []
