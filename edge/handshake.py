"""The handshake: websockets' protocol with our refusals.

Owns which requests are upgraded; what they say of the client is `edge.upgrade`. Most are read by `edge.usual_request` instead,
which takes none that is not taken here.

A balancer in front has read the same bytes and gone by what it understood. So whatever two readers could understand differently
is refused: a path that needs to be put in order before it is ours, a second Host, an address within the request line that
another Host contradicts. What lies below that (line ends, folded lines, lengths) is refused by websockets.
Sources: RFC 6455 section 4.2, RFC 9112 sections 2.2, 3.2, 5 and 6.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from edge import usual_request
from edge.closes import Close
from edge.upgrade import PATH, SUBPROTOCOL, only
from edge.usual_request import UsualRequest

_CLOSING_MAX_BYTES: Final = 1_024
"""Longest frame that is taken in behind a close of ours."""

_HELLO_OF_TLS: Final = 0x16
"""The first byte of a client that speaks TLS (RFC 8446 section 5.1); no request begins with it."""

_NO_TLS: Final = b"This port speaks no TLS: connect with ws://.\n"
_TO_TLS: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_NO_TLS), _NO_TLS)

_VISIBLE: Final = re.compile(r"[\x21-\x7e]*")
_ADDRESS: Final = re.compile(r"(?i:https?|wss?)://([^/?]+)(/[^/].*)")
_TOO_LARGE: Final = frozenset({HTTPStatus.REQUEST_URI_TOO_LONG, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE})

# websockets tells of every connection at INFO, and builds a line for every frame when DEBUG is on.
_QUIET: Final = logging.getLogger("pushway.websockets")
_QUIET.setLevel(logging.CRITICAL + 1)


_NO_NAME: Final = UUID(int=0)

_BETWEEN_FRAMES: Final = StreamReader.at_eof.__code__
"""Where websockets' parser waits for a frame to begin. Within one it waits for so many bytes, elsewhere."""


class Failure(Enum):
    """Why a socket never became a WebSocket, as it is counted."""

    LEFT = "left"
    """The client went before its request was whole, as a balancer does that looks whether the port is open."""
    SLOW = "slow"
    """The request did not come in time."""
    MALFORMED = "malformed"
    """It was no HTTP: TLS to a port that speaks none, say."""
    REFUSED = "refused"
    """It was answered with an HTTP status."""
    TOO_LARGE = "too_large"
    """It was longer than it may be."""
    UNANNOUNCED = "unannounced"
    """A trusted balancer did not begin with the PROXY protocol, and was to."""


class _AnswerFirst(Protocol):
    """Reads no frame before the request is answered, whenever it came.

    RFC 6455 section 4.1 has a client wait for the answer. For one that does not, websockets would read on at once and answer
    its ping, or its close with the end of the stream, ahead of the handshake.
    """

    def parse(self) -> Generator[None]:
        """Parse nothing. What has come waits for the parser that takes this one's place."""
        while True:
            yield


class Handshake(ServerProtocol, _AnswerFirst):
    """websockets' Sans-I/O protocol, which reads requests and frames; no extension, so no compression.

    Args:
        frame_max_bytes: a longer message from the client closes with 4505.

    Attributes:
        offered: the subprotocols in the request.
        failure: why there is no WebSocket; None once there is one.
    """

    def __init__(self, frame_max_bytes: int) -> None:
        super().__init__(max_size=frame_max_bytes, logger=_QUIET)
        self.id = _NO_NAME  # its own is drawn for its logs, and kept
        self._begun = False
        self.offered: tuple[str, ...] = ()
        # What websockets cannot make out ends here without another word.
        self.failure: Failure | None = Failure.MALFORMED

    @property
    def is_undecided(self) -> bool:
        """Whether the request has not been answered, nor come to nothing."""
        return self.failure is Failure.MALFORMED and not self.eof_sent

    @property
    def is_between_frames(self) -> bool:
        """Whether all that has come so far were whole frames, as far as that is known: not before the first."""
        parser: Any = self.parser
        waits_in = parser.gi_yieldfrom
        return waits_in is not None and waits_in.gi_code is _BETWEEN_FRAMES

    def overdue(self) -> None:
        """The request has not come in time."""
        self._unfinished(Failure.SLOW)

    def unannounced(self) -> None:
        """The balancer has not said whose connection it is."""
        self._unfinished(Failure.UNANNOUNCED)

    def receive_eof(self) -> None:
        """The client says no more."""
        self._unfinished(Failure.LEFT)
        super().receive_eof()

    def _unfinished(self, failure: Failure) -> None:
        if self.is_undecided:
            self.failure = failure

    def outgrown(self) -> None:
        """More has come than a request may have, and none was whole: say so, unless another answer was given."""
        if not self.eof_sent:
            self.send_response(self.reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request is too long.\n"))

    def parse(self) -> Generator[None]:
        """Parse, unless it begins as TLS does, of which no line would ever come to an end: say at once that it is not spoken.

        To whoever speaks TLS, any answer that is none says so; this one can also be read.
        """
        while not self.reader.buffer and not self.reader.eof:
            yield
        if self.reader.buffer[:1] != bytes([_HELLO_OF_TLS]):
            yield from super().parse()
            return
        self.writes.append(_TO_TLS)
        self.send_eof()
        yield from self.discard()

    def read_at_once(self, data: bytes) -> UsualRequest | None:
        """Return the request, if these bytes are the first, and a usual one. Otherwise give them to `receive_data`."""
        begun, self._begun = self._begun, True
        return None if begun else usual_request.read(data)

    def reply(self, request: Request | UsualRequest) -> None:
        """Answer a request, at once. Then call `receive_data` with no bytes where `reader` has some, frames mostly."""
        if isinstance(request, Request):
            self.send_response(self.answer(request))
            return
        self.offered = request.offered
        self.writes.append(request.answer())
        self.state = State.OPEN
        self._upgraded()

    def answer(self, request: Request) -> Response:
        """Return the answer to a request: 101 on the one path there is, else a line that helps."""
        host = only(request.headers, "Host")
        if not host:  # RFC 9112 section 3.2: one, and not more
            return self.reject(HTTPStatus.BAD_REQUEST, "One Host header is expected.\n")
        target = _origin_form(request.path, host)
        if target is None:
            return self.reject(HTTPStatus.BAD_REQUEST, f"This is no address. Connect a WebSocket to {PATH}.\n")
        # As it was sent, since nobody else has put it in order either.
        if target.partition("?")[0] != PATH:
            return self.reject(HTTPStatus.NOT_FOUND, f"There is nothing here. Connect a WebSocket to {PATH}.\n")
        return self.accept(request)

    def send_response(self, response: Response) -> None:
        """Answer. With a 101 frames are parsed from the next `receive_data` on, by the base's parser alone.

        That of the handshake would keep the request with all its headers for as long as the connection is there.
        """
        super().send_response(response)
        if self.state is State.OPEN:
            self._upgraded()
        else:
            self.failure = Failure.TOO_LARGE if response.status_code in _TOO_LARGE else Failure.REFUSED

    def _upgraded(self) -> None:
        self.failure = None
        # Not begun: it would read on at once what came behind the request, before anybody has heard of that.
        self.parser = Protocol.parse(self)

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Choose ours; else echo the client's first, without which a browser would not let anyone read the close code."""
        self.offered = tuple(subprotocols)
        if not subprotocols:
            return None
        return SUBPROTOCOL if SUBPROTOCOL in subprotocols else subprotocols[0]

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        """Close for a breach of the protocol, with our code where there is one."""
        if code == CloseCode.MESSAGE_TOO_BIG:
            code, reason = Close.TOO_LARGE.code, Close.TOO_LARGE.reason(f"{self.max_message_size} bytes are allowed")
        super().fail(code, reason)

    def await_close(self) -> None:
        """Keep little of what comes now that a close has been sent.

        Whoever sends more than a close and what was under way is waited for no longer. Else thousands who are sent away could
        each have half a frame of 64 KiB kept.
        """
        self.max_fragment_size = _CLOSING_MAX_BYTES

    def let_go(self) -> None:
        """The socket is gone: keep no parser and no exception, the frames of which lead back here."""
        self.parser.close()
        self.parser_exc = self.handshake_exc = None


def _origin_form(target: str, host: str) -> str | None:
    """Return path and query of a request line's target; None where it is neither those alone nor a whole address of this host.

    RFC 9112 section 3.2.2: a whole address is to be accepted, and counts for more than Host. One that contradicts Host is sent
    by nobody who means well.
    """
    if "#" in target or not _VISIBLE.fullmatch(target):
        return None
    if target.startswith("/") and not target.startswith("//"):
        return target
    address = _ADDRESS.fullmatch(target)
    return address[2] if address and address[1].lower() == host.lower() else None
