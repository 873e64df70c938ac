"""edge.connection and edge.admission: a client's bytes in, a client's bytes out, on a transport that only keeps them."""

from __future__ import annotations

import gc
import time
from collections import Counter

import anyio
import pytest
from websockets.frames import Opcode

from edge.closes import Close
from edge.connection import Connection
from edge.frames import text_frame
from edge.handshake import Handshake
from edge.liveness import Pulse
from edge.position import Position
from edge.session import Session
from router.lines import build_frame, build_line
from router.settings import Settings
from tests.unit.edge.client_socket import Socket, masked, seqs
from tests.unit.edge.desk import Desk

pytestmark = pytest.mark.anyio


async def test_who_asks_for_presence_is_entered_as_a_watcher(desk: Desk) -> None:
    """With the topic, and the connection that is to be written to."""
    connection, socket = await desk.live("ann")
    socket.say('{"type":"subscribe","topic":"news","presence":true}')
    assert desk.watched == [("news", connection)]


async def test_what_comes_before_the_head_is_known_follows_the_welcome(desk: Desk) -> None:
    """The session hears from the moment the route may stand; what the head covers is not sent."""
    _, socket = await desk.registering("alice")
    for seq in (9, 10, 11, 12):
        desk.publish("alice", seq - 1, seq)
    assert socket.frames() == []
    desk.routes.answer(10)
    desk.publish("alice", 12, 13)
    frames = socket.frames()
    assert '"welcome"' in frames[0]
    assert seqs(frames) == [11, 12, 13]


async def test_what_is_for_all_but_this_session(desk: Desk) -> None:
    """By the id that its welcome tells, or by its device; another user's device of that name is another one."""
    connection, socket = await desk.live_device("alice", "phone")
    assert connection.names == (f"session:{connection.session.id}", "device:alice,phone")
    socket.frames()
    for exclude in (*connection.names, "device:bob,phone", ""):
        connection.put(text_frame(exclude.encode()), exclude)
    assert connection.flush() == 2
    assert socket.frames() == ["device:bob,phone", ""]


async def test_nothing_follows_a_close_frame(desk: Desk) -> None:
    """Neither messages nor answers; the route goes."""
    connection, socket = await desk.live("alice")
    connection.drain(5)
    assert desk.routes.writes == [("alice", None)]
    assert len(desk.sessions) == 0
    assert socket.frames()[0].startswith('{"type":"bye"')
    desk.publish("alice", 0, 1)
    connection.out.append(b"left over from the chunk in hand")
    connection.flush()
    assert socket.frames() == []
    assert socket.close_code == 4000


async def test_nothing_follows_the_end_of_a_clients_stream(desk: Desk) -> None:
    """Although its session stays in the table until the socket is gone, and uvloop refuses what is written then."""
    _, socket = await desk.live("alice")
    socket.frames()
    socket.end()
    desk.publish("alice", 0, 1)
    assert socket.ended == "eof"
    assert socket.frames() == []


async def test_a_session_gone_before_its_route_was_written_is_not_welcomed(desk: Desk) -> None:
    """Nothing is kept of it for the answer, and the route is written again as the table then is."""
    connection, socket = await desk.registering("alice")
    connection.connection_lost(None)
    assert desk.routes.writes == [("alice", None), ("alice", None)]
    desk.routes.answer(5)
    assert socket.frames() == []
    assert not desk.admission.connections


def _held() -> list[int]:
    """Return how many objects there are of each kind that a connection is made of."""
    kinds = Counter(type(one) for one in gc.get_objects())
    return [kinds[kind] for kind in (Connection, Session, Position, Handshake)]


@pytest.mark.parametrize("clean", [True, False])
async def test_nothing_is_left_of_a_connection_for_the_garbage_collector(desk: Desk, *, clean: bool) -> None:
    """It is freed when its socket goes, however it goes: a crowd that leaves would else be kept for a long time."""
    gc.collect()
    before = _held()
    gc.disable()
    try:
        connection, socket = await desk.live("alice")
        if clean:
            connection.data_received(masked(Opcode.CLOSE, (1000).to_bytes(2, "big")))
        connection.connection_lost(None)
        desk.routes.writes.clear()
        vars(socket).clear()  # which knows the connection as no transport does once it is closed
        del connection, socket
        assert _held() == before
    finally:
        gc.enable()


async def test_more_waiting_than_allowed_closes(desk: Desk) -> None:
    """4002 when the socket does not take it; 4001 when it is the route that does not come."""
    connection, socket = await desk.live("alice")
    socket.waiting = Settings().send_buffer_max_bytes
    connection.pause_writing()
    assert socket.close_code is None
    socket.waiting += 1
    desk.publish("alice", 0, 1)
    assert socket.close_code == 4002
    _, socket = await desk.registering("bob")
    for seq in range(1, Settings().send_buffer_soft_bytes // 50):
        desk.publish("bob", seq - 1, seq)
        if socket.close_code is not None:
            break
    assert socket.close_code == 4001
    assert len(desk.sessions) == 0


async def test_a_burst_has_time_to_be_taken(desk: Desk) -> None:
    """More than the soft limit may wait for a while, again and again; who does not take it in that while is closed."""
    connection, socket = await desk.live("alice")
    soft_s = Settings().send_buffer_soft_s
    for _ in range(2):
        connection.pause_writing()
        connection.sweep(time.monotonic() + soft_s - 1, Pulse(1e9, 1e9))
        connection.resume_writing()
        connection.sweep(time.monotonic() + soft_s + 1, Pulse(1e9, 1e9))
        assert socket.close_code is None
    connection.pause_writing()
    connection.sweep(time.monotonic() + soft_s - 1, Pulse(1e9, 1e9))
    connection.sweep(time.monotonic() + soft_s + 0.1, Pulse(1e9, 1e9))
    assert socket.close_code == 4002


async def test_a_close_waits_for_the_clients_and_no_longer_than_allowed(desk: Desk) -> None:
    """Half-closed once both close frames are there; cut when the client's does not come."""
    connection, socket = await desk.live("alice")
    connection.drain(5)
    assert socket.ended == ""
    socket.pump()
    assert socket.ended == "eof"
    connection, socket = await desk.live("bob")
    connection.drain(5)
    connection.sweep(time.monotonic() + Settings().close_timeout_s, Pulse(1e9, 1e9))
    assert socket.ended == "cut"


async def test_a_quiet_peer_is_pinged_and_a_silent_one_closed(desk: Desk) -> None:
    """The answer to the ping is enough."""
    connection, socket = await desk.live("alice")
    pulse, now_s = Pulse(25.0, 8.0), time.monotonic()
    connection.sweep(now_s + 1, pulse)
    assert socket.frames() == []
    connection.sweep(now_s + 26, pulse)
    assert len(socket.frames()) == 1
    connection.sweep(now_s + 35, pulse)
    assert socket.close_code == 4004


@pytest.mark.parametrize("live", [True, False])
async def test_nothing_is_written_to_a_socket_that_is_gone(desk: Desk, live: bool) -> None:
    """Whoever still holds the connection when it is reset: the sweep between two slices, the drain, delivery."""
    connection, socket = await (desk.live("alice") if live else desk.registering("never"))
    socket.reset()
    now_s = time.monotonic()
    connection.sweep(now_s + 26, Pulse(25.0, 8.0))
    connection.sweep(now_s + 1e9, Pulse(25.0, 8.0))
    connection.drain(5)
    connection.refused("too late")
    connection.out.append(b"left over from the chunk in hand")
    connection.flush()


@pytest.mark.parametrize(
    ("frame", "close_code"),
    [
        (masked(Opcode.PING, b"x"), None),
        (masked(Opcode.CLOSE, b"\x03\xe8"), 1000),
        (masked(Opcode.TEXT, b"{"), 4504),
        (masked(Opcode.TEXT, b'{"type":"connect","token":"bad"}'), 4500),
        (b"no frame", 1002),
    ],
    ids=["ping", "close", "bad frame", "bad token", "no frame"],
)
async def test_a_hasty_client_gets_the_answer_to_its_request_first(desk: Desk, frame: bytes, close_code: int | None) -> None:
    """What it sent along with the request is read after that, and treated like any other frame."""
    socket = Socket(desk.admission.accept())
    socket.connect_hastily(frame)
    await anyio.wait_all_tasks_blocked()
    assert socket.frames()
    assert socket.close_code == close_code


QUIET_PONG = masked(Opcode.PONG, b"")


@pytest.mark.parametrize("at", range(1, 18))
async def test_what_looks_like_a_pong_within_a_frame_is_part_of_it(desk: Desk, at: int) -> None:
    """A message cut anywhere, which is refused, even where what is left is as long as a pong and begins as one does."""
    connection, socket = await desk.live("alice")
    message = b"\x82\x8c" + bytes(4) + b"\x8a\x80" * 6
    for piece in (QUIET_PONG, QUIET_PONG, message[:at], message[at:]):
        connection.data_received(piece)
    assert socket.close_code == Close.BAD_FRAME.code


async def test_pongs_go_by_between_what_a_client_says(desk: Desk) -> None:
    """Before its first message, between two, between the parts of one, and in one piece with it."""
    connection, socket = await desk.live("alice")
    socket.frames()
    ping, halves = masked(Opcode.TEXT, b'{"type":"ping"}'), (b"\x01\x88abcd", b"\x80\x87abcd")
    first, second = (bytes(byte ^ b"abcd"[nth % 4] for nth, byte in enumerate(half)) for half in (b'{"type":', b'"ping"}'))
    for piece in (QUIET_PONG, ping, QUIET_PONG, halves[0] + first, QUIET_PONG, halves[1] + second, QUIET_PONG + ping):
        connection.data_received(piece)
    assert socket.frames() == ['{"type":"pong"}'] * 3


async def test_figures_fall_back_to_nothing(desk: Desk) -> None:
    """Whoever goes is in no table any more."""
    connections = [(await desk.live(user))[0] for user in ("a", "b", "c")]
    for connection in connections:
        connection.connection_lost(ConnectionResetError())
    with anyio.fail_after(60):
        await desk.admission.emptied()
    assert len(desk.sessions) == 0
    assert list(desk.sessions.audiences) == [b"all"]
    assert len(desk.feeds.feeds["all"]) == 0


async def test_what_all_and_topics_are_sent_reaches_their_sessions(desk: Desk) -> None:
    """In one pass, and until they leave; who has gone hears nothing."""
    (ann, first), (_, second) = await desk.live("ann"), await desk.live("bob")
    first.say('{"type":"subscribe","topic":"news"}')
    assert first.frames() == ['{"type":"subscribed","topic":"news","seq":0}']
    for target, seq in (("all", 1), ("topic:news", 2)):
        frame = build_frame(target, seq, "m", 0, '"text":"x"')
        desk.delivery.receive([build_line(target, 0, seq, None, frame).encode()])
    assert (seqs(first.frames()), seqs(second.frames())) == ([1, 2], [1])
    ann.close(Close.DRAINING)
    ann.connection_lost(None)
    assert len(desk.feeds.feeds["topic:news"]) == 0
    desk.delivery.receive([build_line("all", 1, 3, None, build_frame("all", 3, "m", 0, '"text":"x"')).encode()])
    assert (seqs(first.frames()), seqs(second.frames())) == ([], [3])
