"""edge.connection and edge.admission: whose a connection is, and for how long."""

from __future__ import annotations

import json
import time

import anyio
import pytest

from edge.liveness import Pulse
from router.auth.bearer import Bearer
from router.revocation import Revocation
from router.settings import Settings
from tests.unit.edge.client_socket import Socket
from tests.unit.edge.desk import Desk

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("token", "code"), [("bad", 4500), ("old", 4003), ("later", 4001)])
async def test_a_token_that_does_not_do(desk: Desk, token: str, code: int) -> None:
    """Refused for good, until there is a newer one, or for now."""
    _, socket = await desk.registering(token)
    assert socket.close_code == code
    assert desk.routes.writes == []


async def test_a_token_whose_key_is_asked_for(desk: Desk) -> None:
    """It takes a while, and then the session goes on as any other."""
    _, socket = await desk.live("soon")
    assert socket.close_code is None


@pytest.mark.parametrize(
    ("token", "told"),
    [("alice", "extended"), ("bob", "forbidden"), ("bad", "bad_token"), ("old", "bad_token"), ("later", "unavailable")],
)
async def test_a_newer_token(desk: Desk, token: str, told: str) -> None:
    """Is answered, whatever it is, and the session goes on."""
    _, socket = await desk.live("alice")
    socket.say(f'{{"type":"token","token":"{token}"}}')
    await anyio.wait_all_tasks_blocked()
    (frame,) = map(json.loads, socket.frames())
    assert frame.get("code", frame["type"]) == told
    assert socket.close_code is None


@pytest.mark.parametrize(("ident", "code"), [("all", 4500), ("user:alice", 4500), ("jti:j", 4003)])
async def test_a_revoked_token(desk: Desk, ident: str, code: int) -> None:
    """Lets nobody in, and extends no session: that goes on by the one before."""
    _, live = await desk.live("bob")
    desk.revocations.add(Revocation(ident, 1, 2))
    _, socket = await desk.registering("alice")
    assert socket.close_code == code
    assert desk.routes.writes == []
    live.frames()
    live.say('{"type":"token","token":"alice"}')
    assert [json.loads(frame)["code"] for frame in live.frames()] == ["bad_token"]
    assert live.close_code is None


async def test_a_token_that_is_revoked_while_it_is_looked_at(desk: Desk) -> None:
    """However long that takes: it is judged when it is known whose it is."""
    connection = desk.admission.accept()
    socket = Socket(connection, "")
    socket.connect("soon")
    desk.revocations.add(Revocation("user:soon", 1, 2))
    await anyio.wait_all_tasks_blocked()
    assert socket.close_code == 4500
    assert len(desk.sessions) == 0


async def test_while_it_is_unknown_what_is_revoked(desk: Desk) -> None:
    """Nobody is let in, and no session extended; both may be tried again."""
    _, live = await desk.live("bob")
    desk.revocations.known = False
    _, socket = await desk.registering("alice")
    assert socket.close_code == 4001
    live.frames()
    live.say('{"type":"token","token":"bob"}')
    assert [json.loads(frame)["code"] for frame in live.frames()] == ["unavailable"]
    assert live.close_code is None


async def test_newer_tokens_are_looked_at_one_at_a_time(desk: Desk) -> None:
    """However many a client sends while auth is asked for the key of one."""
    connection, socket = await desk.live("alice")
    for token in ["never"] * 100 + ["alice"]:
        socket.say(f'{{"type":"token","token":"{token}"}}')
    await anyio.wait_all_tasks_blocked()
    assert desk.verifier.waiting == 1
    connection.unverifiable()
    assert [json.loads(frame)["type"] for frame in socket.frames()] == ["extended"]


async def test_who_sends_token_after_token_is_too_fast(desk: Desk) -> None:
    """Each check counts as a second's worth of frames; those that another replaces cost nothing and count as one."""
    _, socket = await desk.live("alice")
    told = 0
    while socket.close_code is None:
        socket.say('{"type":"token","token":"alice"}')
        told += sum('"extended"' in frame for frame in socket.frames())
    assert socket.close_code == 4005
    assert told <= 20  # ten in each window of ten seconds, of which the loop may see two


async def test_a_verifier_that_hangs_is_given_up(desk: Desk) -> None:
    """By the session's own deadline; its late answer is not heard."""
    connection, socket = await desk.registering("never")
    connection.sweep(time.monotonic() + Settings().connect_timeout_s, Pulse(1e9, 1e9))
    assert socket.close_code == 4001


async def test_who_judges_tokens_is_told_of_the_bearer() -> None:
    """By the headers that the settings name, for as long as the connection is there; for a connect frame as well."""
    named = ("User-Agent", "x-forwarded-for", "x-team")
    settings = Settings(auth_by="http", auth_callback_url="https://app.example/who", auth_callback_headers=named)
    async with anyio.create_task_group() as tasks:
        desk = Desk(tasks, settings)
        connection = desk.admission.accept()
        socket = Socket(connection, "?device=phone")
        socket.connect_in_a_frame("soon", {"User-Agent": "app", "X-Team": "a", "x-other": "b"})
        with anyio.fail_after(10):
            while not desk.verifier.bearers:
                await anyio.lowlevel.checkpoint()
        assert desk.verifier.bearers == [Bearer("203.0.113.7", {"user-agent": "app", "x-team": "a"}, {"device": "phone"})]
        assert list(desk.admission._bearers) == [connection]
        connection.connection_lost(None)
        assert not desk.admission._bearers
        tasks.cancel_scope.cancel()


async def test_who_judges_by_the_token_alone_keeps_nothing(desk: Desk) -> None:
    """Memory counts by the connection."""
    await desk.live("alice")
    assert not desk.admission._bearers
