"""The logs of real processes: what they say of an outage, how little that is, and what never stands in them."""

from __future__ import annotations

import json
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from edge.client import SUBPROTOCOL
from tests.e2e.audience import Audience, Producer
from tests.servers import Process, Server, wait_until
from tests.stack import API_KEY, Stack

OUTAGE_S: Final = 10.0
COMERS: Final = 200
"""Sessions that connect again and again, each with a device of its own."""

STAY_S: Final = 0.7

REPEATS_MAX: Final = 10
LINES_MAX: Final = 80
"""Most lines of one process in an outage: there are a dozen kinds, most of them told once or twice."""

SETTINGS: Final[dict[str, Any]] = {
    "log_format": "json",
    "log_repeats_max": REPEATS_MAX,
    "log_repeats_s": 4.0,
    "backoff_max_ms": 500,
}
SERVICES: Final = ("auth", "dispatch", "collect", "edge-1", "edge-2")

CANARY: Final = "canary"
REDIS_USER: Final = ("--user", CANARY, "on", f">{CANARY}-redis", "~*", "&*", "+@all")

HOSTILE: Final = (
    "{",
    '"canary-frame"',
    '{"type":"ack","seq":"canary-seq"}',
    '{"type":"canary-type"}',
    '{"type":"token","token":"canary"}',
)


class Log:
    """What a process writes from now on."""

    def __init__(self, process: Process) -> None:
        self._path = process.log
        self._from = self._path.stat().st_size

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines so far, each of which is a JSON object."""
        text = self._path.read_bytes()[self._from :].decode()
        return [json.loads(line) for line in text.splitlines()]

    def counts(self) -> Counter[str]:
        """Return how often each event stands there; those of a server with its name."""
        return Counter(" ".join(filter(None, (line["event"], line.get("server", "")))) for line in self.lines())

    def suppressed(self, event: str) -> int:
        """Return how many lines of an event were left out, as far as it is told."""
        return sum(line["count"] for line in self.lines() if line["event"] == "lines_suppressed" and line["of"] == event)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a system whose Redis has a user with a password, which the services use."""
    stack = Stack(tmp_path_factory.mktemp("stack"), redis_options=REDIS_USER, settings=SETTINGS)
    for name in SERVICES:
        stack.set(name, redis_url=stack.redis.url.replace("//", f"//{CANARY}:{CANARY}-redis@"))
    with stack:
        yield stack


async def _come_and_go(stack: Stack, number: int) -> None:
    """Connect to either edge again and again, stay a moment, and acknowledge what comes, until cancelled."""
    token = await anyio.to_thread.run_sync(stack.token, f"comer-{number}")
    while True:
        url = f"{random.choice(stack.edge_urls)}?device=d{number}"  # noqa: S311 - which edge is no secret
        with suppress(OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
            async with connect(url, **_options(token)) as connection:
                with anyio.move_on_after(STAY_S):
                    await _stay(connection)
        await anyio.sleep(STAY_S / 4)  # a pause between two connections, as clients make one


async def _stay(connection: ClientConnection) -> None:
    try:
        async for frame in connection:
            message = json.loads(frame)
            if message["type"] == "message":
                await connection.send(json.dumps({"type": "ack", "seq": message["seq"]}))
    finally:
        # A closing handshake cannot be waited for while the test is being torn down.
        connection.transport.abort()


def _options(token: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    return {
        "subprotocols": [SUBPROTOCOL],
        "additional_headers": headers,
        "compression": None,
        "proxy": None,
        "close_timeout": 0.1,
    }


@pytest.mark.anyio
@pytest.mark.parametrize(("server", "workers"), [("redis", ["collect", "dispatch"]), ("mongo", ["collect"])])
async def test_an_outage_is_told_and_floods_nothing(stack: Stack, server: str, workers: list[str]) -> None:
    """Ten seconds without a server, under traffic and with hundreds coming back: begin and end are told, in few lines."""
    async with Audience(stack) as audience, anyio.create_task_group() as comers:
        for number in range(COMERS):
            comers.start_soon(_come_and_go, stack, number)
        seats = [await audience.join(f"{server}-{n}", n % 2, again=True) for n in range(10)]
        producer, stop = Producer(stack, tuple(seat.user for seat in seats)), anyio.Event()
        async with anyio.create_task_group() as traffic:
            traffic.start_soon(lambda: producer.send_until(stop, pause_s=0.01))
            await audience.until(lambda: all(len(seat.messages) > 1 for seat in seats))
            logs = {name: Log(stack[name]) for name in SERVICES}
            await _be_away(stack.redis if server == "redis" else stack.store, OUTAGE_S)
            heard = {seat: len(seat.messages) for seat in seats}
            await audience.until(lambda: all(len(seat.messages) > heard[seat] for seat in seats))
            for name, log in logs.items():
                await _until(partial(_is_over, log, server), f"{name} tells the end of what it has told the begin of")
            stop.set()
        comers.cancel_scope.cancel()
    _show(server, logs)
    assert all(logs[name].counts()[f"outage_began {server}"] for name in workers)
    if server == "redis":
        lost_and_found = [
            (logs[edge].counts()["subscription_lost"], logs[edge].counts()["subscribed"]) for edge in SERVICES[3:]
        ]
        assert all(lost and found for lost, found in lost_and_found)


async def _be_away(server: Server, away_s: float) -> None:
    server.kill()
    await anyio.sleep(away_s)  # the outage itself: what is counted is what is logged in so long a time
    await _back(server)


async def _back(server: Server) -> None:
    server.launch()
    await anyio.to_thread.run_sync(server.wait_ready)


async def _until(condition: Callable[[], bool], what: str) -> None:
    await anyio.to_thread.run_sync(wait_until, condition, what)


def _show(what: str, logs: dict[str, Log], lines_max: float = LINES_MAX) -> None:
    """Show what each process has written (with pytest -s), and see to it that it is little."""
    for name, log in logs.items():
        counts = log.counts()
        print(f"{what:6} {name:9} {counts.total():3} lines: {dict(counts)}")  # noqa: T201 - figures for people
        assert counts.total() <= lines_max, (name, counts)


def _is_over(log: Log, server: str) -> bool:
    counts = log.counts()
    ended = counts[f"outage_ended {server}"] + counts[f"outage_left {server}"]
    return counts[f"outage_began {server}"] == ended


def _flood_tokens(stack: Stack, tokens: int) -> None:
    with httpx.Client(trust_env=False, headers={"authorization": f"Bearer {API_KEY}"}) as http:
        for number in range(tokens):
            http.post(f"{stack.settings.auth_url}/v1/verify", data={"token": f"canary-token-{number}"})


def _flood_garbage(port: int, connections: int) -> None:
    for number in range(connections):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as plug:
            plug.sendall(f"canary-garbage {number}\r\n\r\n".encode())
            plug.recv(1_000)


async def _flood_edge(stack: Stack, connections: int) -> None:
    token = await anyio.to_thread.run_sync(stack.token, "hostile")
    for number in range(connections):
        shown = token if number % 2 else f"canary-token-{number}"
        with suppress(OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
            async with connect(stack.edge_urls[0], **_options(shown)) as connection:
                await connection.send(HOSTILE[number % len(HOSTILE)])
                await connection.recv()


def _flood_streams(stack: Stack, entries: int) -> None:
    with stack.redis_client() as redis, redis.pipeline(transaction=False) as pipe:
        for number in range(entries):
            pipe.xadd("push:{0}:in", {"to": "user:al ice", "body": f"canary-broken {number}"})
            pipe.xadd("push:{0}:in", {"to": "user:alice", "body": json.dumps({"canary": number})})
            pipe.xadd("push:{0}:fast", {"to": "user:alice", "body": f"canary\n{number}"})
            pipe.xadd("push:{0}:out", {"canary": f"{number}"})
        pipe.execute()


@pytest.mark.anyio
async def test_a_flood_from_outside_writes_little(stack: Stack) -> None:
    """Bad tokens at debug, hostile frames, what is no HTTP, and broken entries: a few lines a kind, and how many more."""
    logs = {name: Log(stack[name]) for name in SERVICES}
    _send(stack, "auth", signal.SIGUSR1)
    began_s = time.monotonic()
    await anyio.to_thread.run_sync(_flood_tokens, stack, 300)
    await anyio.to_thread.run_sync(_flood_garbage, stack.settings.api_port, 200)
    await _flood_edge(stack, 300)
    await anyio.to_thread.run_sync(_flood_streams, stack, 200)
    await _until(partial(_adds_up, logs["auth"], "token_refused", 300), "all bad tokens are told or counted")
    await _until(partial(_have_died, stack, 200), "all broken entries are dead letters")
    _send(stack, "auth", signal.SIGUSR2)
    most = REPEATS_MAX * ((time.monotonic() - began_s) / SETTINGS["log_repeats_s"] + 1)
    _show("flood", logs, max(LINES_MAX, 3 * most))  # the longer it takes, the more may be told
    assert all(count <= most for log in logs.values() for count in log.counts().values())


def _have_died(stack: Stack, expected: int) -> bool:
    return stack["dispatch"].metric('pushway_dead_total{source="out"}') == expected


def _adds_up(log: Log, event: str, expected: int) -> bool:
    return log.counts()[event] + log.suppressed(event) == expected


def _send(stack: Stack, name: str, signum: signal.Signals) -> None:
    """Send a signal that changes the level, and wait until that is told."""
    log = Log(stack[name])
    stack[name].send_signal(signum)
    wait_until(lambda: log.counts()["log_level_changed"] == 1, f"{name} changes its level")


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_logs_more_and_less_by_signal(stack: Stack, name: str) -> None:
    """SIGUSR1 is a step towards debug, SIGUSR2 the level as set; the service goes on."""
    log = Log(stack[name])
    _send(stack, name, signal.SIGUSR1)
    _send(stack, name, signal.SIGUSR2)
    assert [line["to"] for line in log.lines() if line["event"] == "log_level_changed"] == ["debug", "info"]
    assert stack[name].answers()


@pytest.mark.anyio
async def test_nothing_secret_is_ever_told(tmp_path: Path) -> None:
    """All of that again with everything logged: no key, password, token, frame or body stands in any log."""
    stack = Stack(tmp_path, redis_options=REDIS_USER, settings={**SETTINGS, "log_level": "debug", "log_repeats_max": 100_000})
    for name in SERVICES:
        stack.set(name, redis_url=stack.redis.url.replace("//", f"//{CANARY}:{CANARY}-redis@"))
    with stack:
        nowhere = stack.another("collect", "nowhere", mongo_url="mongodb://me:canary-mongo@127.0.0.1:1/?directConnection=true")
        nowhere.launch()
        async with Audience(stack) as audience:
            seat = await audience.join("alice", 0, again=True)
            await anyio.to_thread.run_sync(_flood_streams, stack, 20)
            await audience.until(lambda: len(seat.messages) == 20)
            await anyio.to_thread.run_sync(_flood_tokens, stack, 20)
            for port in (stack.settings.api_port, stack.settings.auth_port, _port(stack.edge_urls[0])):
                await anyio.to_thread.run_sync(_flood_garbage, port, 5)
            await _flood_edge(stack, 30)
            for server in (stack.redis, stack.store):
                server.kill()
                await _flood_edge(stack, 10)
                await _back(server)
            await anyio.to_thread.run_sync(_flood_streams, stack, 20)
            await audience.until(lambda: len(seat.messages) == 40)
        _await_outage(nowhere)
        for name in (*SERVICES, "nowhere"):
            stack[name].stop()
        for name in (*SERVICES, "nowhere"):
            text = stack[name].log.read_text(encoding="utf-8")
            assert text
            for secret in (CANARY, API_KEY, "eyJ"):
                assert secret not in text, [line for line in text.splitlines() if secret in line][:3]


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _await_outage(service: Process) -> None:
    wait_until(lambda: "outage_began" in service.log_tail(), f"{service.name} tells that MongoDB is away")
