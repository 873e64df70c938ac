"""edge.connection and edge.admission: the sessions of a device, and how those that are to go are ended."""

from __future__ import annotations

import time

import pytest
from prometheus_client import REGISTRY
from websockets.frames import Opcode

from edge.liveness import Pulse
from router.cursors import CursorKey
from router.lines import build_frame, build_line
from tests.unit.edge.client_socket import masked
from tests.unit.edge.desk import Desk

pytestmark = pytest.mark.anyio


async def test_a_devices_cursor_is_found_between_head_and_welcome(desk: Desk) -> None:
    """What comes while it is looked up is held; acks move it, and with the session's end it is written soon."""
    connection, socket = await desk.registering("alice", "phone")
    phone = CursorKey("alice", "phone", "user:alice")
    desk.cursors.seqs[phone] = 2_000_000_000_000_000
    desk.routes.answer(2_000_000_000_000_000)
    desk.publish("alice", 2_000_000_000_000_000, 2_000_000_000_000_001)
    assert socket.frames() == []
    desk.cursors.answer()
    assert '"welcome"' in socket.frames()[0]
    socket.say('{"type":"ack","seq":2000000000000000}')
    assert connection.session.position is not None
    connection.session.position.read(2_000_000_000_000_001)
    socket.say('{"type":"ack","seq":2000000000000001}')
    assert desk.cursors.seqs == {phone: 2_000_000_000_000_001, phone._replace(target="all"): 0}
    assert desk.cursors.hastened == []
    connection.connection_lost(None)
    assert phone in desk.cursors.hastened


@pytest.mark.parametrize(("at_us", "code"), [(9, None), (11, 4502)])
@pytest.mark.parametrize("told", [True, False])
async def test_the_later_session_of_a_device_stays(desk: Desk, at_us: int, code: int | None, told: bool) -> None:
    """Whether it is heard of before or after the answer that tells this one's own time; other devices stay as they are."""
    _, socket = await desk.live_device("alice", "phone")
    _, other = await desk.live_device("alice", "tablet")
    assert desk.routes.come == [""] * 2
    for client in (socket, other):
        client.pump()
    assert desk.routes.come[2].startswith('{"user":"alice","device":"phone","session":"')
    line = f'replaced - - - {{"user":"alice","device":"phone","session":"s","at_us":{at_us}}}'.encode()
    if told:
        desk.routes.answer(5, 10)
    desk.delivery.receive([line])
    if not told:
        assert socket.close_code is None
        desk.routes.answer(5, 10)
    assert (socket.close_code, other.close_code) == (code, None)


async def test_a_session_makes_room_when_the_next_one_of_its_device_has_answered(desk: Desk) -> None:
    """Not before, and not for one that never answers, however late it came."""
    _, older = await desk.live_device("alice", "phone")
    older.pump()
    desk.routes.answer(5, 10)
    connection, zombie = await desk.live_device("alice", "phone", 11)
    assert older.close_code is None
    connection.connection_lost(None)
    _, newer = await desk.live_device("alice", "phone", 12)
    assert older.close_code is None
    newer.pump()
    assert older.close_code is None
    desk.routes.answer(5, 13)
    assert [socket.close_code for socket in (older, zombie, newer)] == [4502, None, None]
    assert len(desk.sessions) == 1


async def test_of_two_that_are_proved_by_one_call_one_stays(desk: Desk) -> None:
    """They have one time, and their ids decide."""
    both = [await desk.live_device("alice", "phone") for _ in range(2)]
    for _, socket in both:
        socket.pump()
    desk.routes.answer(5, 10)
    first, second = sorted(both, key=lambda one: one[0].session.id)
    assert (first[1].close_code, second[1].close_code) == (4502, None)


async def test_a_session_that_goes_before_its_proof_is_told_replaces_nobody(desk: Desk) -> None:
    """Its pong and its end came at once, say, when the edge had been frozen."""
    connection, socket = await desk.live_device("alice", "phone")
    socket.pump()
    assert desk.routes.writes[-1][1] is not None
    connection.connection_lost(None)
    assert [waiter for _, waiter in desk.routes.writes] == [None, None]


async def test_only_an_answer_to_the_latest_challenge_counts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a pong that nobody asked for; one that is late leads to another challenge, and the sweep's ping is one too."""
    connection, socket = await desk.live_device("alice", "phone")
    before = len(desk.routes.writes)
    connection.data_received(masked(Opcode.PONG, b"") + masked(Opcode.PONG, b"7"))
    assert len(desk.routes.writes) == before
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns + 20_000_000_000)
    socket.pump()
    assert len(desk.routes.writes) == before
    socket.lose()
    connection.sweep(time.monotonic() + 26, Pulse(25.0, 8.0))
    socket.pump()
    assert len(desk.routes.writes) == before + 1


async def test_a_line_of_nobody_here_is_passed_over(desk: Desk) -> None:
    """As is one that cannot be read, with a word in the log."""
    await desk.live("alice")
    desk.delivery.receive([b'replaced - - - {"user":"bob","device":"phone","session":"s","at_us":1}', b"replaced - - - x"])
    assert len(desk.sessions) == 1


async def test_a_kicked_user_has_no_session_left(desk: Desk) -> None:
    """Whatever state it is in, and whether or not the device has a name; others stay, and what follows is for them."""
    _, plain = await desk.live("alice")
    _, device = await desk.live_device("alice", "phone")
    _, other = await desk.live("bob")
    _, coming = await desk.registering("alice")
    line = b'kicked - - - {"user":"alice","code":4502,"reason":"the account is closed"}'
    message = build_line("user:bob", None, None, None, build_frame("user:bob", None, "m", 0, '"text":"x"')).encode()
    desk.delivery.receive([line + b"\n" + message, line])
    assert [socket.close_code for socket in (plain, device, coming, other)] == [4502, 4502, 4502, None]
    assert '"message"' in other.frames()[-1]
    assert list(desk.sessions.users) == ["bob"]


async def test_a_back_end_chooses_the_code(desk: Desk) -> None:
    """And whom: a device, or a session. What is no code of ours is counted as any other."""
    phone_session, phone = await desk.live_device("alice", "phone")
    plain_session, plain = await desk.live("alice")
    before = _closes("other")
    desk.delivery.receive([b'kicked - - - {"user":"alice","code":4321,"reason":"moved","device":"phone"}'])
    assert [socket.close_code for socket in (phone, plain)] == [4321, None]
    line = f'kicked - - - {{"user":"alice","code":4900,"reason":"","session":"{plain_session.session.id}"}}'
    desk.delivery.receive([line.encode()])
    assert plain.close_code == 4900
    phone_session.connection_lost(None)
    plain_session.connection_lost(None)
    assert (_closes("other"), _closes("4321")) == (before + 2, 0)


def _closes(code: str) -> float:
    return REGISTRY.get_sample_value("pushway_closes_total", {"code": code}) or 0


async def test_a_device_gone_before_its_cursor_was_found(desk: Desk) -> None:
    """Nobody is told."""
    connection, _ = await desk.registering("alice", "phone")
    desk.routes.answer(5)
    assert len(desk.cursors.waiters) == 1
    connection.connection_lost(None)
    assert desk.cursors.waiters == {}
