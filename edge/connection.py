"""One client's socket: bytes in and out, nothing decided.

Incoming bytes go through websockets' Sans-I/O protocol, and what comes out of it to the session, whose actions are carried
out here. Outgoing frames do not go through that protocol, which would build them anew for every session: they are finished
bytes, written straight to the transport. So the one thing to keep in mind is that nothing but a close may be written once
the protocol has left OPEN; `_leave` takes the connection out of every table at that moment.

No task and no timer belongs to a connection: at rest it is this object, its protocol and its session.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from sys import intern
from typing import Final, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF
from websockets.protocol import State as WireState

from edge.actions import Action, Actions, Await, Challenge, Disconnect, Send, Verify
from edge.closes import Close, Closing
from edge.ends import tell_end
from edge.feed import Feed
from edge.forwarded import HEADER
from edge.frames import QUIET_PING, is_quiet_pong, ping_frame
from edge.gate import Refusal, address_of
from edge.handshake import Handshake
from edge.host import Host, ask
from edge.liveness import NEVER, Due, Pulse
from edge.pace import NOTHING, counted, is_too_fast
from edge.sender import Sender
from edge.session import Session, State
from edge.upgrade import read_upgrade
from edge.usual_request import UsualRequest
from router.auth.tokens import Claims
from router.cursors import CursorKey
from router.metrics import CONNECTIONS

_SLICE_BYTES: Final = 2_048
"""How much is looked at in one go: 340 of the smallest frames, which take some milliseconds. A client rarely says as much."""


class Connection(Sender):
    """A client's connection to this edge, and the outlet of its session's position.

    Attributes:
        session: the state machine that decides.
    """

    __slots__ = (
        "_address",
        "_challenge",
        "_deadline_s",
        "_deaf",
        "_heard_at_s",
        "_host",
        "_nothing_before_s",
        "_peer",
        "_pinged_at_s",
        "_refusal",
        "_rest",
        "_taken",
        "_text",
        "_wire",
        "session",
    )

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host
        self._wire = Handshake(host.settings.frame_max_bytes)
        self._text: bytearray | None = None
        self._challenge = b""
        self._heard_at_s = self._pinged_at_s = time.monotonic()
        self._deadline_s = self._heard_at_s + host.settings.connect_timeout_s
        self._nothing_before_s = 0.0
        self._address = self._peer = ""
        self._refusal: Refusal | None = None
        self._taken = NOTHING
        # What came and waits for its turn; and whether nothing more is wanted of this client.
        self._rest = b""
        self._deaf = False
        self.session = Session(host.settings, host.node, self)

    # -- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; its request is due within `connect_timeout_s`."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._host.settings.send_buffer_soft_bytes)
        CONNECTIONS.inc()
        self._refusal = self._host.gate.enter()
        peer = transport.get_extra_info("peername")
        self._come_from(str(peer[0]) if peer else "")
        self._host.opened(self)

    def _come_from(self, peer: str) -> None:
        """Note who is at the other end. A trusted balancer says later whose connection it is."""
        self._peer = peer
        if not self._host.proxies.trust(peer):
            self._admit()

    def _admit(self) -> None:
        self._address = intern(address_of(self._peer))
        refusal = self._host.gate.admit(self._address, time.monotonic())
        self._refusal = self._refusal or refusal

    def data_received(self, data: bytes) -> None:
        """Bytes came: up to 256 KiB, looked at in slices, so that limits hold within them, and in turns with others."""
        self._heard_at_s = time.monotonic()
        if is_quiet_pong(data) and self._open and not self._rest and self._wire.is_between_frames:
            self._count_in(1, len(data))  # all that a quiet client says; the protocol would make a frame of it for nobody
        elif not self._rest and len(data) <= _SLICE_BYTES and not self._wire.is_undecided:  # as nearly always
            self._take_in(data)
        elif not self._deaf:
            self._queue(data)

    def _queue(self, data: bytes) -> None:
        """Have bytes wait for a turn behind what waits already, and those that come next in the kernel."""
        waits, self._rest = bool(self._rest), self._rest + data
        if self._wire.is_undecided and len(self._rest) > self._host.settings.handshake_max_bytes:
            self._go_on()  # a crowd could have the edge keep this much of each
        elif not waits:
            self._host.turns.take(self._go_on)
        if self._rest:
            self._transport.pause_reading()

    @property
    def is_through_proxy(self) -> bool:
        """Whether a trusted balancer is at the other end, and whose connection it is is not known yet."""
        return not self._address and bool(self._peer)

    def announced(self, source: str | None) -> None:
        """The balancer has said whose connection it is, perhaps another balancer's; None where it is its own."""
        if source is not None:
            self._come_from(source)

    def unannounced(self) -> None:
        """The balancer was to say whose connection it is, and has not."""
        self._wire.unannounced()
        self.cut()

    def _go_on(self) -> None:
        """Take in a slice of what waits; a request, which is dear by itself, with all that came with it."""
        size = self._host.settings.handshake_max_bytes if self._wire.is_undecided else _SLICE_BYTES
        data, self._rest = self._rest[:size], self._rest[size:]
        if not self._transport.is_closing():
            self._take_in(data)
        if self._deaf or self._transport.is_closing():
            self._rest = b""
        elif self._rest:
            self._host.turns.take(self._go_on)
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def _take_in(self, data: bytes) -> None:
        self._count_in(0, len(data))
        self._receive(data)

    def enciphered(self, size: int) -> None:
        """So many bytes more came than those that TLS carried; they are paid for like others."""
        self._heard_at_s = time.monotonic()
        self._count_in(0, size)

    def _receive(self, data: bytes) -> None:
        if self._wire.is_undecided and (request := self._wire.read_at_once(data)) is not None:
            self._request(request)
            return
        self._wire.receive_data(data)
        for event in self._wire.events_received():
            if isinstance(event, Request):
                self._request(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._pump()

    def _count_in(self, frames: int, size: int) -> None:
        """Count what came, and read no more of a client that says too much, be it before the handshake or after the close."""
        self._taken = counted(self._taken, self._heard_at_s, frames, size)
        settings = self._host.settings
        if is_too_fast(self._taken, settings.frames_s_max, settings.bytes_s_max):
            if self._open:
                self.close(Close.TOO_FAST, self._taken.in_words())
            self._read_no_more()
        elif not self._open and self._wire.failure and self._taken.size > settings.handshake_max_bytes:
            self._wire.outgrown()
            self._pump()
            self._read_no_more()

    def _read_no_more(self) -> None:
        self._deaf = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client has ended its side: end ours."""
        self._wire.receive_eof()
        self._pump()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, whoever ended it."""
        del exc  # what ends a connection to a client is no failure of this edge
        # A reset comes without an EOF: tell the protocol, which leaves OPEN by it, or a ping that is due in the sweep under
        # way would be written to a transport that is gone. What it has left to say is for nobody.
        self._wire.receive_eof()
        self._wire.data_to_send()
        self._open = False
        self._leave()
        tell_end(self._wire, self._address or self._peer)
        CONNECTIONS.dec()
        self._host.gate.leave(self._address)
        self._host.closed(self)
        # What points at each other would be kept until the garbage collector next looks through all there is.
        self._wire.let_go()
        self.session.let_go()

    def pause_writing(self) -> None:
        """More than `send_buffer_soft_bytes` wait for this client: the sweep is to look at it."""
        self._nothing_before_s = 0.0
        super().pause_writing()

    @property
    def _backlog_max_bytes(self) -> int:
        return self._host.settings.send_buffer_max_bytes

    @property
    def peer(self) -> str:
        """The client's address, whole until its request is answered, then as it is counted; "" of a socket that is gone."""
        return self._peer

    # -- called by delivery and catch-up -----------------------------------------------------------------------------

    @property
    def names(self) -> Collection[str]:
        """What a producer calls it by who has a message pass it by."""
        return self.session.names

    def put(self, frame: bytes, exclude: str) -> None:
        """Put a frame into `out`, unless it passes this session by."""
        if not exclude or exclude not in self.session.names:
            self.out.append(frame)

    def overfull(self) -> None:
        """More waits for the head than may."""
        self.close(Close.OVERLOADED, "the route could not be written in time")

    def unreadable(self) -> None:
        """What the client lacks cannot be read: another edge will not read it either, but the client hears of it."""
        self.close(Close.OVERLOADED, "the inbox cannot be read")

    # -- called by the host ------------------------------------------------------------------------------------------

    def verified(self, claims: Claims, valid_s: float) -> None:
        """The token proves what it claims, for so many seconds more."""
        topics, granted = claims.topics, claims.subscribe
        self._act(self.session.verified(claims.user, valid_s, topics, granted, iat=claims.iat, jti=claims.jti))

    def refused(self, reason: str, close: Close = Close.NOT_AUTHENTICATED) -> None:
        """The token proves nothing."""
        self._act(self.session.refused(reason, close))

    def expired(self) -> None:
        """The token was good once."""
        self._act(self.session.expired())

    def unverifiable(self) -> None:
        """No key was at hand to check the token with."""
        self._act(self.session.unverifiable())

    def unlisted(self) -> None:
        """Whether the token is revoked cannot be told."""
        self._act(self.session.unverifiable("what is revoked cannot be read just now"))

    def registered(self, head: int | None, at_us: int) -> None:
        """The route is written, and `head` read, at this time by Redis' clock; None where Redis cannot tell it."""
        self.session.routed(at_us)
        if head is None:
            self._host.find_head(self)
        else:
            self._act(self.session.registered(head))

    def head_found(self, head: int | None) -> None:
        """MongoDB was asked for the head; None when it cannot tell it just now."""
        if head is None:
            self.close(Close.OVERLOADED, "the inbox cannot be read just now")
        else:
            self._act(self.session.registered(head))

    def heard(self, feed: Feed) -> None:
        """A feed that was asked for may be joined."""
        self._act(self.session.heard(feed))

    def resumed(self, cursors: Mapping[CursorKey, int] | None) -> None:
        """Cursors of the device were looked up; None when nobody could tell one of them."""
        self._act(self.session.resumed(cursors))

    def standing(self, topics: Sequence[str]) -> None:
        """What back ends have subscribed the user to was looked up."""
        self._act(self.session.standing(topics))

    def ended(self, topic: str) -> None:
        """A back end has ended a topic for the user."""
        self._act(self.session.ended(topic))

    def drain(self, retry_after_ms: int) -> None:
        """Send the client away: this edge is stopping."""
        if self._wire.state is WireState.OPEN:
            self._act(self.session.drained(retry_after_ms))
        else:
            self.cut()

    def proved(self, head: int | None, at_us: int) -> None:
        """The user's other nodes know, since this time by Redis' clock, that this session is alive; its own is to know too."""
        del head  # the session has begun; where its route had lapsed, the heads are compared anyhow
        self._act(self.session.proved(at_us))
        key = self.session.cursor
        if key is not None:
            self._host.replace(key.user, key.device, self.session.id, at_us)

    def replaced(self, at_us: int, session: str) -> None:
        """That session of the same device, here or elsewhere, was proved alive at this time by Redis' clock."""
        self._act(self.session.replaced(at_us, session))

    def close(self, close: Closing, detail: str = "") -> None:
        """Begin the closing handshake; the socket is cut when the client does not answer within `close_timeout_s`."""
        self._act(self.session.close(close, detail))

    def cut(self) -> None:
        """End the connection without a word."""
        self._transport.abort()

    def sweep(self, now_s: float, pulse: Pulse) -> None:
        """Do what is due."""
        if now_s < self._nothing_before_s:  # as nearly always: ten thousand are looked at every second
            return
        if self._open and now_s >= self._choked_at_s + self._host.settings.send_buffer_soft_s:
            self.close(Close.SLOW_CONSUMER)
        due = pulse.judge(now_s, self._heard_at_s, self._pinged_at_s, self._deadline_s)
        if due is Due.NOTHING:
            if self._choked_at_s is NEVER:
                self._nothing_before_s = pulse.nothing_before_s(self._heard_at_s, self._pinged_at_s, self._deadline_s)
            return
        if self._wire.state is not WireState.OPEN:
            # In either handshake there is nobody to explain anything to.
            if due is Due.DEADLINE:
                self._wire.overdue()
                self.cut()
        elif due is Due.DEADLINE:
            self._act(self.session.overdue(now_s - self._deadline_s))
        elif due is Due.SILENT:
            self.close(Close.HEARTBEAT_LOST)
        else:
            self._pinged_at_s = now_s
            # RFC 6455 section 5.5.3: of pings that came in a row a client may answer the latest only.
            self._ping(_time_ns() if self._challenge else b"")

    # -- from the wire to the session --------------------------------------------------------------------------------

    def _request(self, request: Request | UsualRequest) -> None:
        if self.is_through_proxy:
            self._peer = self._host.proxies.client_of(self._peer, request.headers.get_all(HEADER))
            self._admit()
        self._wire.reply(request)
        self._pump()
        if self._refusal is not None:
            self.close(*self._refusal)
        elif self._wire.state is WireState.OPEN:
            self._host.requested(self, request)
            self._act(self.session.upgraded(read_upgrade(request, self._wire.offered)))
        self._peer = self._address  # one text less for each connection of IPv6
        if self._wire.reader.buffer:
            self._receive(b"")

    def _frame(self, frame: Frame) -> None:
        self._count_in(1, 0)
        if frame.opcode is Opcode.TEXT:
            self._text = bytearray()
        elif frame.opcode is Opcode.BINARY:
            self._act(self.session.binary())
        elif frame.opcode is Opcode.PONG and self._challenge and frame.data == self._challenge:
            self._challenge = b""
            self._act(self.session.answered((time.monotonic_ns() - int(frame.data)) / 1e9))
        if frame.opcode in {Opcode.TEXT, Opcode.CONT} and self._text is not None:
            # RFC 6455 section 5.4: a message may come in fragments; websockets bounds their sum.
            self._text += frame.data
            if frame.fin:
                data, self._text = bytes(self._text), None
                self._act(self.session.text(data))

    # -- from the session to the wire --------------------------------------------------------------------------------

    def _act(self, actions: Actions) -> None:
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Send(data):
                self.write(data)
            case Await(timeout_s):
                self._deadline_s = time.monotonic() + timeout_s
                self._nothing_before_s = min(self._nothing_before_s, self._deadline_s)
            case Challenge():
                self._ping(_time_ns())
            case Disconnect(close, detail):
                self._disconnect(close, detail)
            case Verify(token):
                self._verify(token)
            case _:
                ask(self._host, self, action)

    def _verify(self, token: str) -> None:
        if self.session.state is State.LIVE:
            # A newer token: a check costs this edge what many frames do, and perhaps somebody else, too.
            self._count_in(self._host.settings.frames_s_max, 0)
        if self.session.state is not State.CLOSING:
            self._host.turns.take(partial(self._verify_now, token))

    def _verify_now(self, token: str) -> None:
        if self.session.state is not State.CLOSING:
            self._host.verify(self, token)

    def _ping(self, challenge: bytes) -> None:
        self._challenge = challenge
        if self._wire.state is WireState.OPEN:
            self._transport.write(ping_frame(challenge) if challenge else QUIET_PING)

    def _disconnect(self, close: Closing, detail: str) -> None:
        if self._wire.state is WireState.OPEN:
            self._wire.send_close(close.code, close.reason(detail))
            self._wire.await_close()
        self._pump()

    def _pump(self) -> None:
        """Write what the protocol has to say, and notice when it has left OPEN."""
        for data in self._wire.data_to_send():
            if data != SEND_EOF:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                # Half-closed, not closed: with unread bytes in, the kernel would reset the connection and take the close
                # frame with it.
                self._transport.write_eof()
            else:
                self._transport.close()
        self._open = self._wire.state is WireState.OPEN
        if self._wire.close_expected():
            self._leave()

    def _leave(self) -> None:
        self._act(self.session.left())
        self._host.left(self)


def _time_ns() -> bytes:
    """Return what tells one challenge from all others of a connection, and when it was sent."""
    return b"%d" % time.monotonic_ns()
