"""The handshake: websockets' protocol with our refusals, and what a request says of the client.

Owns which requests are upgraded. Knows nothing of sessions: what the facts of a request mean is theirs to say.

A balancer in front has read the same bytes and gone by what it understood. So whatever two readers could understand differently
is refused: a path that needs to be put in order before it is ours, a second Host, an address within the request line that
another Host contradicts. What lies below that (line ends, folded lines, lengths) is refused by websockets.
Sources: RFC 6455 section 4.2, RFC 9112 sections 2.2, 3.2, 5 and 6.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from edge.closes import Close
from router.auth.bearer import Bearer

PATH: Final = "/v1/connect"
SUBPROTOCOL: Final = Subprotocol("pushway.v1")

_BEARER: Final = "bearer"

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


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What a client said of itself in the request.

    Attributes:
        token: the bearer token; None where there is no Authorization header, "" where it holds no such token.
        query: the parameters of the address; of a repeated one the last.
        subprotocols: what it offers, in its order.
        origin: of the page that connects; None where it is no page.
        host: by which name and port the client reached the edge; "" where it does not say.
    """

    token: str | None
    query: Mapping[str, str]
    subprotocols: tuple[str, ...]
    origin: str | None = None
    host: str = ""


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
        self.offered: tuple[str, ...] = ()
        # What websockets cannot make out ends here without another word.
        self.failure: Failure | None = Failure.MALFORMED

    @property
    def is_undecided(self) -> bool:
        """Whether the request has not been answered, nor come to nothing."""
        return self.failure is Failure.MALFORMED and not self.eof_sent

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

    def answer(self, request: Request) -> Response:
        """Return the answer to a request: 101 on the one path there is, else a line that helps.

        Send it at once, then call `receive_data` with no bytes: frames may have come with the request.
        """
        host = _only(request.headers, "Host")
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
            self.failure = None
            # Not begun: it would read on at once what came behind the request, before anybody has heard of that.
            self.parser = Protocol.parse(self)
        else:
            self.failure = Failure.TOO_LARGE if response.status_code in _TOO_LARGE else Failure.REFUSED

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


def read_upgrade(request: Request, offered: tuple[str, ...]) -> Upgrade:
    """Return the facts of a request that was answered with 101."""
    headers = request.headers
    return Upgrade(
        _bearer(headers.get_all("Authorization")),
        _query(request),
        offered,
        _only(headers, "Origin"),
        _only(headers, "Host") or "",
    )


def read_bearer(request: Request, address: str, wanted: Sequence[str]) -> Bearer:
    """Return what a judge of tokens is told of a request: headers named `wanted`, those that come more than once as one."""
    values = {name.lower(): request.headers.get_all(name) for name in wanted}
    return Bearer(address, {name: ", ".join(said) for name, said in values.items() if said}, _query(request))


def _query(request: Request) -> dict[str, str]:
    """Return the parameters of the address; what is no UTF-8 comes as lone surrogates, which no id may hold."""
    return dict(parse_qsl(request.path.partition("?")[2], keep_blank_values=True, errors="surrogateescape"))


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


def _only(headers: Headers, name: str) -> str | None:
    """Return a header; "" where it comes more than once, which no browser sends."""
    values = headers.get_all(name)
    return None if not values else values[0] if len(values) == 1 else ""


def _bearer(values: Sequence[str]) -> str | None:
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    return token.strip() if len(values) == 1 and scheme.lower() == _BEARER else ""
