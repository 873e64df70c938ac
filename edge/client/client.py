"""The iteration: from connection to connection, frame to frame, message to message.

Theory of operation. The client is connected to one edge at a time. When that ends, the close code decides (the ranges are
a promise of the protocol): 1000 ends the iteration, 4500 to 4999 raise `NotWelcome`, anything else is followed by the next
edge in turn after a pause, drawn with full jitter or told by the edge's `bye`.

There is no task beside the iteration: all that a client does, it does while the application waits for a message. So nothing
is read that nobody asked for, no error goes unseen, and cancelling ends it whole. In return, cursors are kept and
acknowledged, tokens renewed and pings sent only while somebody waits; what comes in the meantime waits in the connection.
Topics alone may be asked for from anywhere at any time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final, Self

import anyio
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from edge.client.cursors import CursorStore, MemoryCursors
from edge.client.ends import ABNORMAL, DO_NOT_RECONNECT, NORMAL, TOKEN_EXPIRED, NotWelcome, cause, farewell
from edge.client.frames import (
    ADDRESS_MAX_CHARS,
    TOPIC_PREFIX,
    Message,
    Unintelligible,
    ack_frame,
    connect_address,
    connect_frame,
    decode,
    read_expiring_s,
    read_message,
    read_presence,
    read_progress,
    read_retry_after_s,
    read_subscribed,
    read_welcome,
    token_frame,
)
from edge.client.link import CLOSE_TIMEOUT_S, Link, Silent, open_link
from edge.client.pauses import STEADY_S, Pauses, Tries
from edge.client.progress import Progress
from edge.client.renewal import Renewal
from edge.client.statuses import (
    CaughtUp,
    Lost,
    Noticed,
    NoToken,
    Parted,
    Refused,
    Status,
    Subscribed,
    Unsubscribed,
    Welcomed,
)
from edge.client.tokens import TOKEN_TIMEOUT_S, TokenMissing, TokenSource, ask
from edge.client.topics import Asked, Topics

_PAUSES: Final = Pauses()

UNCHECKED: Final = "unavailable"
"""The code of an `error` that says that a newer token cannot be checked just now."""

GIVEN_MAX: Final = 128
"""Most topics that nobody asked for of which a connection is told where to begin; as many as a session has."""


class Client:
    """An asynchronous iterator over the messages of one user, and the context that it lives in.

    Asking for the next message says that the one before is handled. Leaving without asking (a `break`, an exception) does
    not: that message comes again to the next client with these cursors.

    Args:
        urls: where edges accept connections; tried in turn, beginning with the first.
        token: asked for a token before each connect. It may answer from a cache if `fresh_token` is given.
        fresh_token: asked instead when a token has expired or is about to; must not answer from a cache.
        topics: names of topics to hear, beside the user's own messages, those to `all`, and those of the topics that back ends
            or the token have subscribed the user to; see `subscribe`.
        presence: names of topics to hear, and to be told who else does; see `subscribe`.
        device: names this device to the cluster, which keeps its cursors: the client acknowledges what is handled, and
            where it has no cursor itself it begins behind that. A second session of a device ends the first.
        cursors: where the client's own cursors are kept; in memory unless given. They win over those of the device.
        since: where to begin when `cursors` does not say: behind this seq of the user's, 0 for everything retained. None is
            behind the device's cursor, or, without a device, with what comes from the first welcome on.
        ack_every: keep and acknowledge cursors when so many messages have been handled …
        ack_interval_s: … or so long after the first of them. What was handled since then comes again after a crash.
        token_in_header: send the token in `Authorization`, not in the first frame.
        on_status: told of every status, in order, from within the iteration.
        pauses: how long to wait between tries.
        tls: the context for wss://, where the machine's trust store does not know the CA of the edges.
        proxy: URL of an HTTP proxy. The environment is not looked at: edges are often neighbours.

    Raises:
        ValueError: when the name of a topic breaks the rule for ids.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: TokenSource,
        *,
        fresh_token: TokenSource | None = None,
        topics: Iterable[str] = (),
        presence: Iterable[str] = (),
        device: str | None = None,
        cursors: CursorStore | None = None,
        since: int | None = None,
        ack_every: int = 100,
        ack_interval_s: float = 1.0,
        token_in_header: bool = False,
        on_status: Callable[[Status], None] = lambda _status: None,
        pauses: Pauses = _PAUSES,
        tls: SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        self._urls = cycle(urls)
        self._url = ""
        self._token = token
        self._fresh_token = fresh_token or token
        self._device = device
        self._store: CursorStore = cursors or MemoryCursors()
        self._start_progress = partial(
            Progress, since=since, device=device is not None, ack_every=ack_every, ack_interval_s=ack_interval_s
        )
        self._progress: Progress | None = None
        self._topics = Topics(topics, presence)
        self._asked = Asked(self._topics)
        self._asking = anyio.Lock()
        self._token_in_header = token_in_header
        self._tell = on_status
        self._tries = Tries(pauses)
        self._renewal = Renewal(pauses)
        self._open_link = partial(open_link, tls=tls, proxy=proxy)
        self._link: Link | None = None
        self._expired = False

    async def __aenter__(self) -> Self:
        """Load the cursors.

        Raises:
            CursorsDamaged: when they cannot be read, or whatever else their store raises.
        """
        self._progress = self._start_progress(await self._store.load())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        """Keep and acknowledge what was handled, and close the connection; whatever hangs, this does not for long."""
        try:
            with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                await self._keep()
                await self._acknowledge_last()
        finally:
            await self._drop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message, however many connections it takes; the one before counts as handled.

        Cancelling loses none; a connect that is cancelled begins anew with the next call.

        Raises:
            StopAsyncIteration: the edge closed with 1000.
            NotWelcome: the edge closed with a code that says not to come back.
            CursorsOfAnother: the cursors belong to another user than the token.
        """
        self._cursors.handled(time.monotonic())
        while True:
            # Not among what follows: an error of the store is the application's, and no reason to reconnect.
            await self._keep_if_due()
            try:
                message = await self._step()
            except ConnectionClosed as exc:
                await self._part(*farewell(exc))
            except TokenMissing as exc:
                self._pause(partial(NoToken, str(exc)))
            except (OSError, InvalidHandshake, Unintelligible) as exc:
                await self._part(ABNORMAL, cause(exc))
            else:
                if message is not None:
                    return message

    async def subscribe(self, topic: str, since: int | None = None, *, presence: bool = False) -> None:
        """Hear a topic from now on: at once where a session is open, otherwise with the next; `Subscribed` or `Refused` tells.

        From any task, between messages too; a cancelled call counts. A topic that is wanted already is asked for once more.

        Args:
            topic: its name, without `topic:`.
            since: where to begin when no cursor of it is kept: behind this seq, 0 for everything retained. None is behind the
                device's cursor, or, without a device, with what comes from the first `Subscribed` on.
            presence: be told who else has subscribed to it, by `Members`, `Joined` and `Left`, until it is unsubscribed.

        Raises:
            ValueError: when the name breaks the rule for ids.
            RuntimeError: outside the client's context.
        """
        cursors = self._cursors
        self._topics.want(topic, presence=presence)
        cursors.subscribe(TOPIC_PREFIX + topic, since, time.monotonic())
        self._asked.ask_again(topic)
        await self._say_topics_now()

    async def unsubscribe(self, topic: str) -> None:
        """Hear a topic no longer, and forget its cursor: to subscribe again is to begin anew, or where the device is.

        From any task, between messages too. No message of it is handed out any more, also where a back end has subscribed the
        user to it. A cancelled call counts.

        Raises:
            RuntimeError: outside the client's context.
        """
        cursors = self._cursors
        target = TOPIC_PREFIX + topic
        if topic not in self._topics.wanted and target not in cursors.cursors and not self._asked.knows(topic):
            return
        self._topics.give_up(topic)
        unacked = cursors.unsubscribe(target, time.monotonic())
        if unacked is not None:
            self._asked.acknowledge_last(topic, unacked)
        await self._say_topics_now()

    @property
    def _cursors(self) -> Progress:
        if self._progress is None:
            raise RuntimeError("a Client is iterated within its context: async with Client(…) as client")
        return self._progress

    async def _step(self) -> Message | None:
        """Say what is due, hear one frame, and return the message in it, unless it is none or has been had."""
        link = self._link or await self._open()
        if link.opened_at_s is None:
            raw = await link.receive(math.inf)
        else:
            await self._acknowledge_if_due(link)
            await self._renew_if_due(link)
            if self._asked.behind:
                await self._say_topics(link)
            raw = await link.receive(min(self._cursors.due_s, self._renewal.due_s))
        return None if raw is None else self._take(link, *decode(raw))

    # -- connections -------------------------------------------------------------------------------------------------

    async def _open(self) -> Link:
        # A time, and not a pause: whoever waits with a timeout, over and over, neither shortens nor lengthens it.
        await anyio.sleep(max(0.0, self._tries.next_at_s - time.monotonic()))
        token = await ask(self._fresh_token if self._expired else self._token, TOKEN_TIMEOUT_S)
        self._url = next(self._urls)
        self._link = await (self._open_by_header(token) if self._token_in_header else self._open_by_frame(token))
        return self._link

    async def _open_by_header(self, token: str) -> Link:
        self._asked, given_max = Asked(self._topics), GIVEN_MAX
        if len(self._address(given_max)) > ADDRESS_MAX_CHARS:
            self._asked = Asked(self._topics, at_once=False)
        # The latest of them, where not all fit; of the others the edge has the device's cursor, if there is a device.
        while given_max and len(self._address(given_max)) > ADDRESS_MAX_CHARS:
            given_max //= 2
        return await self._open_link(self._address(given_max), token=token)

    def _address(self, given_max: int) -> str:
        return connect_address(self._url, self._device, self._since(given_max), self._asked.topics)

    async def _open_by_frame(self, token: str) -> Link:
        link = await self._open_link(self._url, token=None)
        try:
            asked = self._asked = Asked(self._topics)
            await link.send(connect_frame(token, self._device, self._since(), asked.topics))
        except BaseException:
            await link.close()
            raise
        return link

    def _since(self, given_max: int = GIVEN_MAX) -> dict[str, int]:
        """Return behind which seqs to begin: also of topics that the session may be given unasked, as the one before was."""
        given = [topic for topic in self._cursors.topics if topic not in self._topics.wanted]
        return self._cursors.since([*self._asked.topics, *given[len(given) - min(given_max, len(given)) :]])

    async def _part(self, code: int, why: str) -> None:
        """Leave the connection, and either plan the next one or end the iteration."""
        self._expired = self._expired or code == TOKEN_EXPIRED
        await self._drop()
        await self._keep()
        if code == NORMAL:
            raise StopAsyncIteration
        if code in DO_NOT_RECONNECT:
            raise NotWelcome(code, why)
        self._pause(partial(Parted, self._url, why))

    def _pause(self, status: Callable[[float], Status]) -> None:
        """Set the time of the next try, and tell what the pause before it is for."""
        self._tell(status(self._tries.failed(time.monotonic())))

    async def _drop(self) -> None:
        link, self._link = self._link, None
        self._renewal.parted()
        if link is None:
            return
        if link.opened_at_s is not None and time.monotonic() - link.opened_at_s >= STEADY_S:
            self._tries.went_well()
        await link.close()

    # -- frames ------------------------------------------------------------------------------------------------------

    def _take(self, link: Link, frame: Mapping[str, Any], raw: str) -> Message | None:
        match frame.get("type"):
            case "message":
                message = read_message(frame, raw)
                return message if self._asked.hears(message.to) and self._cursors.take(message) else None
            case "welcome":
                self._welcome(link, frame)
            case "caught_up" if told := read_progress(frame, "seq"):
                to, (seq,) = told
                if self._asked.hears(to):
                    self._cursors.caught_up(to, seq, time.monotonic())
                    self._tell(CaughtUp(to, seq))
            case "lost" if told := read_progress(frame, "from", "until"):
                to, (since, until) = told
                if self._asked.hears(to):
                    self._tell(Lost(to, since, until))
            case _:
                self._take_answer(frame)
        return None

    def _take_answer(self, frame: Mapping[str, Any]) -> None:
        """Take what the edge says to a wish, or anything else."""
        match frame:
            case {"type": "subscribed"} if told := read_subscribed(frame):
                topic, head = told
                self._asked.subscribed(topic)
                if self._asked.hears(TOPIC_PREFIX + topic):
                    self._cursors.subscribed(TOPIC_PREFIX + topic, head, time.monotonic())
                    self._tell(Subscribed(topic, head))
            case {"type": "unsubscribed", "topic": str(topic)}:
                if self._asked.unsubscribed(topic):
                    # It may be given again, and begins anew then.
                    self._cursors.unsubscribe(TOPIC_PREFIX + topic, time.monotonic())
                self._tell(Unsubscribed(topic))
            case {"type": "members" | "joined" | "left", "topic": str(topic)}:
                if self._asked.hears(TOPIC_PREFIX + topic) and (said := read_presence(frame)):
                    self._tell(said)
            case {"type": "error", "code": str(code), "message": str(why)}:
                if code == UNCHECKED:
                    self._renewal.failed(time.monotonic())
                self._tell(Refused(code, why))
            case _:
                self._notice(frame)

    def _welcome(self, link: Link, frame: Mapping[str, Any]) -> None:
        welcome = read_welcome(frame)
        self._cursors.welcomed(welcome.user, welcome.head, welcome.all_head, time.monotonic())
        link.welcomed(welcome.heartbeat_s)
        self._expired = False
        self._tell(Welcomed(self._url, welcome.user, welcome.session, welcome.node))

    def _notice(self, frame: Mapping[str, Any]) -> None:
        match frame.get("type"):
            case "bye":
                self._tries.told_after_s = read_retry_after_s(frame)
            case "expiring":
                self._renewal.expiring(time.monotonic(), read_expiring_s(frame, TOKEN_TIMEOUT_S))
            case "extended":
                self._asked.ask_unheard_again()
        self._tell(Noticed(frame))

    # -- what the client says ----------------------------------------------------------------------------------------

    async def _keep_if_due(self) -> None:
        if time.monotonic() >= self._cursors.due_s:
            await self._keep()

    async def _keep(self) -> None:
        # What other tasks subscribe in the meantime is kept with the next save.
        while self._cursors.unkept:
            cursors = self._cursors.to_keep()
            await self._store.save(cursors)
            self._cursors.note_kept(cursors)

    async def _acknowledge_if_due(self, link: Link) -> None:
        if time.monotonic() >= self._cursors.due_s:
            await self._acknowledge(link)

    async def _acknowledge(self, link: Link) -> None:
        frames = [ack_frame(to, seq) for to, seq in self._cursors.unacked().items()]
        if all([await link.send(frame) for frame in frames]):
            self._cursors.note_acked()

    async def _acknowledge_last(self) -> None:
        if self._link is not None and self._link.opened_at_s is not None:
            with suppress(Silent):  # what is not acknowledged comes again
                await self._acknowledge(self._link)

    async def _say_topics(self, link: Link) -> None:
        """Say what has changed of what is wanted since the connection was asked for topics."""
        # As one: two tasks whose frames mix would leave the edge with another last word than the application's.
        async with self._asking:
            while self._link is link and (frames := self._asked.unsaid(self._cursors.cursors)):
                # What counts as said is said.
                with anyio.CancelScope(shield=True):
                    for frame in frames:
                        await link.send(frame)

    async def _say_topics_now(self) -> None:
        link = self._link
        if link is not None and link.opened_at_s is not None:
            with suppress(Silent):  # the iteration will notice, and say it to the next edge
                await self._say_topics(link)

    async def _renew_if_due(self, link: Link) -> None:
        """Send a newer token on a connection whose own is about to expire. Without one it is closed with 4003, later."""
        now_s = time.monotonic()
        if now_s < self._renewal.due_s:
            return
        try:
            token = await ask(self._fresh_token, self._renewal.left_s(now_s))
        except TokenMissing as exc:
            self._tell(NoToken(str(exc), self._renewal.failed(time.monotonic())))
        else:
            self._renewal.sent()
            await link.send(token_frame(token))
