"""edge.client against a server that says what the test wants: topics, and `all`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from websockets.asyncio.server import ServerConnection

from edge.client import (
    Client,
    FileCursors,
    Joined,
    Left,
    Members,
    MemoryCursors,
    Refused,
    Status,
    Subscribed,
    Unsubscribed,
)
from tests.integration.edges import eventually
from tests.integration.fake_edge import QUICK, WELCOME, FakeEdge, Listening, message, recording, scene, since_all, tokens

pytestmark = pytest.mark.anyio

SUBSCRIBED: Final = {"type": "subscribed", "topic": "news", "seq": 20}
UNSUBSCRIBED: Final = {"type": "unsubscribed", "topic": "news"}
FORBIDDEN: Final = {"type": "error", "code": "forbidden", "message": "subscribe: the token does not grant the topic news"}


def news(seq: int | None) -> dict[str, object]:
    """A message to the topic."""
    return message(seq, to="topic:news", body=f"news {seq}")


def answering(said: list[dict[str, Any]], head: int = 20) -> Any:  # noqa: ANN401 - a scene
    """Be an edge that answers wishes, and sends two messages with each `subscribed` and one with each `unsubscribed`."""

    async def play(_edge: FakeEdge, connection: ServerConnection) -> None:
        seq = head
        await connection.send(json.dumps(WELCOME))
        async for raw in connection:
            frame = json.loads(raw)
            said.append(frame)
            kind, answers = frame["type"], list[dict[str, object]]()
            if kind == "subscribe":
                answers = [SUBSCRIBED | {"seq": seq}, news(seq + 1), news(seq + 2)]
                seq += 2
            elif kind == "unsubscribe":
                answers = [news(seq + 1), {**UNSUBSCRIBED}]
                seq += 10
            for answer in answers:
                await connection.send(json.dumps(answer))

    return play


@pytest.mark.parametrize("as_header", [True, False])
async def test_topics_and_cursors_go_along(as_header: bool, tmp_path: Path) -> None:
    """Each connect says all that is wanted, and what the client has: the heads, then the last messages; all is kept."""
    scenes = (
        scene(WELCOME | {"seq": 7, "all": 9}, close=None),
        scene(WELCOME, SUBSCRIBED, message(10, to="all"), close=None),
        scene(WELCOME, SUBSCRIBED, news(20), news(21), news(None), close=None),
        scene(WELCOME, SUBSCRIBED | {"seq": 30}),
    )
    heard, kept = Listening(), FileCursors(tmp_path / "c")
    async with FakeEdge(*scenes).running() as edge:
        await heard.to(edge.url, topics=["news", "sport"], token_in_header=as_header, cursors=kept)
        assert [since_all(connect) for connect in edge.connects] == [
            {},
            {"user": 7, "all": 9},
            {"user": 7, "all": 10, "topic:news": 20},
            {"user": 7, "all": 10, "topic:news": 21},
        ]
        wanted = [
            "topics=news%2Csport" in connect["path"] or connect.get("topics") == ["news", "sport"] for connect in edge.connects
        ]
        assert wanted == [True] * 4
    assert heard.bodies == [10, "news 21", "news None"]
    assert Subscribed("news", 30) in heard.told
    assert await kept.load() == {"user:alice": 7, "all": 10, "topic:news": 21}


async def test_more_topics_than_an_address_has_room_for() -> None:
    """With the token in the header they follow the welcome, each with its cursor."""
    said: list[dict[str, Any]] = []
    topics = [f"{number:0100}" for number in range(128)]
    kept = MemoryCursors({f"topic:{topic}": 2**53 - 1 for topic in topics})
    async with (
        FakeEdge(recording(said, WELCOME)).running() as edge,
        Client([edge.url], tokens("t"), topics=topics, cursors=kept, token_in_header=True) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(anext, client)
        await eventually(lambda: len(said) == len(topics))
        tasks.cancel_scope.cancel()
        assert "topic" not in edge.connects[0]["path"]
    assert said == [{"type": "subscribe", "topic": topic, "since": 2**53 - 1} for topic in topics]


async def test_device_without_a_cursor_says_nothing_of_it() -> None:
    """Neither the head of all nor that of a topic is its cursor: the edge has one."""
    scenes = (
        scene(WELCOME | {"all": 9}, SUBSCRIBED, close=None),
        scene(WELCOME, SUBSCRIBED, news(25), close=None),
        scene(WELCOME),
    )
    async with FakeEdge(*scenes).running() as edge:
        await Listening().to(edge.url, topics=["news"], device="phone")
        assert [since_all(connect) for connect in edge.connects] == [{}, {}, {"topic:news": 25}]


async def test_edge_that_does_not_know_of_all() -> None:
    """An older one tells no head; the first message is the first cursor."""
    old = {name: value for name, value in WELCOME.items() if name != "all"}
    scenes = (scene(old, close=None), scene(old, message(5, to="all"), close=None), scene(old))
    async with FakeEdge(*scenes).running() as edge:
        await Listening().to(edge.url)
        assert [since_all(connect) for connect in edge.connects] == [{}, {"user": 0}, {"user": 0, "all": 5}]


async def test_topics_change_between_messages() -> None:
    """At once, from the iteration's own task: what was on its way is dropped, and who comes again begins now."""
    said: list[dict[str, Any]] = []
    told: list[Status] = []
    async with FakeEdge(answering(said)).running() as edge, Client([edge.url], tokens("t"), on_status=told.append) as client:
        with anyio.move_on_after(0.2):
            await anext(client)
        await client.subscribe("news")
        assert (await anext(client)).body == "news 21"
        await client.unsubscribe("news")
        await client.unsubscribe("news")
        await client.subscribe("news")
        assert [(await anext(client)).seq for _ in range(2)] == [33, 34]
    assert [frame["type"] for frame in said] == ["subscribe", "unsubscribe", "subscribe"]
    assert "since" not in said[-1]
    assert told[1:] == [Subscribed("news", 20), Unsubscribed("news"), Subscribed("news", 32)]


async def test_topics_change_while_the_iteration_waits() -> None:
    """Another task's wish goes out though nothing comes; one from before a session goes with its connect."""
    said: list[dict[str, Any]] = []
    got: list[int | None] = []
    async with (
        FakeEdge(answering(said)).running() as edge,
        Client([edge.url], tokens("t")) as client,
        anyio.create_task_group() as tasks,
    ):

        async def listen() -> None:
            async for received in client:
                got.append(received.seq)  # noqa: PERF401 - looked at before it is over

        await client.subscribe("art", since=3)
        tasks.start_soon(listen)
        await eventually(lambda: bool(edge.connects))
        await client.subscribe("news", since=0)
        await eventually(lambda: got == [21, 22])
        await client.unsubscribe("news")
        await eventually(lambda: said[-1] == {"type": "unsubscribe", "topic": "news"})
        tasks.cancel_scope.cancel()
    assert edge.connects[0]["topics"][0] == "art"
    assert since_all(edge.connects[0])["topic:art"] == 3
    assert got == [21, 22]


async def test_topic_given_up_is_acknowledged_and_forgotten() -> None:
    """What was handled of it goes before the farewell, to the edge; the store has no cursor of it any more."""
    said: list[dict[str, Any]] = []
    kept = MemoryCursors()
    async with FakeEdge(recording(said, WELCOME, SUBSCRIBED, news(21), news(22), message(1))).running() as edge:
        async with Client([edge.url], tokens("t"), topics=["news"], device="phone", cursors=kept, ack_interval_s=60) as client:
            assert [(await anext(client)).seq for _ in range(2)] == [21, 22]
            await client.unsubscribe("news")
            assert (await anext(client)).seq == 1
        await eventually(lambda: len(said) == 2)
    assert said == [{"type": "ack", "seq": 21, "to": "topic:news"}, {"type": "unsubscribe", "topic": "news"}]
    assert await kept.load() == {}


MEMBERS: Final = {"type": "members", "topic": "news", "users": ["ann", "bob"]}


async def test_who_else_hears_a_topic_is_told() -> None:
    """Asked for behind each welcome, with the topic's cursor; what is malformed, or of another topic, is passed over."""
    said: list[dict[str, Any]] = []
    told: list[Status] = []
    joined, left = ({"type": kind, "topic": "news", "user": "carol"} for kind in ("joined", "left"))
    others = [
        MEMBERS | {"users": 7},
        MEMBERS | {"users": [7]},
        MEMBERS | {"topic": "sport"},
        {"type": "joined", "topic": "news"},
    ]
    frames = [WELCOME, SUBSCRIBED, MEMBERS, *others, joined, left, news(21)]
    async with (
        FakeEdge(scene(*frames, close=4000), recording(said, *frames[:-1], news(22))).running() as edge,
        Client([edge.url], tokens("t"), topics=["art"], presence=["news"], on_status=told.append, pauses=QUICK) as client,
    ):
        assert [(await anext(client)).seq for _ in range(2)] == [21, 22]
        await eventually(lambda: bool(said))
    assert [connect["topics"] for connect in edge.connects] == [["art"], ["art"]]
    assert said == [{"type": "subscribe", "topic": "news", "since": 21, "presence": True}]
    presence = [Members("news", ("ann", "bob")), Joined("news", "carol"), Left("news", "carol")]
    assert [status for status in told if isinstance(status, Members | Joined | Left)] == presence * 2


async def test_presence_is_asked_for_and_given_up_with_the_topic() -> None:
    """At any time; what comes of it behind that is dropped."""
    said: list[dict[str, Any]] = []
    told: list[Status] = []
    async with (
        FakeEdge(recording(said, WELCOME, SUBSCRIBED, news(21), MEMBERS, message(1))).running() as edge,
        Client([edge.url], tokens("t"), topics=["news"], on_status=told.append) as client,
    ):
        await anext(client)
        await client.subscribe("news", presence=True)
        await client.unsubscribe("news")
        await client.subscribe("news")
        assert (await anext(client)).seq == 1
        await eventually(lambda: len(said) == 3)
    assert said == [
        {"type": "subscribe", "topic": "news", "since": 20, "presence": True},
        {"type": "unsubscribe", "topic": "news"},
        {"type": "subscribe", "topic": "news"},
    ]
    assert not [status for status in told if isinstance(status, Members)]


async def test_refused_topic_is_told_and_asked_for_again() -> None:
    """With each connection, for the next token may grant it; and when the application asks."""
    said: list[dict[str, Any]] = []
    heard = Listening()
    async with FakeEdge(scene(WELCOME, FORBIDDEN, close=4003), scene(WELCOME, SUBSCRIBED, news(21))).running() as edge:
        await heard.to(edge.url, topics=["news"], token=tokens("poor", "rich"))
        assert [connect["topics"] for connect in edge.connects] == [["news"], ["news"]]
    assert heard.told[1] == Refused("forbidden", "subscribe: the token does not grant the topic news")
    assert heard.bodies == ["news 21"]
    async with (
        FakeEdge(recording(said, WELCOME, FORBIDDEN, message(1))).running() as edge,
        Client([edge.url], tokens("t"), topics=["news"], pauses=QUICK) as client,
    ):
        await anext(client)
        await client.subscribe("news")
        await eventually(lambda: said == [{"type": "subscribe", "topic": "news"}])


@pytest.mark.parametrize("as_header", [True, False])
async def test_topic_that_was_not_asked_for(as_header: bool, tmp_path: Path) -> None:
    """Is heard, and what the client has of it is said at each connect, in a new process too; asked for it is never."""
    scenes = (
        scene(WELCOME, SUBSCRIBED, news(21), close=None),
        scene(WELCOME, SUBSCRIBED | {"seq": 30}, news(21), news(22), close=None),
        scene(WELCOME, message(1)),
    )
    heard, kept = Listening(), FileCursors(tmp_path / "c")
    async with FakeEdge(*scenes).running() as edge:
        for _ in range(2):
            await heard.to(edge.url, token_in_header=as_header, cursors=kept)
        assert [since_all(connect).get("topic:news") for connect in edge.connects] == [None, 21, 22, 22]
        assert not any("topics" in connect or "topics=" in connect["path"] for connect in edge.connects)
    assert heard.bodies[:2] == ["news 21", "news 22"]
    assert heard.told[1] == Subscribed("news", 20)


async def test_topic_that_is_taken_away() -> None:
    """One that was not asked for is forgotten, and begins anew when it is given again; one that is wanted stays so."""
    sport = news(5) | {"to": "topic:sport"}
    given = (SUBSCRIBED, news(21), UNSUBSCRIBED, SUBSCRIBED | {"topic": "sport", "seq": 4}, sport)
    scenes = (
        scene(WELCOME, *given, UNSUBSCRIBED | {"topic": "sport"}, close=None),
        scene(WELCOME, SUBSCRIBED | {"seq": 30}, news(25), news(31)),
    )
    heard = Listening()
    async with FakeEdge(*scenes).running() as edge:
        await heard.to(edge.url, topics=["sport"])
        assert [since_all(connect) for connect in edge.connects][1] == {"user": 0, "all": 0, "topic:sport": 5}
        assert [connect["topics"] for connect in edge.connects] == [["sport"], ["sport"]]
    assert [one.seq for one in heard.messages] == [21, 5, 31]
    assert [one for one in heard.told if isinstance(one, Unsubscribed)] == [Unsubscribed("news"), Unsubscribed("sport")]


async def test_given_topic_that_the_application_gives_up() -> None:
    """The session leaves it, and so does the next one that is given it; until the application wants it."""
    said: list[dict[str, Any]] = []
    again = recording(said, WELCOME, SUBSCRIBED, news(23), message(1))
    async with (
        FakeEdge(scene(WELCOME, SUBSCRIBED, news(21), news(22), close=None), again).running() as edge,
        Client([edge.url], tokens("t"), pauses=QUICK) as client,
    ):
        assert (await anext(client)).body == "news 21"
        await client.unsubscribe("news")
        assert (await anext(client)).seq == 1
        assert "topic:news" not in since_all(edge.connects[1])
        await eventually(lambda: said == [{"type": "unsubscribe", "topic": "news"}])
        await client.subscribe("news")
        await eventually(lambda: said[1:] == [{"type": "subscribe", "topic": "news"}])


async def test_more_given_topics_than_an_address_has_room_for() -> None:
    """With the token in the header as many go along as fit, the last ones."""
    kept = MemoryCursors({f"topic:{number:0100}": 2**53 - 1 for number in range(128)})
    async with FakeEdge(scene(WELCOME)).running() as edge:
        await Listening().to(edge.url, cursors=kept, token_in_header=True)
        assert 1_000 < len(edge.connects[0]["path"]) < 4_096
        assert list(since_all(edge.connects[0]))[-1] == f"topic:{127:0100}"


async def test_outside_its_context_nothing_is_subscribed() -> None:
    """Its cursors would not be loaded; and a name that is none is the application's mistake."""
    client = Client(["ws://e"], tokens("t"))
    with pytest.raises(RuntimeError, match="async with Client"):
        await client.subscribe("news")
    with pytest.raises(RuntimeError, match="async with Client"):
        await client.unsubscribe("news")
    with pytest.raises(ValueError, match="is no topic"):
        Client(["ws://e"], tokens("t"), topics=["a b"])
