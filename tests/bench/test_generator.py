"""The load generator: nothing escapes its checks, and nothing is wrong with what a real system delivers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.bench.compiled import NoCompilerError, has_compiler, program
from tests.bench.dialect import PUSHWAY, body_text, redis_command, stamped, user_name
from tests.bench.generator import Generator, GeneratorFailed, Ran
from tests.bench.replay import store_messages
from tests.bench.stand import TOPIC, Stand
from tests.bench.stores import NullStore
from tests.servers import free_ports

pytestmark = pytest.mark.skipif(not has_compiler(), reason="the load generator is C, and there is no C compiler here")

USERS = 4
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

Disturb = Callable[[list[bytes]], list[bytes]]
"""Takes the frames of all messages so far whose turn has come, and returns those to send; see `FakeSystem`."""


def frame(payload: bytes) -> bytes:
    """Return a text frame of less than 64 KiB."""
    size = len(payload).to_bytes(1, "big") if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    return b"\x81" + size + payload


class FakeSystem:
    """Redis and edge in one: what is appended is written to its user, three messages at a time, after `disturb`."""

    def __init__(self, disturb: Disturb) -> None:
        self.edge, self.redis = free_ports(2), 0
        self.redis = self.edge + 1
        self._disturb = disturb
        self._users: dict[bytes, asyncio.StreamWriter] = {}
        self._waiting: dict[bytes, list[bytes]] = {}

    async def serve(self, ready: Event, end: asyncio.Event) -> None:
        """Serve until the end."""
        edge = await asyncio.start_server(self._seat, "127.0.0.1", self.edge)
        redis = await asyncio.start_server(self._take, "127.0.0.1", self.redis)
        ready.set()
        await end.wait()
        for server in (edge, redis):
            server.close()
        for writer in self._users.values():
            writer.close()

    async def _seat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        user = re.search(rb"Bearer (\S+)", request)
        assert user is not None
        self._users[b"user:" + user[1]] = writer
        writer.write(UPGRADED + frame(b'{"type":"welcome"}'))
        await reader.read()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            self._deliver(words[4], words[6])
            writer.write(b"$3\r\n0-1\r\n")
        writer.close()

    def _deliver(self, target: bytes, body: bytes) -> None:
        if target == b"all":
            for writer in self._users.values():
                writer.write(frame(b'{"body":' + body + b"}"))
            return
        waiting = self._waiting.setdefault(target, [])
        waiting.append(frame(b'{"type":"message","body":' + body + b"}"))
        if len(waiting) == 3:
            self._users[target].write(b"".join(self._disturb(waiting)))
            waiting.clear()


@contextmanager
def fake(disturb: Disturb) -> Iterator[FakeSystem]:
    """Run a fake system in a thread."""
    system, ready, end = FakeSystem(disturb), Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_until_complete, args=(system.serve(ready, end),))
    thread.start()
    ready.wait()
    try:
        yield system
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def any_stream(body: str, _transient: bool) -> list[bytes]:
    """Return what is appended to some stream."""
    return [redis_command("XADD", "any", "*", "to", f"user:{user_name(0)}", "body", body)]


def to_all(body: str, _transient: bool) -> list[bytes]:
    """Return what is appended for everybody."""
    return [redis_command("XADD", "any", "*", "to", "all", "body", body)]


@contextmanager
def audience(system: FakeSystem) -> Iterator[Generator]:
    """Yield a generator whose users are connected."""
    names = [user_name(number) for number in range(USERS)]
    with Generator(PUSHWAY, f"127.0.0.1:{system.redis}", [f"127.0.0.1:{system.edge}"], names) as generator:
        generator.connect(USERS)
        yield generator


def run_on(disturb: Disturb) -> Ran:
    """Return what the generator says of a system that disturbs."""
    with fake(disturb) as system, audience(system) as generator:
        # Three outstanding: no more comes before the three are there, whatever becomes of them.
        return generator.saturate(any_stream, outstanding=3, seconds=0.2)


def test_all_is_well() -> None:
    """Of what comes once and in order, all is counted and nothing blamed."""
    ran = run_on(lambda frames: frames)
    assert ran.faults == ""
    assert ran.received == ran.sent > USERS * 3


def test_lost() -> None:
    """A frame that does not come is missed, one behind which others came as well as the last one."""
    ran = run_on(lambda frames: [frames[0], frames[2]])
    assert ran.lost >= USERS
    assert (ran.received, ran.duplicated, ran.out_of_order) == (ran.sent - ran.lost, 0, 0)


def test_duplicated() -> None:
    """A frame that comes twice is counted once, and the second time blamed."""
    ran = run_on(lambda frames: [*frames, frames[1]])
    assert (ran.lost, ran.out_of_order) == (0, 0)
    assert ran.duplicated == ran.received // 3


def test_a_message_that_was_given_up_is_no_duplicate_later() -> None:
    """What a slow system delivers after its run was over is lost there, and nothing to the next run; twice is twice."""
    held: dict[int, list[bytes]] = {}

    def hold_the_first(frames: list[bytes]) -> list[bytes]:
        whose = id(frames)  # each user's list is one and the same
        if whose not in held:
            held[whose] = frames.copy()
            return []
        late, held[whose] = held[whose], []
        return [*late, *late[:1], *frames]

    with fake(hold_the_first) as system, audience(system) as generator:
        slow = generator.saturate(any_stream, outstanding=3, seconds=0.2)
        quick = generator.saturate(any_stream, outstanding=3, seconds=0.2)
    assert (slow.received, slow.lost) == (0, USERS * 3)
    assert (quick.lost, quick.out_of_order, quick.received) == (0, 0, quick.sent)
    assert quick.duplicated == USERS


def test_out_of_order() -> None:
    """A frame that another has overtaken is neither lost nor doubled, and blamed."""
    ran = run_on(lambda frames: [frames[1], frames[0], frames[2]])
    assert (ran.lost, ran.duplicated) == (0, 0)
    assert ran.out_of_order == ran.received // 3


def test_cut_off() -> None:
    """A connection that breaks is counted, and what it should have had is lost."""
    ran = run_on(lambda _: [b"\x88\x02\x0f\xa2"])
    assert ran.closed == USERS
    assert ran.lost == ran.sent


def test_garbage() -> None:
    """What is no frame of a server ends the run: its figures would mean nothing."""
    with pytest.raises(GeneratorFailed, match="divided or masked"):
        run_on(lambda _: [b"\x81\x80...."])


def test_to_all() -> None:
    """A message to all is one delivery a user, and the next goes out when everybody has it."""
    with fake(lambda frames: frames) as system, audience(system) as generator:
        generator.saturate(any_stream, outstanding=3, seconds=0.1)
        ran = generator.saturate(to_all, outstanding=2, seconds=0.2, to_all=1)
    assert ran.faults == ""
    assert ran.received == ran.sent > USERS * 2
    assert ran.sent % USERS == 0
    assert ran.last_us.p50 >= ran.latency_us.p50 > 0


def test_bodies_have_the_size_that_is_asked_for() -> None:
    """A body is JSON of so many bytes with a stamp in it; one that has no room for a stamp is refused."""
    assert len(body_text(1_000)) == 1_000
    assert json.loads(stamped(body_text(), 7))["text"].startswith("#n=0000000007;at=")
    with pytest.raises(ValueError, match="at least 49 bytes"):
        body_text(48)


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a compiler, it is said which one is missing and how to get it."""
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NoCompilerError, match=r"no-such-compiler is not installed.*gcc"):
        program("load")


@pytest.mark.parametrize(("lane", "transient"), [("fast", 0), ("in", 1), ("in", 0)], ids=["fast", "transient", "durable"])
def test_a_real_system(stand: Stand, lane: str, transient: int) -> None:
    """Every lane of a whole system delivers each message once and in order, under load and at a fixed rate."""
    with stand.generator(users=50) as generator:
        generator.connect(50)
        stream = stand.stream(lane)
        saturated = generator.saturate(stream, outstanding=4, seconds=1.0, transient=transient)
        dripped = generator.drip(stream, rate=200, seconds=1.0, transient=transient)
    for ran in (saturated, dripped):
        assert (ran.faults, ran.refused) == ("", 0)
        assert ran.received == ran.sent > 50


@pytest.mark.parametrize("lane", ["fast all", f"fast topic:{TOPIC}", "in all"])
def test_a_real_system_fans_out(stand: Stand, lane: str) -> None:
    """What goes to a topic or to all comes to each connection once and in order, with one or several under way."""
    with stand.generator(50, TOPIC) as generator:
        generator.connect(50)
        for outstanding in (1, 8):
            ran = generator.saturate(stand.stream(lane), outstanding, seconds=0.3, to_all=1)
            assert (ran.faults, ran.refused) == ("", 0)
            assert ran.received == ran.sent > 50 * outstanding


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield a system whose store keeps nothing."""
    with Stand(tmp_path_factory.mktemp("stand"), store=NullStore) as stand:
        yield stand


def test_what_was_missed_comes_from_the_store(tmp_path: Path) -> None:
    """A client that comes back is given each message it is owed; one that is owed more misses that."""
    with Stand(tmp_path) as stand:
        store_messages(stand.settings, user_name(0), 2_000)
        for owed in (2_000, 2_001):
            with stand.generator(1) as generator:
                generator.connect(1, query="since=0", owed=owed)
                came = generator.replayed()
            assert (came.received, came.lost) == (2_000, owed - 2_000)
            assert (came.duplicated, came.out_of_order) == (0, 0)
