"""Hearing channels, the node's own and those of its feeds: a Redis connection that does nothing else.

`Subscription` is one connection, with channels added and taken away while it stands. It lives on hiredis' reader alone:
redis-py's pubsub costs three times the CPU a message. `Subscriber` keeps one up: it connects, waits until Redis has confirmed
every channel, and begins again with backoff when the connection or a channel is lost. Sharded channels are lost one by one when
Redis Cluster moves their slot (the server then pushes `sunsubscribe`, unasked), which counts as a loss of all: what was
published meanwhile is gone. So does that another server turns out to be the primary: a replica is still told what is published,
but nobody counts who hears it there.

A channel that Redis does not allow our user (NOPERM) is no reason to hear nothing else: it is left out, told of once, and asked
for again every `REFUSED_AGAIN_S`, as rights can be given at any time. Without the channels of the beginning there is no
subscription.

What it promises: messages come in the order Redis sent them, `on_subscribed` is called after every subscription, and `on_heard`
when a channel that was added to one is heard. What it does not: that nothing was missed before.

Sources: https://redis.io/docs/latest/develop/pubsub/, https://redis.io/docs/latest/commands/ssubscribe/
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, cast

import anyio
import hiredis
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from edge.redis_address import RedisAddress, read_address
from router.metrics import RESUBSCRIBED
from router.primary_pool import PrimaryPool, read_moved
from router.redis_client import OUTAGE
from router.redis_url import Address, read_url
from router.refusals import explained
from router.retry import Backoff
from router.settings import Settings
from router.tls.trust import redis_trust

log = structlog.get_logger(__name__)

Receive = Callable[[list[bytes]], None]
"""Takes the payloads that one read completed."""

_SUBSCRIBE: Final = "SSUBSCRIBE"
_UNSUBSCRIBE: Final = "SUNSUBSCRIBE"

_REFUSED: Final = "NOPERM "
_PASSWORD_ALONE: Final = 2
"""Words of an AUTH without a user."""

REFUSED_AGAIN_S: Final = 10.0
"""How often a channel is asked for that was refused."""

_MESSAGE: Final = b"smessage"
_CONFIRMED: Final = b"ssubscribe"
_REVOKED: Final = b"sunsubscribe"

LOST: Final = "lost"
PROBE: Final = "probe"
REVOKED: Final = "sunsubscribe"
MOVED: Final = "moved"


class Subscription(asyncio.Protocol):
    """One connection that subscribes to channels as soon as it is made.

    Args:
        greeting: commands to send first.
        channels: what to hear from the beginning.
        receive: gets the payloads; must not await.
        on_heard: is told of each channel that is confirmed later.
        needed: channels whose refusal ends it.

    Attributes:
        settled: set when every channel of the beginning is confirmed or refused, or when `ended` is.
        ended: set when it will hear nothing more; `reason` and `error` say why.
        heard_at_s: channel → when anything last came on it, the confirmation included (monotonic clock).
        refused: channel → what Redis said, of those that are wanted and not allowed.
    """

    def __init__(
        self,
        greeting: Sequence[Sequence[str]],
        channels: Iterable[str],
        receive: Receive,
        on_heard: Callable[[str], None] = lambda _: None,
        needed: Collection[str] = (),
    ) -> None:
        self.settled = anyio.Event()
        self.ended = anyio.Event()
        self.reason = LOST
        self.error: Exception = RedisConnectionError("Redis closed the connection")
        self.heard_at_s: dict[bytes, float] = {}
        self.refused: dict[str, str] = {}
        self._needed = needed
        # What has been sent and not answered yet, in order: the command, and the channel that it names. An error names neither.
        self._unanswered: deque[tuple[str, bytes]] = deque()
        self._greeting = greeting
        self._wanted = {channel.encode(): None for channel in channels}
        self._unconfirmed = {*self._wanted}
        # Channel → answers to SUNSUBSCRIBE that are still to come.
        self._dropped: Counter[bytes] = Counter()
        self._receive = receive
        self._on_heard = on_heard
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves and subscribe, all in one write."""
        self._transport = cast(asyncio.Transport, transport)
        # A command a channel: in a Cluster, one SSUBSCRIBE may only name channels of one slot.
        asked = [(_SUBSCRIBE, channel) for channel in self._wanted]
        self._unanswered.extend([*((command[0], b"") for command in self._greeting), *asked])
        self._transport.writelines([_pack(command) for command in (*self._greeting, *asked)])

    def hear(self, channel: str) -> None:
        """Subscribe another channel."""
        name = channel.encode()
        self._wanted[name] = None
        self._unconfirmed.add(name)
        self._send(_SUBSCRIBE, name)

    def ask_again(self) -> None:
        """Ask once more for what was refused."""
        for channel in list(self.refused):
            self.hear(channel)

    def drop(self, channel: str) -> None:
        """Hear a channel no more."""
        name = channel.encode()
        del self._wanted[name]
        self.heard_at_s.pop(name, None)
        self.refused.pop(channel, None)
        if self._transport is not None:
            self._dropped[name] += 1
            self._send(_UNSUBSCRIBE, name)
        self._confirm(name)

    def _send(self, command: str, name: bytes) -> None:
        if self._transport is not None:
            self._unanswered.append((command, name))
            self._transport.write(_pack((command, name)))

    def data_received(self, data: bytes) -> None:
        """Hand on whatever payloads these bytes complete."""
        payloads: list[bytes] = []
        now_s = time.monotonic()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if type(reply) is list and reply[0] == _MESSAGE:
                    self.heard_at_s[reply[1]] = now_s
                    payloads.append(reply[2])
                else:
                    self._note(reply, now_s)
        except hiredis.HiredisError as exc:
            self.end(LOST, RedisConnectionError(str(exc)))
        if payloads:
            self._receive(payloads)

    def connection_lost(self, exc: Exception | None) -> None:
        """Redis, the network or `end` closed the connection."""
        self.end(LOST, exc or self.error)

    def end(self, reason: str, error: Exception) -> None:
        """Hear nothing more, at once."""
        if not self.ended.is_set():
            self.reason, self.error = reason, error
            self.ended.set()
            self.settled.set()
        if self._transport is not None:
            self._transport.abort()

    def _note(self, reply: Any, now_s: float) -> None:  # noqa: ANN401 - hiredis returns what Redis sent
        """Take in what is not a message: the answer to a command, or a channel gained or lost."""
        asked, name = self._unanswered[0] if self._unanswered else ("", b"")
        if type(reply) is list and reply[0] == _REVOKED:
            # Redis says so unasked too, between any two answers.
            if (asked, name) == (_UNSUBSCRIBE, reply[1]):
                self._unanswered.popleft()
            self._note_revoked(reply[1])
            return
        if self._unanswered:
            self._unanswered.popleft()
        if isinstance(reply, hiredis.ReplyError):
            self._note_error(str(reply), asked, name)
        elif type(reply) is list and reply[0] == _CONFIRMED and reply[1] in self._wanted and not self._dropped[reply[1]]:
            self.heard_at_s[reply[1]] = now_s
            self.refused.pop(reply[1].decode(), None)
            self._confirm(reply[1])

    def _note_error(self, error: str, asked: str, name: bytes) -> None:
        """Take in that Redis refused something: only a channel that is not needed can be done without."""
        if not error.startswith(_REFUSED):
            self.end(LOST, ResponseError(error))
            return
        channel = name.decode()
        refused = explained(NoPermissionError(error.removeprefix(_REFUSED)), self._user, f"{asked} {channel}".rstrip())
        if asked != _SUBSCRIBE or channel in self._needed:
            self.end(LOST, refused)
        elif name in self._wanted and not self._dropped[name]:
            self.refused[channel] = str(refused)
            self._confirm(name, heard=False)

    def _note_revoked(self, name: bytes) -> None:
        """Take in that a channel is heard no more: as was asked for, or a loss."""
        left = self._dropped.pop(name, 0) - 1
        if left < 0:
            self.end(REVOKED, RedisConnectionError(f"Redis took the subscription to {name!r} back"))
        elif left:
            self._dropped[name] = left
        elif name not in self._wanted:
            # What came after it was dropped has noted it anew.
            self.heard_at_s.pop(name, None)

    @property
    def _user(self) -> str | None:
        """Who we said that we are: AUTH names the user, or a password alone."""
        return next((words[1] for words in self._greeting if words[0] == "AUTH" and len(words) > _PASSWORD_ALONE), None)

    def _confirm(self, name: bytes, *, heard: bool = True) -> None:
        """Wait for a channel no longer."""
        if name not in self._unconfirmed:
            return
        self._unconfirmed.remove(name)
        if self.settled.is_set():
            if heard and name in self._wanted:
                self._on_heard(name.decode())
        elif not self._unconfirmed:
            self.settled.set()


class Subscriber:
    """Keeps the node's channels subscribed.

    Args:
        settings: the server, timeouts and backoff.
        channels: what to hear from the beginning, and always.
        receive: gets the payloads; must not await.
        on_subscribed: called after every subscription, the first one included.
        on_heard: told of each channel that is heard later.
        on_begin: called before each try to subscribe. Nothing comes between the end of a subscription and that, and what comes
            behind it may come before `on_subscribed` is called.
        primary: knows where the channels are; None where they stay at one address.
        needed: channels that may be added, and whose refusal then ends a subscription, as that of `channels` does.
    """

    def __init__(
        self,
        settings: Settings,
        channels: Sequence[str],
        receive: Receive,
        on_subscribed: Callable[[], None],
        on_heard: Callable[[str], None] = lambda _: None,
        on_begin: Callable[[], None] = lambda: None,
        primary: PrimaryPool | None = None,
        needed: Collection[str] = (),
    ) -> None:
        self._primary = primary
        self._address = read_address(read_url(settings.redis_url).driver_url, "pushway-subscriber", redis_trust(settings))
        self._timeout_s = settings.redis_timeout_s
        self._backoff = Backoff(settings.backoff_min_ms, settings.backoff_max_ms)
        self._needed = frozenset((*channels, *needed))
        self._channels = dict.fromkeys(channels)
        self._receive = receive
        self._on_subscribed = on_subscribed
        self._on_heard = on_heard
        self._on_begin = on_begin
        # The latest, from the moment it is made; and the one that is announced.
        self._latest: Subscription | None = None
        self._subscription: Subscription | None = None
        self._subscribed = anyio.Event()

    @property
    def heard_at_s(self) -> dict[bytes, float] | None:
        """Channel → when anything last came on it; None while not subscribed."""
        return None if self._subscription is None else self._subscription.heard_at_s

    @property
    def refused(self) -> Collection[str]:
        """The channels that Redis does not allow our user."""
        return () if self._latest is None else self._latest.refused.keys()

    def hear(self, channel: str) -> None:
        """Subscribe a channel, now and after every loss."""
        self._channels[channel] = None
        if self._latest is not None:
            self._latest.hear(channel)

    def drop(self, channel: str) -> None:
        """Hear a channel no more."""
        del self._channels[channel]
        if self._latest is not None:
            self._latest.drop(channel)

    async def subscribed(self) -> None:
        """Return when all channels are subscribed, at once if they are."""
        await self._subscribed.wait()

    def resubscribe(self, reason: str, problem: str) -> None:
        """Begin again: the present subscription is not to be trusted."""
        if self._subscription is not None:
            self._subscription.end(reason, RedisConnectionError(problem))

    async def run(self) -> None:
        """Keep subscribed until cancelled."""
        told = ""
        while True:
            try:
                reason, error = await self._subscribe_once()
                RESUBSCRIBED.labels(reason=reason).inc()
                self._backoff.reset()
                told = ""
            except OUTAGE as exc:
                reason, error = LOST, exc
            # Once while it stays the same: what is lost by an outage may be kept away by an ACL.
            if (kind := type(error).__name__) != told:
                log.warning("subscription_lost", reason=reason, error=str(error), kind=kind)
            told = kind
            await anyio.sleep(self._backoff.next_s())

    async def _subscribe_once(self) -> tuple[str, Exception]:
        """Subscribe and return why that ended.

        Raises:
            RedisError, OSError: when it did not come about.
        """
        self._on_begin()
        subscription = self._latest = Subscription(
            self._address.greeting, self._channels, self._receive, self._on_heard, self._needed
        )
        where: Address | None = None
        try:
            with anyio.fail_after(self._timeout_s):
                where = await self._where()
                await connect(subscription, self._address if where is None else self._address.at(where))
                await subscription.settled.wait()
            if subscription.ended.is_set():
                raise subscription.error
            self._announce(subscription)
            await self._until_ended(subscription, where)
        except OUTAGE as exc:
            self._doubt(where, exc)
            raise
        finally:
            self._subscription = self._latest = None
            if self._subscribed.is_set():
                # One that is not set yet has waiters, and stays theirs however many tries it takes.
                self._subscribed = anyio.Event()
            subscription.end(LOST, subscription.error)
        if subscription.reason == LOST:
            self._doubt(where, subscription.error)
        return subscription.reason, subscription.error

    async def _where(self) -> Address | None:
        """Return where the channels are; None where that is always the same."""
        return None if self._primary is None else await self._primary.address()

    async def _until_ended(self, subscription: Subscription, where: Address | None) -> None:
        """Wait until a subscription has ended, and end it when the channels turn out to be elsewhere."""
        async with anyio.create_task_group() as tasks:
            if where is not None:
                tasks.start_soon(self._end_elsewhere, subscription, where)
            await self._stay(subscription)
            tasks.cancel_scope.cancel()

    async def _end_elsewhere(self, subscription: Subscription, where: Address) -> None:
        if self._primary is not None:
            await self._primary.left(where)
            subscription.end(MOVED, RedisConnectionError(f"{where} is the primary no longer"))

    def _doubt(self, where: Address | None, error: Exception) -> None:
        """Have it looked up anew where the channels are, unless the server has said so itself."""
        if self._primary is None or where is None:
            return
        moved = read_moved(str(error), where)
        if moved is None:
            self._primary.primaries.doubt(where)
        else:
            self._primary.primaries.moved(*moved)

    async def _stay(self, subscription: Subscription) -> None:
        """Return when the subscription has ended; until then ask again for what it was refused."""
        told: set[str] = set()
        while True:
            refused = dict(subscription.refused)
            for channel in refused.keys() - told:
                log.warning("channel_refused", channel=channel, error=refused[channel])
            told = {*refused}
            with anyio.move_on_after(REFUSED_AGAIN_S):
                await subscription.ended.wait()
                return
            subscription.ask_again()

    def _announce(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._subscribed.set()
        log.info("subscribed", channels=len(self._channels))
        self._on_subscribed()


async def connect(subscription: Subscription, to: RedisAddress) -> None:
    """Have a subscription's connection made.

    Raises:
        OSError: when it cannot be.
    """
    loop = asyncio.get_running_loop()
    if to.path is not None:
        await loop.create_unix_connection(lambda: subscription, to.path)
    else:
        await loop.create_connection(lambda: subscription, to.host, to.port, ssl=to.tls)


def _pack(command: Sequence[str | bytes]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # the stub takes tuples of one only
    return packed
