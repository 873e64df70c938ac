"""The Python client: one user's messages as they come, over whatever happens to the connections in between.

    async with Client(["wss://push.example.com/v1/connect"], get_token) as client:
        async for message in client:
            print(message.to, message.body)

Theory of operation. The client is connected to one edge at a time. When that ends, the close code decides (the ranges are
a promise of the protocol): 1000 ends the iteration, 4500 to 4999 raise `NotWelcome`, anything else is followed by the next
edge in turn after a pause, drawn with full jitter or told by the edge's `bye`. A message may come a second time after a
reconnect, with the seq it had: the client remembers the last seq of each target and drops what is not above it.

It stands alone: nothing of the services is imported here.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

SUBPROTOCOL: Final = Subprotocol("pushway.v1")

NORMAL: Final = 1000
ABNORMAL: Final = 1006
"""What the API of browsers reports, too, when a connection ended without a close frame (RFC 6455, section 7.1.5)."""

_OWN_PREFIX: Final = "user:"
"""Of all users' messages a session gets its own user's only."""

DO_NOT_RECONNECT: Final = range(4500, 5000)

OPEN_TIMEOUT_S: Final = 10.0
WELCOME_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
STEADY_S: Final = 10.0
"""A session that lived this long was a good one: the pauses begin anew with the shortest."""

FRAME_MAX_BYTES: Final = 16 * 1024 * 1024
"""Longest frame taken. Content is at most 16,000,000 bytes of JSON; what stands around it fits into the rest many times."""

TokenSource = Callable[[], Awaitable[str]]
"""Returns a fresh token; called before each connect. Raises OSError when there is none right now: it is asked again."""


class NotWelcome(Exception):
    """The edge closed with a code that says: do not reconnect.

    Attributes:
        code: 4500 to 4999.
        reason: the edge's own words.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"the edge closed the connection for good: {reason or 'no reason given'} ({code})")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came.

    Attributes:
        to: the target it was sent to: `user:<id>`, `topic:<name>` or `all`.
        id: the producer's, or one made by the cluster.
        ts_ms: when it was appended, Unix ms.
        seq: its place in the target's order; None when transient.
        body: the JSON value, decoded; None for a text.
        text: the text; None for a body.
        frame: the frame as it came.
    """

    to: str
    id: str
    ts_ms: int
    seq: int | None
    body: Any
    text: str | None
    frame: str


@dataclass(frozen=True, slots=True)
class Welcomed:
    """A session is open."""

    url: str
    user: str
    session: str
    node: str


@dataclass(frozen=True, slots=True)
class Parted:
    """A connection ended or could not be had; the next try comes after `retry_in_s`."""

    url: str
    why: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class NoToken:
    """The token source had none, so no edge was tried; it is asked again after `retry_in_s`."""

    why: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Noticed:
    """The edge sent another frame, such as `bye`, `error` or one that this version has not heard of."""

    frame: Mapping[str, Any]


Status = Welcomed | Parted | NoToken | Noticed


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait between tries: from nothing up to a ceiling that doubles with each failure (full jitter).

    The defaults are those of Centrifugo's clients.
    """

    min_s: float = 0.5
    max_s: float = 20.0

    def after(self, failures: int) -> float:
        """Return a pause in seconds after so many failures in a row, the first being 0."""
        # 2 ** 20 is past any ceiling; without the cap a night offline would compute with huge numbers.
        ceiling_s = min(self.max_s, self.min_s * 2 ** min(failures, 20))
        return random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, guards nothing


class Client:
    """An asynchronous iterator over the messages of one user, and the context that closes its connection.

    Args:
        urls: where edges accept connections; tried in turn, beginning with the first.
        token: gives a token for each connect.
        device: names this device; a second session of it ends the first.
        since: the last seq that the application has; 0 asks for everything retained, None begins with what comes from now on.
            From then on the client keeps the cursor itself: whatever was missed between two connections is sent first.
        token_in_header: send the token in `Authorization`, not in the first frame.
        on_status: told of every welcome, parting, missing token and other frame, in order, from within the iteration.
        pauses: how long to wait between tries.
        proxy: URL of an HTTP proxy. The environment is not looked at: edges are often neighbours.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: TokenSource,
        *,
        device: str | None = None,
        since: int | None = None,
        token_in_header: bool = False,
        on_status: Callable[[Status], None] = lambda _status: None,
        pauses: Pauses = Pauses(),
        proxy: str | None = None,
    ) -> None:
        self._urls = cycle(urls)
        self._url = ""
        self._token = token
        self._device = device
        self._cursor = since
        self._token_in_header = token_in_header
        self._tell = on_status
        self._pauses = pauses
        self._proxy = proxy
        self._connection: ClientConnection | None = None
        self._open_since: float | None = None
        self._failures = 0
        self._retry_after_s: float | None = None
        self._last: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self._drop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message, however many connections it takes. Cancelling loses none.

        Raises:
            StopAsyncIteration: the edge closed with 1000.
            NotWelcome: the edge closed with a code that says not to come back.
        """
        while True:
            try:
                message = self._take(await self._next_frame())
            except ConnectionClosed as exc:
                await self._part(*_farewell(exc))
            except _TokenMissing as exc:
                await self._wait(partial(NoToken, str(exc)))
            except (OSError, InvalidHandshake, _Unintelligible) as exc:
                await self._part(ABNORMAL, _cause(exc))
            else:
                if message is not None:
                    return message

    async def _next_frame(self) -> str:
        connection = self._connection or await self._open()
        if self._open_since is not None:
            return _text(await connection.recv())
        with anyio.fail_after(WELCOME_TIMEOUT_S):
            return _text(await connection.recv())

    async def _open(self) -> ClientConnection:
        token = await self._fresh_token()
        self._url = next(self._urls)
        self._connection = connection = await connect(
            self._address(),
            subprotocols=[SUBPROTOCOL],
            additional_headers={"Authorization": f"Bearer {token}"} if self._token_in_header else None,
            proxy=self._proxy,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=FRAME_MAX_BYTES,
        )
        if not self._token_in_header:
            await connection.send(self._connect_frame(token))
        return connection

    async def _fresh_token(self) -> str:
        try:
            return await self._token()
        except OSError as exc:
            raise _TokenMissing(_cause(exc)) from exc

    def _address(self) -> str:
        wishes = {"device": self._device, "since": self._cursor}
        given = {name: wish for name, wish in wishes.items() if wish is not None}
        if not given or not self._token_in_header:
            return self._url
        joint = "&" if "?" in self._url else "?"
        return f"{self._url}{joint}{urlencode(given)}"

    def _connect_frame(self, token: str) -> str:
        wishes: dict[str, Any] = {} if self._device is None else {"device": self._device}
        if self._cursor is not None:
            wishes["since"] = {"user": self._cursor}
        return json.dumps({"type": "connect", "token": token, **wishes})

    def _take(self, raw: str) -> Message | None:
        """Return the message in a frame, unless it is none or has been had."""
        frame = _decode(raw)
        if frame.get("type") != "message":
            self._notice(frame)
            return None
        message = _message(frame, raw)
        return message if self._is_new(message) else None

    def _notice(self, frame: Mapping[str, Any]) -> None:
        match frame:
            case {"type": "welcome", "user": str(user), "session": str(session), "node": str(node), "seq": int(head)}:
                self._open_since = time.monotonic()
                if self._cursor is None:
                    self._cursor = head
                self._tell(Welcomed(self._url, user, session, node))
                return
            case {"type": "bye", "retry_after_ms": int(retry_after_ms)}:
                self._retry_after_s = max(0, retry_after_ms) / 1000
        self._tell(Noticed(frame))

    def _is_new(self, message: Message) -> bool:
        if message.seq is None:
            return True
        if message.seq <= self._last.get(message.to, -1):
            return False
        self._last[message.to] = message.seq
        if message.to.startswith(_OWN_PREFIX):
            self._cursor = message.seq
        return True

    async def _part(self, code: int, why: str) -> None:
        """Leave the connection, and either wait before the next one or end the iteration."""
        await self._drop()
        if code == NORMAL:
            raise StopAsyncIteration
        if code in DO_NOT_RECONNECT:
            raise NotWelcome(code, why)
        await self._wait(partial(Parted, self._url, why))

    async def _wait(self, status: Callable[[float], Status]) -> None:
        """Tell what the pause before the next try is for, and pause."""
        pause_s = self._pause()
        self._tell(status(pause_s))
        await anyio.sleep(pause_s)

    def _pause(self) -> float:
        told_s, self._retry_after_s = self._retry_after_s, None
        pause_s = self._pauses.after(self._failures) if told_s is None else told_s
        self._failures += 1
        return pause_s

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        opened, self._open_since = self._open_since, None
        if opened is not None and time.monotonic() - opened >= STEADY_S:
            self._failures = 0
        if connection is not None:
            with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                await connection.close()


class _Unintelligible(Exception):
    """The other side does not speak the protocol."""


class _TokenMissing(Exception):
    """The token source raised OSError."""


def _farewell(exc: ConnectionClosed) -> tuple[int, str]:
    """Return close code and reason; without a close frame, 1006 and what happened instead."""
    if exc.rcvd is None:
        return ABNORMAL, "the connection was cut"
    return exc.rcvd.code, exc.rcvd.reason


def _cause(exc: Exception) -> str:
    if isinstance(exc, ConnectionRefusedError) and exc.errno is not None:
        return "nothing listens there"  # the event loop's own words are "Connect call failed", and the address again
    return str(exc) or type(exc).__name__


def _text(data: str | bytes) -> str:
    if isinstance(data, bytes):
        raise _Unintelligible("the edge sent a binary frame")
    return data


def _decode(raw: str) -> dict[str, Any]:
    try:
        frame = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise _Unintelligible("the edge sent something that is not JSON") from exc
    if not isinstance(frame, dict):
        raise _Unintelligible("the edge sent JSON that is not an object")
    return frame


def _message(frame: Mapping[str, Any], raw: str) -> Message:
    match frame:
        case {"to": str(to), "id": str(ident), "ts": int(ts_ms)}:
            return Message(to, ident, ts_ms, frame.get("seq"), frame.get("body"), frame.get("text"), raw)
    raise _Unintelligible("the edge sent a message without to, id or ts")
