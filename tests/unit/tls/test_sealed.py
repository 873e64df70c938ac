"""router.tls.sealed: what goes in comes out, however the bytes are cut, and every end is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.crowd import A_PASS, Turns
from router.metrics import TLS_FAILED
from router.tls.certificate import read_pair
from router.tls.sealed import Sealed
from tests.certificates import Authority


class Above(asyncio.Protocol):
    """A protocol that notes what it is told."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.got = b""
        self.told: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        """Note it."""
        self.got += data

    def eof_received(self) -> bool:
        """Note it; have the connection closed."""
        self.told.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self.told.append(f"lost {exc}")


class Socket(asyncio.Transport):
    """A socket of which nothing leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.ends: list[str] = []
        self.reading = True

    def is_reading(self) -> bool:
        """Tell whether what comes is handed on."""
        return self.reading

    def pause_reading(self) -> None:
        """Note it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it."""
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.sent += data

    def can_write_eof(self) -> bool:
        """As TCP."""
        return True

    def write_eof(self) -> None:
        """Note it."""
        self.ends.append("eof")

    def close(self) -> None:
        """Note it."""
        self.ends.append("close")

    def abort(self) -> None:
        """Note it."""
        self.ends.append("abort")

    def is_closing(self) -> bool:
        """Tell whether it was closed."""
        return bool({"close", "abort"} & {*self.ends})


NO_CROWD = Turns(lambda call: call())
"""Nobody waits for a turn."""


class Talk:
    """A client of TLS, and the server under test."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, turns: Turns = NO_CROWD) -> None:
        self.above, self.socket, self.overhead = Above(), Socket(), 0
        self.sealed = Sealed(self.above, server, turns, self._note)
        self.sealed.connection_made(self.socket)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.incoming, self.outgoing, server_hostname="h")

    def _note(self, size: int) -> None:
        self.overhead += size

    def shake(self, cut: int = 1 << 20) -> None:
        """Carry out the handshake, in pieces of so many bytes."""
        for _ in range(4):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.carry(cut)
            else:
                self.carry(cut)
                return
        raise AssertionError("no end of it")

    def carry(self, cut: int = 1 << 20) -> None:
        """Carry what either side has said to the other."""
        said = self.outgoing.read()
        for begin in range(0, len(said), cut):
            self.sealed.data_received(said[begin : begin + cut])
        self.incoming.write(bytes(self.socket.sent))
        self.socket.sent.clear()

    def heard(self) -> bytes:
        """Return what the client hears."""
        self.carry()
        heard = b""
        try:
            while piece := self.client.read():
                heard += piece
        except ssl.SSLWantReadError:
            pass
        return heard


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context, and that of a client that trusts it."""
    authority = Authority(tmp_path_factory.mktemp("ca"))
    return read_pair(*authority.issue("h")).context, authority.trust


@pytest.fixture
def talk(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Talk:
    """Return a client and a server before the handshake."""
    return Talk(*contexts)


@pytest.fixture
def open_talk(talk: Talk) -> Iterator[Talk]:
    """Yield them after it."""
    talk.shake()
    yield talk
    assert talk.above.told[0] == "made"


def test_the_protocol_is_told_before_the_handshake(talk: Talk) -> None:
    """So it can count the connection, and cut it off; it can find out who that is, and that there is TLS."""
    assert talk.above.told == ["made"]
    assert talk.above.transport.get_extra_info("sslcontext") is not None
    talk.above.transport.write(b"too early")
    assert not talk.socket.sent
    talk.above.transport.abort()
    assert talk.socket.ends == ["abort"]


@given(data=st.data())
def test_what_goes_in_comes_out(contexts: tuple[ssl.SSLContext, ssl.SSLContext], data: st.DataObject) -> None:
    """Both ways, in any sizes, over any cuts of the bytes between."""
    talk = Talk(*contexts)
    talk.shake(data.draw(st.integers(1, 3_000)))
    sizes = data.draw(st.lists(st.integers(1, 40_000), max_size=5))
    to_server = [bytes([n]) * size for n, size in enumerate(sizes)]
    for said in to_server:
        talk.client.write(said)
        talk.carry(data.draw(st.integers(100, 100_000)))
    assert talk.above.got == b"".join(to_server)
    to_client = [bytes([n]) * size for n, size in enumerate(reversed(sizes))]
    for said in to_client:
        talk.above.transport.write(said)
    assert talk.heard() == b"".join(to_client)


def test_what_comes_with_the_end_of_the_handshake_is_heard(talk: Talk) -> None:
    """A client may send its request with its last word of the handshake."""
    with pytest.raises(ssl.SSLWantReadError):
        talk.client.do_handshake()
    talk.carry()
    talk.client.do_handshake()
    talk.client.write(b"GET")
    talk.carry()
    assert talk.above.got == b"GET"


def test_bytes_that_carry_nothing_are_told(open_talk: Talk) -> None:
    """Else a client could have us compute without end, and pay for nothing."""
    open_talk.client.write(b"x" * 1_000)
    open_talk.carry()
    assert open_talk.overhead >= 22  # a record's header and seal
    assert open_talk.above.got == b"x" * 1_000


def test_farewell_is_an_end(open_talk: Talk) -> None:
    """And is answered by one: what came before is heard first."""
    open_talk.client.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        open_talk.client.unwrap()
    open_talk.carry()
    assert open_talk.above.got == b"last words"
    assert open_talk.above.told == ["made", "eof"]
    assert open_talk.socket.ends == ["close"]
    open_talk.client.unwrap()  # our farewell has come


def test_end_without_a_farewell_is_an_end_too(open_talk: Talk) -> None:
    """As when a process dies; a second one is told to nobody."""
    assert not open_talk.sealed.eof_received()
    assert not open_talk.sealed.eof_received()
    assert open_talk.above.told == ["made", "eof"]


def test_our_side_may_end_alone(open_talk: Talk) -> None:
    """The other can read all of it, and then the farewell."""
    open_talk.above.transport.write(b"bye")
    open_talk.above.transport.write_eof()
    open_talk.above.transport.write(b"nothing more")
    assert open_talk.socket.ends == ["eof"]
    open_talk.carry()
    assert open_talk.client.read() == b"bye"
    assert open_talk.client.read() == b""


def test_end_during_the_handshake_is_quiet(talk: Talk) -> None:
    """The protocol has had nothing, and is told of the loss alone."""
    assert not talk.sealed.eof_received()
    talk.sealed.connection_lost(None)
    assert talk.above.told == ["made", "lost None"]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"POST /v1/tokens HTTP/1.1\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"PING somebody\r\n", b""),
        (b"\x00" * 100, b""),
    ],
)
def test_plain_bytes_come_to_an_end(talk: Talk, said: bytes, answer: bytes) -> None:
    """Plain HTTP is told what is spoken here; anything else sees the end of the stream. What follows is not read."""
    failed = TLS_FAILED._value.get()
    talk.sealed.data_received(said)
    talk.sealed.data_received(said)
    assert bytes(talk.socket.sent).startswith(answer)
    assert not answer or talk.socket.sent.endswith(b"use https:// or wss://.\n")
    assert talk.socket.ends == ["eof"]
    assert talk.above.got == b""
    talk.sealed.connection_lost(None)
    assert TLS_FAILED._value.get() == failed + 1


def test_client_that_does_not_trust_us_is_counted(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """It says so by an alert."""
    failed = TLS_FAILED._value.get()
    talk = Talk(contexts[0], ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        talk.shake()
    talk.carry()
    assert talk.socket.ends == ["eof"]
    talk.sealed.connection_lost(None)
    assert TLS_FAILED._value.get() == failed + 1


def test_who_only_looks_whether_the_port_is_there_has_not_failed(talk: Talk) -> None:
    """As a balancer does, every second."""
    failed = TLS_FAILED._value.get()
    talk.sealed.eof_received()
    talk.sealed.connection_lost(None)
    assert TLS_FAILED._value.get() == failed


def test_old_tls_is_refused(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """By an alert that says which version is the matter."""
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        contexts[1].minimum_version, contexts[1].maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    try:
        contexts[1].set_ciphers("ALL:@SECLEVEL=0")
        talk = Talk(*contexts)
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            talk.shake()
    finally:
        contexts[1].minimum_version, contexts[1].maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED


def test_broken_records_end_it(open_talk: Talk) -> None:
    """What was heard before them counts."""
    open_talk.client.write(b"good")
    said = open_talk.outgoing.read()
    open_talk.sealed.data_received(said + b"\x17\x03\x03\x00\x20" + b"\x00" * 32)
    assert open_talk.above.got == b"good"
    assert open_talk.socket.ends == ["close"]


def test_nothing_is_kept_of_what_is_gone(open_talk: Talk) -> None:
    """And nothing that comes late is told."""
    open_talk.sealed.connection_lost(OSError("reset"))
    assert open_talk.above.told == ["made", "lost reset"]
    assert open_talk.sealed.get_protocol() is not open_talk.above
    open_talk.sealed.data_received(b"late")
    open_talk.sealed.pause_writing()


def test_handshakes_of_a_crowd_take_turns(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """A few are answered at each pass of the event loop, in the order of their coming; who waits is not read any further."""
    passes: list[Callable[[], None]] = []
    turns = Turns(passes.append)
    crowd = [Talk(*contexts, turns) for _ in range(2 * A_PASS + 1)]
    for talk in crowd:
        with pytest.raises(ssl.SSLWantReadError):
            talk.client.do_handshake()
        talk.sealed.data_received(talk.outgoing.read())
    for answered in (A_PASS, 2 * A_PASS, len(crowd)):
        assert [bool(talk.socket.sent) for talk in crowd] == [number < answered for number in range(len(crowd))]
        assert [talk.socket.reading for talk in crowd] == [number < answered for number in range(len(crowd))]
        for call in [passes.pop() for _ in range(len(passes))]:
            call()
    for talk in crowd:
        talk.incoming.write(bytes(talk.socket.sent))
        talk.client.do_handshake()


def test_who_leaves_before_its_turn_is_passed_over(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Nothing is computed for it; it is counted as one that has failed."""
    passes: list[Callable[[], None]] = []
    turns = Turns(passes.append)
    for _ in range(A_PASS):
        turns.take(lambda: None)
    talk, before = Talk(*contexts, turns), TLS_FAILED._value.get()
    talk.sealed.data_received(b"\x16\x03\x01")
    talk.sealed.connection_lost(None)
    for call in passes:
        call()
    assert (TLS_FAILED._value.get() - before, bytes(talk.socket.sent), talk.socket.reading) == (1, b"", False)


@pytest.mark.parametrize("cut", [1_000, 1 << 20])
def test_hello_without_an_end_is_cut_off(talk: Talk, cut: int) -> None:
    """OpenSSL would keep 128 KiB of it, for as long as a handshake may take."""
    body = 131_000
    hello = b"\x01" + body.to_bytes(3, "big") + b"\x03\x03" + bytes(body - 2)
    records = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (hello[at : at + 16_384] for at in range(0, len(hello) - 1, 16_384))
    )[:-10]
    sent = 0
    while not talk.socket.ends and sent < len(records):
        talk.sealed.data_received(records[sent : sent + cut])
        sent += cut
    assert talk.socket.ends == ["abort"]
    assert sent <= 32_768 + cut
