"""edge.connection: what a client costs that says too much, or never says what it came for."""

from __future__ import annotations

import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs
from websockets.frames import Frame, Opcode

from edge.closes import Close
from edge.connection import Connection
from edge.liveness import Pulse
from edge.pace import WINDOW_S
from router.crowd import A_PASS
from router.metrics import HANDSHAKES_FAILED
from tests.unit.edge.client_socket import Socket
from tests.unit.edge.desk import Desk

pytestmark = pytest.mark.anyio

NEVER = Pulse(1e9, 1e9)

REQUEST = b"GET /v1/connect HTTP/1.1\r\nHost: edge\r\n"


class Pongs(Socket):
    """A client that counts what it is answered, and reads nothing else of it."""

    count = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Count pongs."""
        self.count += bytes(data[:1]) == b"\x8a"


def pings(count: int) -> bytes:
    """Return so many empty pings."""
    return Frame(Opcode.PING, b"").serialize(mask=True) * count


def failed() -> dict[str, float]:
    """Return how many handshakes have failed, by reason."""
    samples = next(iter(HANDSHAKES_FAILED.collect())).samples
    return {sample.labels["reason"]: sample.value for sample in samples if sample.name.endswith("_total")}


def knocking(desk: Desk) -> tuple[Connection, Socket]:
    """Return a connection that has said nothing yet."""
    connection = desk.admission.accept()
    return connection, Socket(connection)


async def test_a_read_full_of_frames_is_looked_at_no_further_than_the_limit(desk: Desk) -> None:
    """One read may hold forty thousand pings: the edge would answer them all before it served anybody else."""
    connection, socket = await desk.live("alice")
    socket.__class__ = Pongs
    assert isinstance(socket, Pongs)
    connection.data_received(pings(40_000))
    assert not socket.reading
    assert 2_000 <= socket.count < 3_400  # ten seconds' worth, perhaps of two windows, and one slice


async def test_much_at_once_is_answered_in_turns(desk: Desk) -> None:
    """Two clients say all that they may: what the second says waits for later passes, in order, and then it is read on."""
    most = 1_900
    crowd = [await desk.live(user) for user in ("alice", "bob")]
    for connection, socket in crowd:
        socket.__class__ = Pongs
        connection.data_received(pings(most - 1))
        connection.data_received(pings(1))
    (_, first), (_, second) = crowd
    assert isinstance(first, Pongs)
    assert isinstance(second, Pongs)
    assert 0 < second.count < most
    assert not second.reading
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert (first.count, second.count) == (most, most)
    assert first.reading
    assert second.reading


async def test_a_client_that_was_closed_is_held_to_the_limits_too(desk: Desk) -> None:
    """Its close frame is waited for, not what it says instead."""
    connection, socket = await desk.live("alice")
    socket.say("{")
    assert socket.close_code == 4504
    assert socket.reading
    connection.data_received(pings(20_000))
    assert not socket.reading


async def test_who_is_closed_and_goes_on_with_a_long_frame_is_waited_for_no_longer(desk: Desk) -> None:
    """Nothing of the frame is kept: the edge ends its side, and the rest is for nobody."""
    connection, socket = await desk.live("alice")
    socket.say("{")
    assert (socket.close_code, socket.ended) == (4504, "")
    connection.data_received(Frame(Opcode.TEXT, b" " * 60_000).serialize(mask=True)[:50])
    assert socket.ended == "eof"


async def test_a_request_longer_than_allowed_is_told_so_and_read_no_further(desk: Desk) -> None:
    """However many lines it has, of which none is too long."""
    before = failed()
    connection, socket = knocking(desk)
    said: list[bytes] = []
    socket.write = said.append  # type: ignore[method-assign, assignment]
    connection.data_received(REQUEST + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1_000) for n in range(50)))
    assert b"".join(said).startswith(b"HTTP/1.1 431 ")
    assert not socket.reading
    assert socket.ended == "eof"
    socket.reset()
    assert failed()["too_large"] == before["too_large"] + 1


async def test_a_request_that_fits_may_be_followed_by_frames_at_once(desk: Desk) -> None:
    """What is allowed to a request does not count what comes behind it."""
    _, socket = knocking(desk)
    socket.connect_hastily(pings(5) + Frame(Opcode.TEXT, b'{"type":"connect","token":"alice"}').serialize(mask=True) + b"")
    await anyio.wait_all_tasks_blocked()
    assert socket.reading
    assert socket.close_code is None


async def test_a_crowd_at_the_door_comes_in_a_few_at_a_time(desk: Desk) -> None:
    """Between them the event loop has its turn; none is read on before it was answered, and all of them come in."""
    sockets = [knocking(desk)[1] for _ in range(100)]
    for number, socket in enumerate(sockets):
        socket.connect(f"user-{number}")
    waiting = sum(not socket.reading for socket in sockets)
    assert waiting >= 100 - A_PASS
    assert len(desk.routes.writes) <= A_PASS
    await anyio.wait_all_tasks_blocked()
    with anyio.fail_after(30):
        while len(desk.routes.writes) < 100:
            await anyio.lowlevel.checkpoint()
    assert all(socket.reading for socket in sockets)


async def test_who_goes_while_waiting_for_a_turn_is_passed_over(desk: Desk) -> None:
    """Its socket is gone, and so is what it said."""
    crowd = [knocking(desk) for _ in range(2 * A_PASS)]
    for _, socket in crowd:
        socket.connect("alice")
    crowd[-1][1].reset()
    with anyio.fail_after(30):
        while len(desk.routes.writes) < 2 * A_PASS - 1:
            await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()
    assert len(desk.routes.writes) == 2 * A_PASS - 1


def _slow(connection: Connection, socket: Socket) -> None:
    connection.data_received(REQUEST)
    connection.sweep(time.monotonic() + 1e3, NEVER)
    socket.reset()


def _left(connection: Connection, socket: Socket) -> None:
    connection.data_received(REQUEST)
    socket.end()
    socket.reset()


def _malformed(connection: Connection, socket: Socket) -> None:
    connection.data_received(b"*1\r\n$4\r\nPING\r\n")
    socket.reset()


def _malformed_tls(connection: Connection, socket: Socket) -> None:
    socket.write = lambda _data: None  # type: ignore[method-assign, assignment]
    connection.data_received(b"\x16\x03\x01\x00\xc8\x01")
    socket.reset()


def _refused(connection: Connection, socket: Socket) -> None:
    socket.write = lambda _data: None  # type: ignore[method-assign, assignment]
    connection.data_received(b"GET /.env HTTP/1.1\r\nHost: edge\r\n\r\n")
    socket.reset()


@pytest.mark.parametrize("how", [_slow, _left, _malformed, _malformed_tls, _refused])
async def test_why_there_is_no_websocket_is_counted_and_told(desk: Desk, how: Any) -> None:  # noqa: ANN401 - one of five
    """One reason each; of those who only look whether the port is open nothing is said."""
    before, reason = failed(), how.__name__.removeprefix("_").removesuffix("_tls")
    with capture_logs() as logs:
        how(*knocking(desk))
    assert failed() == before | {reason: before[reason] + 1}
    told = [{"event": "handshake_failed", "key": reason, "address": "203.0.113.7", "log_level": "info"}]
    assert logs == ([] if reason == "left" else told)


async def test_who_is_sent_away_for_a_breach_is_told_of_in_the_log(desk: Desk) -> None:
    """With the code and the address, and no user: logs at this level hold none. Who leaves by itself is not."""
    with capture_logs() as logs:
        for user, frame in (("alice", "{"), ("bob", '{"type":"ping"}')):
            connection, socket = await desk.live(user)
            socket.say(frame)
            connection.connection_lost(None)
    away = {"event": "client_sent_away", "key": "4504", "address": "203.0.113.7", "log_level": "info"}
    assert logs == [away]


async def test_pongs_that_nobody_asked_for_are_counted(desk: Desk) -> None:
    """Each is a frame, though hardly looked at: who sends too many is closed, and read no more."""
    connection, socket = await desk.live("alice")
    pong, most = Frame(Opcode.PONG, b"").serialize(mask=True), desk.admission.settings.frames_s_max * WINDOW_S
    for _ in range(2 * most):
        connection.data_received(pong)
        if not socket.reading:
            break
    assert (socket.close_code, socket.reading) == (Close.TOO_FAST.code, False)
