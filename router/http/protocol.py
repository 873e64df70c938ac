"""HTTP/1.1 as uvicorn speaks it, but with a problem document for what is no HTTP at all, and with an end to waiting.

A request whose end two readers could see in different places is no HTTP either: what one of them takes for its body is the next
request to the other (RFC 9112 section 11.2).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from router.http.problems import MEDIA_TYPE, ProblemDocument
from router.http.safety import HEADERS

REQUEST_TIMEOUT_S: Final = 60.0
"""How long a connection may take for a request, from its begin to the last byte of its body. uvicorn waits for ever, and who
only connects, without a key, would keep a descriptor that the services need for Redis and MongoDB."""

TLS_TIMEOUT_S: Final = 10.0
"""How long a handshake of TLS may take of that: it asks nothing of people, and of a far network three round trips."""

ANSWER_TIMEOUT_S: Final = 60.0
"""How long what was written may wait for its reader. Else who asks for what needs no key, and reads nothing, would keep a
descriptor as well."""

HEAD_MAX_BYTES: Final = 65_536
"""Longest first line and headers."""

_COMING: Final = frozenset({h11.IDLE, h11.SEND_BODY})


class _Connection(h11.Connection):
    """h11's own, which goes by the chunks where a request has a length as well, and by those of HTTP/1.0, which has none."""

    def next_event(self) -> Any:  # noqa: ANN401 - as h11 has it
        """Return the next event.

        Raises:
            RemoteProtocolError: when a request cannot be read, or can be in more than one way.
        """
        event = super().next_event()
        if isinstance(event, h11.Request) and is_ambiguous(event):
            # RFC 9112 section 6.1: whatever it is, nothing may be read behind it.
            raise h11.RemoteProtocolError("a request is either of a length or in chunks, and in chunks from HTTP/1.1 on")
        return event


def is_ambiguous(request: h11.Request) -> bool:
    """Tell whether readers could differ on where a request ends."""
    names = {name for name, _ in request.headers}
    return b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1")


class ProblemProtocol(H11Protocol):
    """uvicorn's own, with another body in the one answer that it gives by itself, and an end to waiting for a client."""

    _expected: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None
    _unsealed: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as uvicorn calls it
        super().__init__(*args, **kwargs)
        self.conn = _Connection(h11.SERVER, HEAD_MAX_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        # So that `pause_writing` tells of every byte that is not taken, also behind a close, which waits for it.
        transport.set_write_buffer_limits(high=0)
        if transport.get_extra_info("ssl_object") is not None:
            self._unsealed = self.loop.call_later(TLS_TIMEOUT_S, self._cut_unsealed)
        self._expect()

    def handle_events(self) -> None:
        """Handle what has come, and note whether something of a request is still to come."""
        super().handle_events()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the waiting."""
        super().connection_lost(exc)
        self._stop_expecting()
        self._taken()
        if self._unsealed is not None:
            self._unsealed.cancel()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take what was written."""
        super().pause_writing()
        self._untaken = self.loop.call_later(ANSWER_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken it all."""
        super().resume_writing()
        self._taken()

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _cut_unsealed(self) -> None:
        if self.transport.get_extra_info("ssl_object").version() is None:  # which it has once a handshake is through
            self.transport.abort()

    def _expect(self) -> None:
        if self.conn.their_state not in _COMING:
            self._stop_expecting()
        elif self._expected is None:
            self._expected = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.close)

    def _stop_expecting(self) -> None:
        if self._expected is not None:
            self._expected.cancel()
            self._expected = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read as a request, and close the connection: where the next would begin is not known."""
        status = HTTPStatus.BAD_REQUEST
        headers = [("content-type", MEDIA_TYPE), ("connection", "close"), *HEADERS.items()]
        detail = f"{msg} Its first line and headers take at most 64 KiB of ASCII."
        document = ProblemDocument("about:blank", status.phrase, status, detail)
        events = (
            h11.Response(status_code=status, headers=headers, reason=status.phrase),
            h11.Data(data=msgspec.json.encode(document)),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
