"""The commands for what a back end asks and orders, as they are typed, against all of Pushway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from edge.client import SUBPROTOCOL
from tests.e2e.command_line import run
from tests.servers import wait_until
from tests.stack import Stack

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with two edges."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


class Client:
    """A connection that has been welcomed."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.session: str = self.until("welcome")["session"]

    def until(self, kind: str) -> dict[str, Any]:
        """Return the next frame of this type."""
        while True:
            frame: dict[str, Any] = json.loads(self._connection.recv(PATIENCE_S))
            if frame["type"] == kind:
                return frame

    def closed(self) -> tuple[int | None, str | None]:
        """Return the code and the reason with which the edge ends it."""
        with suppress(ConnectionClosed):
            while True:
                self._connection.recv(PATIENCE_S)
        return self._connection.close_code, self._connection.close_reason


MakeClient = Callable[..., Client]


@pytest.fixture
def client(stack: Stack) -> Iterator[MakeClient]:
    """Yield what makes clients, which leave at the end."""
    with ExitStack() as leaving:

        def make(user: str, edge: int = 0, **query: str) -> Client:
            connecting = connect(
                f"{stack.edge_urls[edge]}?{urlencode(query)}",
                subprotocols=[SUBPROTOCOL],
                additional_headers={"Authorization": f"Bearer {stack.token(user, topics=['room*'])}"},
                proxy=None,
            )
            return Client(leaving.enter_context(connecting))

        yield make


def _json(stack: Stack, *words: str) -> Any:  # noqa: ANN401 - JSON
    done = run(stack, *words, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def test_history_of_a_topic(stack: Stack) -> None:
    """What `send` has appended, page by page, for several targets at once."""
    for number in range(3):
        assert run(stack, "send", "topic:tale,all,user:ann", f'{{"n":{number}}}', "--id", f"n{number}").returncode == 0
    wait_until(lambda: len(_json(stack, "history", "topic:tale")["messages"]) == 3, "all is stored")
    first = _json(stack, "history", "topic:tale", "--limit", "2")
    assert [one["body"]["n"] for one in first["messages"]] == [0, 1]
    rest = _json(stack, "history", "topic:tale", "--after", str(first["next"]))
    assert ([one["body"]["n"] for one in rest["messages"]], rest["next"], rest["target"]) == ([2], None, "topic:tale")
    printed = run(stack, "history", "topic:tale", "--limit", "2")
    assert f"--after {first['next']}" in printed.stderr
    assert printed.stdout.splitlines()[1].endswith('n0  {"n":0}')
    for target in ("all", "user:ann"):
        assert len(_json(stack, "history", target)["messages"]) == 3
    nothing = run(stack, "history", "user:nobody")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert run(stack, "history", "ann").returncode == 2


def test_presence_of_many(stack: Stack, client: MakeClient) -> None:
    """Who is there, with nodes and devices; who is not."""
    client("pat", device="phone")
    found = _json(stack, "presence", "pat", "nobody")
    assert [(one["user"], one["online"]) for one in found] == [("pat", True), ("nobody", False)]
    assert [tuple(node["devices"]) for node in found[0]["nodes"]] == [("phone",)]
    lines = run(stack, "presence", "pat", "nobody").stdout.splitlines()
    assert "(phone)" in lines[1]
    assert lines[2].split() == ["nobody", "no", "-", "-"]
    assert run(stack, "presence", "a b").returncode == 2


def test_members_on_both_edges(stack: Stack, client: MakeClient) -> None:
    """Counted over them; nobody where nobody is."""
    for edge in (0, 1):
        client("may", edge, topics="room-1").until("subscribed")
    client("moe", 1, topics="room-1").until("subscribed")
    found = _json(stack, "members", "room-1")
    assert found["users"] == [{"user": "may", "sessions": 2}, {"user": "moe", "sessions": 1}]
    assert (found["users_total"], found["sessions"], found["edges"], found["complete"]) == (2, 3, 2, True)
    printed = run(stack, "members", "room-1", "--limit", "1")
    assert (printed.stdout.split(), "2 users, 3 sessions" in printed.stderr) == (["USER", "SESSIONS", "may", "2"], True)
    assert "no edge hears it" in run(stack, "members", "room-none").stderr


def test_subscribing_a_user_who_is_there(stack: Stack, client: MakeClient) -> None:
    """The session is told, though its token does not grant the topic; both may be repeated."""
    sue = client("sue")
    assert run(stack, "subscribe", "sue", "news").stdout == "sue hears news\n"
    assert sue.until("subscribed")["topic"] == "news"
    assert _json(stack, "subscribe", "sue", "news") == {"user": "sue", "topic": "news", "new": False}
    assert run(stack, "topics", "sue").stdout == "news\n"
    assert run(stack, "unsubscribe", "sue", "news").stdout == "sue hears news no more\n"
    assert sue.until("unsubscribed")["topic"] == "news"
    assert _json(stack, "unsubscribe", "sue", "news")["stood"] is False
    assert _json(stack, "topics", "sue") == {"user": "sue", "topics": []}


def test_disconnecting_with_a_code(stack: Stack, client: MakeClient) -> None:
    """A device, a session, then whoever is left; each client has the code and the reason as they were given."""
    phone, plain, other = client("dee", 0, device="phone"), client("dee", 1), client("dee", 0)
    words = ("--code", "4710", "--reason", "signed out: ü 🙂")
    assert len(_json(stack, "disconnect", "dee", "--device", "phone", *words)["nodes"]) == 2
    assert phone.closed() == (4710, "signed out: ü 🙂")
    run(stack, "disconnect", "dee", "--session", plain.session, "--code", "4000", "--reason", "moved")
    assert plain.closed() == (4000, "moved")
    assert "edge-1." in run(stack, "disconnect", "dee").stdout
    assert other.closed() == (4502, "kicked: the sessions were ended by the service")
    wait_until(lambda: _json(stack, "disconnect", "dee")["nodes"] == [], "nobody is left")
    for wrong in (("--code", "3999"), ("--reason", "ü" * 62), ("--device", "a b")):
        assert run(stack, "disconnect", "dee", *wrong).returncode == 2


def test_a_message_that_waits_is_called_back(stack: Stack) -> None:
    """Sent for later, told of, taken back; a second time there is nothing to take back."""
    in_an_hour = str(time.time_ns() // 1_000_000 + 3_600_000)
    done = run(stack, "send", "user:cat,user:dog", '"dinner"', "--id", "dinner", "--at", in_an_hour, "--collapse", "meal")
    assert done.returncode == 0
    wait_until(lambda: run(stack, "cancel", "dinner").stdout == "dinner is not sent to 2 targets\n", "it waits")
    again = run(stack, "cancel", "dinner")
    assert (again.returncode, "no message dinner waits" in again.stderr) == (1, True)
    assert _json(stack, "history", "user:cat")["messages"] == []


def test_what_send_refuses(stack: Stack) -> None:
    """By the rules that collect has, and before anything is appended."""
    for wrong in (
        ("--at", "tomorrow"),
        ("--at", "2099-01-01T00:00:00Z"),
        ("--at", "5", "--transient"),
        ("--collapse", "a b"),
        ("--exclude", "phone"),
        ("--at", str(time.time_ns() // 1_000_000 + 60_000), "--trace"),
    ):
        done = run(stack, "send", "user:eve", "1", *wrong)
        assert (done.returncode, done.stdout) == (2, ""), wrong
