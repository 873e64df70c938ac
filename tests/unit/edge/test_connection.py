"""edge.connection and edge.admission: a client's bytes in, a client's bytes out, on a transport that only keeps them."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from prometheus_client import REGISTRY
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from edge import kicked, replaced
from edge.admission import Admission
from edge.closes import Close
from edge.connection import Connection
from edge.cursors import Waiter as CursorWaiter
from edge.delivery import Delivery
from edge.feed import Feed, Hearing
from edge.frames import text_frame
from edge.gate import Gate
from edge.handshake import Handshake
from edge.heads import Tell
from edge.ledger import Waiter
from edge.liveness import Pulse
from edge.position import Outlet, Position
from edge.session import Session
from edge.sessions import Sessions
from router.auth.bearer import NOBODY, Bearer
from router.auth.tokens import Claims
from router.cursors import CursorKey
from router.errors import KeysUnavailable, TokenExpired, TokenRefused
from router.lines import build_frame, build_line
from router.revocation import Revocation, Revocations
from router.settings import Settings
from router.targets import ALL
from tests.unit.edge.outlets import feed

pytestmark = pytest.mark.anyio

NODE = "edge-1.k3f9"


class Socket(asyncio.Transport):
    """The socket between one connection and a client, both in this process."""

    def __init__(self, connection: Connection, query: str = "") -> None:
        super().__init__()
        self.ended = ""
        self.reading = True
        self.waiting = 0
        self._connection = connection
        self._client = ClientProtocol(parse_uri(f"ws://localhost/v1/connect{query}"))
        connection.connection_made(self)

    # -- what a connection calls -------------------------------------------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        """Tell what a test says is."""
        return self.waiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Let the client read it, unless uvloop would refuse to write."""
        assert self.ended not in {"eof", "lost"}, data
        self._client.receive_data(bytes(data))
        assert self._client.parser_exc is None

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Tell where the client is."""
        return ("203.0.113.7", 4711) if name == "peername" else default

    def pause_reading(self) -> None:
        """What the client sends from now on waits in the kernel."""
        self.reading = False

    def resume_reading(self) -> None:
        """And is read from there."""
        self.reading = True

    def is_reading(self) -> bool:
        """Tell whether the connection still wants to read."""
        return self.reading

    def is_closing(self) -> bool:
        """Tell whether it was closed, as opposed to half-closed."""
        return self.ended in {"closed", "cut", "lost"}

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def write_eof(self) -> None:
        """Note it."""
        self.ended = "eof"

    def close(self) -> None:
        """Note it."""
        self.ended = "closed"

    def abort(self) -> None:
        """Note it."""
        self.ended = "cut"

    # -- what a client does ------------------------------------------------------------------------------------------

    def connect(self, token: str) -> None:
        """Send the request."""
        request = self._client.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        self._client.send_request(request)
        self.pump()

    def connect_in_a_frame(self, token: str, headers: Mapping[str, str]) -> None:
        """Send the request with headers, and the token behind it."""
        request = self._client.connect()
        for name, value in headers.items():
            request.headers[name] = value
        self._client.send_request(request)
        self.pump()
        self.say(f'{{"type":"connect","token":"{token}"}}')

    def connect_hastily(self, frame: bytes) -> None:
        """Send the request and a frame behind it in one piece, without waiting for the answer."""
        self._client.send_request(self._client.connect())
        self._connection.data_received(b"".join(self._client.data_to_send()) + frame)
        self.pump()

    def say(self, text: str) -> None:
        """Send a frame."""
        self._client.send_text(text.encode())
        self.pump()

    def pump(self) -> None:
        """Send what the client has to send."""
        for data in self._client.data_to_send():
            self._connection.data_received(data)

    def lose(self) -> None:
        """Have what the client has to send get nowhere."""
        self._client.data_to_send()

    def end(self) -> None:
        """Say that nothing more will be sent, without a close frame before; the socket is not gone yet."""
        self._connection.eof_received()

    def reset(self) -> None:
        """Be gone, without an EOF first."""
        self.ended = "lost"
        self._connection.connection_lost(ConnectionResetError())

    def frames(self) -> list[str]:
        """Return the text or close frames that came since the last call."""
        events = self._client.events_received()
        return [
            str(Frame(event.opcode, event.data)) if event.opcode > 2 else bytes(event.data).decode()
            for event in events
            if isinstance(event, Frame)
        ]

    @property
    def close_code(self) -> int | None:
        """The code that the edge closed with."""
        return None if self._client.close_rcvd is None else self._client.close_rcvd.code


class FakeVerifier:
    """A token is its user, or what happens to it.

    Attributes:
        bearers: of tokens that took a while.
    """

    def __init__(self) -> None:
        self.bearers: list[Bearer] = []

    waiting = 0

    def verify_at_once(self, token: str) -> Claims | None:
        """Return or raise, but for those that take a while."""
        match token:
            case "bad":
                raise TokenRefused("no")
            case "old":
                raise TokenExpired("no more")
            case "later" | "never" | "soon":
                return None
        return Claims(user=token, expires_at=int(time.time()) + 600, topics=("*",), jti="j")

    async def verify(self, token: str, bearer: Bearer = NOBODY) -> Claims:
        """Take that while."""
        self.bearers.append(bearer)
        match token:
            case "later":
                raise KeysUnavailable("wait")
            case "never":
                self.waiting += 1
                await anyio.sleep_forever()
        return Claims(user=token, expires_at=int(time.time()) + 600, topics=("*",), jti="j")


class KeptRevocations(Revocations):
    """Those that a test adds."""

    known = True


class KeptRoutes:
    """Keeps what is to be written."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, Waiter | None]] = []
        self.come: list[str] = []

    def write(self, user: str, waiter: Waiter | None = None, come: str = "") -> None:
        """Keep it."""
        self.writes.append((user, waiter))
        self.come.append(come)

    def withdraw(self, user: str, waiter: Waiter) -> None:
        """Keep the write, but nobody to tell."""
        self.writes = [(whose, None if (whose, told) == (user, waiter) else told) for whose, told in self.writes]

    def answer(self, head: int | None, at_us: int = 1) -> None:
        """Answer all that wait."""
        for _, waiter in self.writes:
            if waiter is not None:
                waiter(head, at_us)
        self.writes.clear()


class FakeHeads:
    """Knows the newest of everybody, or nothing."""

    def __init__(self) -> None:
        self.newest: int | None = 77

    def ask(self, target: str, tell: Tell, above: int = 0) -> None:
        """Tell the same for each, at once."""
        assert target.startswith("user:")
        assert above == 0
        tell(self.newest)


class FakeCursors:
    """Remembers what it is told, and answers when the test says so."""

    def __init__(self) -> None:
        self.seqs: dict[CursorKey, int] = {}
        self.hastened: list[CursorKey] = []
        self.waiters: dict[CursorWaiter, Mapping[CursorKey, int]] = {}

    def find(self, begin_at: Mapping[CursorKey, int], waiter: CursorWaiter) -> None:
        """Keep who asks."""
        self.waiters[waiter] = begin_at

    def withdraw(self, waiter: CursorWaiter) -> None:
        """Forget who asked."""
        self.waiters.pop(waiter, None)

    def note(self, key: CursorKey, seq: int) -> None:
        """Remember."""
        self.seqs[key] = seq

    def hasten(self, key: CursorKey) -> None:
        """Remember."""
        self.hastened.append(key)

    def answer(self) -> None:
        """Answer all that wait."""
        for waiter, begin_at in list(self.waiters.items()):
            waiter({key: self.seqs.setdefault(key, seq) for key, seq in begin_at.items()})
        self.waiters.clear()


class FakeFeeds:
    """Every feed may be joined at once; nothing tells whether anybody publishes."""

    def __init__(self, audiences: MutableMapping[bytes, list[Position]]) -> None:
        self.audiences = audiences
        self.feeds: dict[str, Feed] = {}
        self.keep(ALL)

    def keep(self, target: str) -> None:
        """Have a feed stand."""
        self.feeds[target] = feed(target)
        self.audiences[target.encode()] = self.feeds[target].audience

    def hear(self, target: str, outlet: Outlet, tell: Callable[[Feed], None]) -> None:
        """Tell at once."""
        del outlet
        if target not in self.feeds:
            self.keep(target)
        tell(self.feeds[target])

    def withdraw(self, target: str, outlet: Outlet) -> None:
        """Nobody waits."""

    def leave(self, hearing: Hearing) -> None:
        """Leave."""
        hearing.feed.leave(hearing)


class FakeStanding:
    """Keeps who is to be looked up.

    Attributes:
        users: in the order of their asking.
    """

    def __init__(self) -> None:
        self.users: list[str] = []

    def look(self, user: str) -> None:
        """Keep a user."""
        self.users.append(user)

    def withdraw(self, user: str) -> None:
        """Forget a user."""
        self.users = [one for one in self.users if one != user]


class Desk:
    """An admission with fakes around it."""

    def __init__(self, tasks: TaskGroup, settings: Settings) -> None:
        self.sessions = Sessions[Connection](settings.sessions_user_max)
        self.routes = KeptRoutes()
        self.behind: list[tuple[Position, bool]] = []
        self.heads = FakeHeads()
        heads: Any = self.heads
        self.cursors = FakeCursors()
        cursors: Any = self.cursors
        catch_up: Any = self
        self.verifier = FakeVerifier()
        self.revocations = KeptRevocations()
        self.feeds = FakeFeeds(self.sessions.feeds)
        feeds: Any = self.feeds
        self.standing = FakeStanding()
        standing: Any = self.standing
        self.watched: list[tuple[str, Outlet]] = []
        watching: Any = self
        self.admission = Admission(
            settings,
            NODE,
            self.sessions,
            self.routes,
            self.verifier,
            self.revocations,
            heads,
            feeds,
            cursors,
            standing,
            catch_up,
            watching,
            tasks,
            Gate(settings, 1_000, 0.0),
        )
        notices = {
            replaced.WORD: partial(replaced.hear, self.sessions.find),
            kicked.WORD: partial(kicked.hear, self.sessions),
        }
        self.delivery = Delivery(self.sessions.audiences, self.ask, notices=notices)

    def ask(self, position: Position, *, announce: bool = False) -> None:
        """Keep who is behind."""
        self.behind.append((position, announce))

    def watch(self, topic: str, outlet: Outlet) -> None:
        """Keep who watches."""
        self.watched.append((topic, outlet))

    def forget(self, position: Position) -> None:
        """Keep who is behind and still there."""
        self.behind = [one for one in self.behind if one[0] is not position]

    async def registering(self, token: str, device: str = "") -> tuple[Connection, Socket]:
        """Return a connection whose token has been looked at."""
        connection = self.admission.accept()
        socket = Socket(connection, f"?device={device}" if device else "")
        socket.connect(token)
        await anyio.wait_all_tasks_blocked()
        return connection, socket

    async def live(self, user: str, head: int = 0) -> tuple[Connection, Socket]:
        """Return a connection that has had its welcome."""
        connection, socket = await self.registering(user)
        self.routes.answer(head)
        assert '"welcome"' in socket.frames()[0]
        return connection, socket

    async def live_device(self, user: str, device: str, at_us: int = 1) -> tuple[Connection, Socket]:
        """Return a connection of a device that has had its welcome, and whose client has not answered the challenge yet."""
        connection, socket = await self.registering(user, device)
        self.routes.answer(5, at_us)
        self.cursors.answer()
        assert '"welcome"' in socket.frames()[0]
        return connection, socket

    def publish(self, user: str, prev: int, seq: int) -> None:
        """Deliver a message."""
        frame = build_frame(f"user:{user}", seq, "m", 0, '"text":"x"')
        self.delivery.receive([build_line(f"user:{user}", prev, seq, None, frame).encode()])


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Yield an admission with the default settings."""
    async with anyio.create_task_group() as tasks:
        yield Desk(tasks, Settings())
        tasks.cancel_scope.cancel()


def seqs(frames: list[str]) -> list[int]:
    """Return the seqs in message frames."""
    return [int(frame.partition('"seq":')[2].partition(",")[0]) for frame in frames if '"message"' in frame]


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


def masked(opcode: Opcode, data: bytes) -> bytes:
    """Return a client's frame."""
    return Frame(opcode, data).serialize(mask=True)


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
