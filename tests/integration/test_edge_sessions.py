"""A whole edge on a real Redis: from the token to the message, and what is refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed

from tests.integration.edges import PROMPT_S, Edge, eventually, message, running_edge
from tests.servers import EmbeddedValkey, free_ports

pytestmark = pytest.mark.anyio

HEAD = 1_732_262_400_123_456


@pytest.fixture
async def edge(valkey_server: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Edge]:
    """Yield an edge with limits small enough to reach."""
    limits = {"frame_max_bytes": 1_000, "sessions_user_max": 2, "connect_timeout_s": 0.3}
    async with running_edge(valkey_server.url, tmp_path, **limits) as running:
        yield running


async def test_welcome_says_who_where_and_from_when(edge: Edge) -> None:
    """The welcome carries user, node, heartbeat and the head that the target had."""
    await edge.set_head("alice", HEAD)
    async with edge.open(edge.token("alice")) as client:
        welcome = await client.welcome()
        assert client.connection.subprotocol == "pushway.v1"
    assert welcome["user"] == "alice"
    assert welcome["node"].startswith("edge-1.")
    assert welcome["seq"] == HEAD
    assert welcome["heartbeat"] == 25
    assert len(welcome["session"]) == 16


async def test_a_line_reaches_every_session_of_its_user_and_nobody_else(edge: Edge) -> None:
    """Two devices of one user get the message, byte for byte; another user does not."""
    async with (
        edge.session("alice", "a") as (one, node),
        edge.session("alice", "b") as (two, _),
        edge.session("bob") as (bob, _),
    ):
        assert await edge.publish(node, message("alice", 11, 0, "ä"), message("bob", 5, 0), message("alice", 12, 11)) == 1
        for client in (one, two):
            frame = await client.next()
            assert (frame["type"], frame["to"], frame["body"]) == ("message", "user:alice", "ä")
            assert await client.seqs(1) == [12]
        assert await bob.seqs(1) == [5]


async def test_a_repeated_message_is_sent_once(edge: Edge) -> None:
    """What dispatch publishes again, the session has."""
    async with edge.session("alice") as (client, node):
        await edge.publish(node, message("alice", 11, 0), message("alice", 11, 0))
        await edge.publish(node, message("alice", 11, 0), message("alice", 12, 11))
        assert await client.seqs(2) == [11, 12]


async def test_an_expired_message_is_not_sent(edge: Edge) -> None:
    """`exp` of the line is obeyed."""
    now_ms = int(time.time() * 1000)
    async with edge.session("alice") as (client, node):
        await edge.publish(
            node, message("alice", 11, 0, expires_ms=now_ms - 1), message("alice", 12, 11, expires_ms=now_ms + 60_000)
        )
        assert await client.seqs(1) == [12]


@pytest.mark.parametrize("length", [1, 125, 126, 65_535, 65_536, 200_000])
async def test_frames_of_every_length_arrive(edge: Edge, length: int) -> None:
    """Each of RFC 6455's three header forms is read by a client that is not ours."""
    async with edge.session("alice") as (client, node):
        await edge.publish(node, message("alice", 1, 0, "x" * length))
        assert len((await client.next())["body"]) == length


async def test_connect_frame_does_what_the_header_does(edge: Edge) -> None:
    """A browser sends its token in the first frame."""
    async with edge.open() as client:
        await client.send(type="connect", token=edge.token("alice"), device="phone")
        assert (await client.welcome())["user"] == "alice"


async def test_a_wish_not_granted_is_answered(edge: Edge) -> None:
    """`topics` that the token does not grant get an error each, behind the welcome, and the session is live."""
    async with edge.open(edge.token("alice"), since="topic:news:3", topics="news,sport") as client:
        node = (await client.welcome())["node"]
        for topic in ("news", "sport"):
            error = await client.next()
            assert (error["type"], error["code"]) == ("error", "forbidden")
            assert topic in error["message"]
        await edge.publish(node, message("alice", 1, 0))
        assert await client.seqs(1) == [1]


async def test_broken_keys_of_one_user_are_that_users_trouble(edge: Edge) -> None:
    """A key of another type, or a counter that is no number: who waits for it is told to come again, others are welcome."""
    await edge.redis.set(edge.keys.route("bob"), "x")
    await edge.set_head("dan", "abc")
    with capture_logs() as logs:
        async with edge.open(edge.token("bob")) as bob, edge.open(edge.token("dan")) as dan, edge.session("carol"):
            for client in (bob, dan):
                assert await client.closed() == (4001, "overloaded: the route could not be written in time")
    assert sorted(line["user"] for line in logs if line["event"] == "route_refused") == ["bob", "dan"]
    await edge.redis.delete(edge.keys.route("bob"))
    async with edge.session("bob") as (bob, node):
        await edge.publish(node, message("bob", 1, 0))
        assert await bob.seqs(1) == [1]


async def test_client_frames_are_answered(edge: Edge) -> None:
    """Ping gets pong; an ack is taken up to what was sent; what is not there yet is said to be so."""
    async with edge.session("alice") as (client, node):
        await edge.publish(node, message("alice", 11, 0))
        assert await client.seqs(1) == [11]
        await client.send(type="ack", seq=11)
        await client.send(type="ack", seq=12, to="user:alice")
        assert (await client.next())["code"] == "bad_ack"
        await client.send(type="connect", token=edge.token("alice"))
        assert (await client.next())["code"] == "unexpected"
        await client.send(type="subscribe", topic="news")
        assert (await client.next())["code"] == "forbidden"
        await client.send(type="token", token=edge.token("alice"))
        assert (await client.next())["type"] == "extended"
        await client.send(type="ping")
        assert await client.next() == {"type": "pong"}


async def test_a_fragmented_frame_is_one_frame(edge: Edge) -> None:
    """RFC 6455, section 5.4."""
    async with edge.session("alice") as (client, _):
        await client.connection.send(['{"type":', '"pi', 'ng"}'])
        assert await client.next() == {"type": "pong"}


# -- the close codes -----------------------------------------------------------------------------------------------------


async def test_4500_for_a_token_that_proves_nothing(edge: Edge) -> None:
    """Whether it comes in the header or in the first frame; the reason says why."""
    async with edge.open("nonsense") as client:
        assert (await client.closed())[0] == 4500
    async with edge.open() as client:
        await client.send(type="connect", token=edge.token("alice", audience="another"))
        assert (await client.closed())[0] == 4500


async def test_4500_without_a_connect_frame(edge: Edge) -> None:
    """None in time, or another frame first."""
    async with edge.open() as client:
        assert await client.closed() == (4500, "not authenticated: neither Authorization nor a connect frame came in time")
    async with edge.open() as client:
        await client.send(type="ping")
        assert (await client.closed())[0] == 4500


async def test_4501_for_a_page_of_another_site(edge: Edge) -> None:
    """Whatever token it has; a page of this machine is welcome, whatever its port."""
    async with edge.open(edge.token("alice"), origin="https://evil.example") as client:
        assert await client.closed() == (4501, "forbidden: pages of https://evil.example may not connect (edge_origins)")
    async with edge.open(edge.token("alice"), origin="http://localhost:8000") as client:
        assert (await client.welcome())["user"] == "alice"


async def test_4502_for_the_older_session_of_a_device(edge: Edge) -> None:
    """The newer one stays and gets the messages; a session without a device replaces nobody."""
    async with edge.session("alice", "phone") as (older, node), edge.open(edge.token("alice")) as nameless:
        await nameless.welcome()
        async with edge.session("alice", "phone") as (newer, _):
            assert (await older.closed())[0] == 4502
            await edge.publish(node, message("alice", 1, 0))
            assert await newer.seqs(1) == [1]
            assert await nameless.seqs(1) == [1]


@pytest.mark.parametrize("limits", [{"frames_s_max": 2}, {"bytes_s_max": 200}])
async def test_4005_for_a_client_that_says_too_much(
    valkey_server: EmbeddedValkey, tmp_path: Path, limits: dict[str, int]
) -> None:
    """In ten seconds; what it had said before was answered."""
    async with running_edge(valkey_server.url, tmp_path, **limits) as edge, edge.open(edge.token("alice")) as client:
        await client.welcome()
        # In a window of ten seconds of its own, whenever this one ends: three times what one takes.
        with suppress(ConnectionClosed):
            for _ in range(3 * 2 * 10 + 200):
                await client.send(type="ping")
        assert (await client.closed())[0] == 4005


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"connections_max": 1}, 4001), ({"connections_address_max": 1}, 4007), ({"handshakes_address_s_max": 1}, 4005)],
)
async def test_one_connection_too_many(
    valkey_server: EmbeddedValkey, tmp_path: Path, limits: dict[str, int], code: int
) -> None:
    """It hears why; who was there before stays."""
    async with running_edge(valkey_server.url, tmp_path, **limits) as edge, edge.open(edge.token("alice")) as client:
        await client.welcome()
        codes: set[int | None] = {None}
        for _ in range(20):
            async with edge.open(edge.token("bob")) as another:
                with suppress(ConnectionClosed):
                    await another.next()
                codes.add(another.connection.close_code)
        assert codes == {None, code}
        await client.send(type="ping")
        assert (await client.next())["type"] == "pong"


async def test_4007_for_one_session_too_many(edge: Edge) -> None:
    """The sessions that are there stay."""
    async with edge.session("alice", "a") as (one, node), edge.session("alice", "b"):
        async with edge.open(edge.token("alice"), device="c") as third:
            assert (await third.closed())[0] == 4007
        await edge.publish(node, message("alice", 1, 0))
        assert await one.seqs(1) == [1]


@pytest.mark.parametrize("sent", ["{", '{"type":"dance"}', '{"type":"ack"}', '{"type":"ping","x":1}', "[]", b"\x00"])
async def test_4504_for_what_is_no_frame(edge: Edge, sent: str | bytes) -> None:
    """An error frame says what is wrong, then the connection is closed for good."""
    async with edge.session("alice") as (client, _):
        await client.connection.send(sent)
        error = await client.next()
        assert (error["type"], error["code"]) == ("error", "bad_frame")
        assert (await client.closed())[0] == 4504


@pytest.mark.parametrize("query", [{"device": "a b"}, {"since": "x"}, {"since": "news:4"}, {"topics": "a,,b"}])
async def test_4504_for_a_wish_that_cannot_be_read(edge: Edge, query: dict[str, str]) -> None:
    """A wish with a mistake in it is not passed over."""
    async with edge.open(edge.token("alice"), **query) as client:  # type: ignore[arg-type]  # none is `subprotocols`
        assert (await client.closed())[0] == 4504


async def test_4505_for_a_frame_too_large(edge: Edge) -> None:
    """The client gets to read the code although it is still sending."""
    async with edge.session("alice") as (client, _):
        await client.connection.send("x" * 1_001)
        assert await client.closed() == (4505, "too large: 1000 bytes are allowed")


async def test_4506_for_an_unknown_subprotocol(edge: Edge) -> None:
    """One of the client's is echoed, so that a browser reads the code; who offers none is welcome."""
    async with edge.open(edge.token("alice"), subprotocols=("pushway.v9", "x")) as client:
        assert client.connection.subprotocol == "pushway.v9"
        assert (await client.closed())[0] == 4506
    async with edge.open(edge.token("alice"), subprotocols=()) as client:
        await client.welcome()


async def test_another_path_gets_a_hint(edge: Edge) -> None:
    """A plain 404 that says where to go; and on the right path without an upgrade, 426."""
    base = edge.url.replace("ws://", "http://").removesuffix("/v1/connect")
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{base}/")
        assert answer.status_code == 404
        assert "/v1/connect" in answer.text
        assert (await http.get(f"{base}/v1/connect")).status_code == 426


@pytest.mark.parametrize(
    ("line", "header", "answer"),
    [
        (b"//[", b"X: y", b"HTTP/1.1 400 "),
        (b"/v1/connect?since=" + b"1" * 5_000, b"X: y", b"bad frame: "),
        (b"/v1/connect", b"Authorization: Bearer \xff.a.b", b"not authenticated: "),
    ],
)
async def test_what_no_client_sends_is_answered_too(edge: Edge, line: bytes, header: bytes, answer: bytes) -> None:
    """Bytes that are no text, numbers that are no seq, addresses that are none: a refusal each, and the edge stands."""
    upgrade = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"=="
    )
    stream = await anyio.connect_tcp("127.0.0.1", edge.settings.edge_port)
    async with stream, edge.session("alice"):
        await stream.send(b"GET " + line + b" HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n" + header + b"\r\n\r\n")
        received = b""
        with anyio.fail_after(PROMPT_S):
            while answer not in received:
                received += await stream.receive()
    async with edge.session("alice"):
        pass


async def test_a_silent_socket_is_cut(edge: Edge) -> None:
    """The handshake has a deadline of its own, and there is nobody to explain it to."""
    stream = await anyio.connect_tcp("127.0.0.1", edge.settings.edge_port)
    async with stream:
        await stream.send(b"GET /v1/connect HTTP/1.1\r\n")
        with anyio.fail_after(PROMPT_S), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()


# -- what needs other settings -------------------------------------------------------------------------------------------


async def test_4003_when_the_token_expires(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """A live session ends with its token, as it is told before, and none begins with an old one."""
    limits = {"token_leeway_s": 0, "token_notice_s": 1, "heartbeat_s": 0.5}
    async with running_edge(valkey_server.url, tmp_path, **limits) as edge, edge.open(edge.token("alice", ttl_s=2)) as client:
        await client.welcome()
        assert (await client.next())["type"] == "expiring"
        assert (await client.closed())[0] == 4003
        async with edge.open(edge.token("alice", ttl_s=-60)) as late:
            assert await late.closed() == (4003, "token expired")


async def test_4004_when_a_ping_is_not_answered(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """A peer that answers pings stays; one that does not is closed."""
    async with (
        running_edge(valkey_server.url, tmp_path, heartbeat_s=0.1, heartbeat_timeout_s=0.2, close_timeout_s=30.0) as edge,
        edge.session("alice") as (lively, node),
        edge.session("bob") as (deaf, _),
    ):
        deaf.connection.transport.pause_reading()
        await edge.unrouted("bob")
        deaf.connection.transport.resume_reading()
        assert (await deaf.closed())[0] == 4004
        await edge.publish(node, message("alice", 1, 0))
        assert await lively.seqs(1) == [1]


async def test_a_close_that_is_not_answered_ends_in_a_cut(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """The socket does not outlive `close_timeout_s`."""
    pulse = {"heartbeat_s": 0.1, "heartbeat_timeout_s": 0.2, "close_timeout_s": 0.2}
    async with running_edge(valkey_server.url, tmp_path, **pulse) as edge, edge.session("bob") as (deaf, _):
        before = REGISTRY.get_sample_value("pushway_connections") or 0
        deaf.connection.transport.pause_reading()
        await eventually(lambda: REGISTRY.get_sample_value("pushway_connections") == before - 1)
        deaf.connection.transport.abort()


async def test_4002_for_a_slow_consumer(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """Who does not read gets no more than the limit kept for him, and keeps nobody else waiting."""
    async with (
        running_edge(
            *(valkey_server.url, tmp_path), send_buffer_soft_bytes=50_000, send_buffer_max_bytes=100_000, close_timeout_s=30.0
        ) as edge,
        edge.session("alice") as (fast, node),
        edge.session("bob") as (slow, _),
    ):
        slow.connection.transport.pause_reading()
        seq = 0
        with anyio.fail_after(PROMPT_S):
            while await edge.routed("bob"):
                seq += 1
                await edge.publish(node, message("bob", seq, seq - 1, "x" * 60_000))
        await edge.publish(node, message("alice", 1, 0))
        assert await fast.seqs(1) == [1]
        slow.connection.transport.resume_reading()
        assert (await slow.closed())[0] == 4002


async def test_4001_when_no_key_can_be_had(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """The token may be good: the client is told to come again, and the edge is not ready."""
    nowhere = {"auth_url": f"http://127.0.0.1:{free_ports()}", "edge_port": free_ports()}
    async with running_edge(valkey_server.url, tmp_path) as edge, anyio.create_task_group() as tasks:
        unkeyed = Edge(edge.settings.model_copy(update=nowhere), edge.redis, edge.inbox)
        tasks.start_soon(unkeyed.run)
        await eventually(lambda: set(unkeyed.health.reasons) == {"keys"})
        async with unkeyed.open(edge.token("alice")) as client:
            assert (await client.closed())[0] == 4001
        unkeyed.stop.set()
