"""Where one session stands in all that it hears: the user's own messages, `all`, and its topics.

    come ── cursors to look up ──▶ begin ──▶ ack, subscribe, unsubscribe, standing, ended, regranted

It begins behind what the client says that it has, or else behind what is known of its device, or else at the heads. What is
acknowledged moves the device's cursors, up to what was sent. The topics are `edge.subscriptions`; most sessions have none.

Pure; part of `edge.session`, which says when each of these may be, and begins once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge.actions import FIND_STANDING, Actions, CatchUp, MoveCursor
from edge.client_frames import NO_OPTIONS, OWN, Ack, Options
from edge.feed import Feed, Hearing
from edge.frames import CaughtUp, encode
from edge.position import Outlet, Position
from edge.subscriptions import Subscriptions, begin_hearing
from edge.wishes import first_cursor, lost, not_from_the_future
from router.cursors import CursorKey
from router.settings import Settings
from router.targets import ALL, TOPIC_PREFIX, USER_PREFIX


def own_cursor(user: str, device: str | None) -> CursorKey | None:
    """Return the cursor of the user's own messages; None without a device, or without a user yet."""
    return CursorKey(user, device, USER_PREFIX + user) if device is not None and user else None


class Places:
    """All places of a session.

    Args:
        settings: `retention_s`, `send_buffer_soft_bytes`, `subscriptions_session_max`.
        outlet: what messages of this session are put into.
        user: whose it is.
        device: whose cursors count; None where the server keeps none.
        patterns: of topics that the client may ask for.
        granted: topics that it need not ask for.

    Attributes:
        own: the place in the user's own order.
        acked: the highest seq of those that the client has acknowledged, or came with.
        head: the user's, as it was read behind the writing of the route.
        routed_us: when the route was written, by Redis' clock.
    """

    __slots__ = (
        "_all",
        "_all_feed",
        "_device",
        "_granted",
        "_looked",
        "_options",
        "_outlet",
        "_patterns",
        "_settings",
        "_topics",
        "_user",
        "acked",
        "head",
        "own",
        "routed_us",
    )

    def __init__(
        self,
        settings: Settings,
        outlet: Outlet,
        user: str,
        device: str | None,
        patterns: Sequence[str],
        granted: Sequence[str],
    ) -> None:
        self.own = Position(outlet, USER_PREFIX + user, settings.send_buffer_soft_bytes)
        self.acked = self.head = self.routed_us = 0
        self._settings = settings
        self._outlet = outlet
        self._user = user
        self._device = device
        self._patterns, self._granted = patterns, granted
        self._options = NO_OPTIONS
        self._looked = False
        self._all_feed: Feed | None = None
        self._all: Hearing | None = None
        self._topics: Subscriptions | None = None

    @property
    def hearings(self) -> list[Hearing]:
        """The feeds that the session has joined."""
        mine = [] if self._all is None else [self._all]
        return mine + (list(self._topics.hearings.values()) if self._topics else [])

    @property
    def wished(self) -> list[str]:
        """The targets that it may wait to hear of."""
        return [ALL, *(self._topics.wished if self._topics else ())]

    @property
    def cursors(self) -> list[CursorKey]:
        """All cursors that acks move: of the user's own messages, of `all` and of topics."""
        key = self._cursor
        if key is None:
            return []
        return [key, *(key._replace(target=hearing.feed.position.target) for hearing in self.hearings)]

    @property
    def _cursor(self) -> CursorKey | None:
        return own_cursor(self._user, self._device)

    # -- where it begins ---------------------------------------------------------------------------------------------

    def come(self, since: Mapping[str, int], feed: Feed) -> dict[CursorKey, int]:
        """The feed of `all` may be joined, so both heads are known.

        Returns:
            the cursors of the device that the client does not give itself, and where they begin if nobody has them.
        """
        self._all_feed = feed
        if self._device is None:
            return {}
        heads = {OWN: (self.own.target, self.head), ALL: (ALL, feed.head)}
        return {
            CursorKey(self._user, self._device, target): first_cursor(head, self.routed_us, self._settings.retention_s)
            for name, (target, head) in heads.items()
            if name not in since
        }

    @property
    def all_head(self) -> int:
        """The head of `all`."""
        return 0 if self._all_feed is None else self._all_feed.head

    def begin(self, options: Options, found: Mapping[str, int]) -> tuple[list[bytes], Actions]:
        """Begin behind what the client said, or what was `found` of its device; else at the heads.

        Returns:
            the frames that follow the welcome; what is to be done behind them.
        """
        if self._all_feed is None:
            return [], ()
        self._options, head, own = options, self.head, self.own
        # The cursor of a device that is new, or was, may lie above the head (`first_cursor`); what follows is behind the head.
        since = options.since.get(OWN, min(found[own.target], head) if own.target in found else None)
        frames = own.start(head) if since is None else self._begin_behind(since)
        all_since = options.since.get(ALL, min(found[ALL], self.all_head) if ALL in found else None)
        # Few are sent anything as `all`: who did not ask hears of it when there is something.
        self._all, told, then = begin_hearing(
            self._all_feed, self._outlet, all_since, self._settings.retention_s, asked=ALL in options.since
        )
        catch_up = () if own.goal is None else (CatchUp(own, since is not None),)
        return [*frames, *map(encode, told)], (*self._move_cursors(self._all), *catch_up, *then, *self._begin_topics())

    def _begin_behind(self, since: int) -> list[bytes]:
        own, head = self.own, self.head
        since = self.acked = not_from_the_future(since, head)
        frames = [encode(frame) for frame in lost(own.target, since, head, self._settings.retention_s)]
        frames += own.start_after(since, head)
        if own.goal is None:
            frames.append(encode(CaughtUp(own.target, since)))
        return frames

    def _move_cursors(self, everybody: Hearing) -> Actions:
        """Note what the client came with as its device's; what was looked up is there already."""
        key, said = self._cursor, self._options.since
        if key is None:
            return ()
        own = (MoveCursor(key, self.acked),) if OWN in said else ()
        return (*own, MoveCursor(key._replace(target=ALL), everybody.at)) if ALL in said else own

    def _begin_topics(self) -> Actions:
        watched = self._options.watched
        asked = [self.subscribe(topic, None, presence=topic in watched) for topic in self._options.topics]
        given = [self._subscriptions().given()] if self._granted else []
        return (FIND_STANDING, *(action for actions in [*asked, *given] for action in actions))

    # -- what is acknowledged ----------------------------------------------------------------------------------------

    def problem_with(self, ack: Ack) -> str:
        """Return what is wrong with an ack; "" where nothing is."""
        sent = self._sent(self.own.target if ack.to is None else ack.to)
        if sent is None:
            return f"nothing was sent of {ack.to or 'anything'}"
        return f"{ack.seq} is beyond what was sent ({sent})" if ack.seq > sent else ""

    def ack(self, ack: Ack) -> Actions:
        """The client acknowledges what it was sent."""
        key = self._cursor
        if ack.to is None or ack.to == self.own.target:
            if ack.seq <= self.acked:
                return ()
            self.acked = ack.seq
        elif key is not None:
            key = key._replace(target=ack.to)
        return () if key is None else (MoveCursor(key, ack.seq),)

    def _sent(self, target: str) -> int | None:
        """Return the last seq of a target that was put out to the client; None of one that the session does not hear."""
        if target == self.own.target:
            return self.own.at
        hearing = self._all if target == ALL else self._topics and self._topics.hearings.get(target)
        return hearing.at if hearing else None

    # -- topics ------------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str, since: int | None, *, presence: bool) -> Actions:
        """The client asks for a topic."""
        return self._subscriptions().subscribe(topic, since, presence=presence)

    def unsubscribe(self, topic: str) -> Actions:
        """The client wants a topic no longer."""
        return self._subscriptions().unsubscribe(topic)

    def heard(self, feed: Feed) -> Actions:
        """The feed of a topic may be joined."""
        return self._topics.heard(feed, self.routed_us) if self._topics else ()

    def found(self, cursors: Mapping[str, int]) -> Actions:
        """Cursors of topics are read, or begun."""
        if self._topics is None:
            return ()
        return tuple(action for target, seq in cursors.items() for action in self._topics.found(target, seq))

    def standing(self, topics: Sequence[str]) -> Actions:
        """Back ends have subscribed the user to these topics, as far as they are told just now."""
        self._looked = True
        # Nearly everybody has none.
        return self._subscriptions().standing(topics) if topics or self._topics else ()

    def ended(self, topic: str) -> Actions:
        """A back end has ended a topic for the user."""
        return self._topics.ended(topic) if self._topics else ()

    def regranted(self, patterns: Sequence[str], granted: Sequence[str]) -> Actions:
        """A newer token holds, and grants these."""
        self._patterns, self._granted = patterns, granted
        if self._topics is not None:
            return self._topics.regranted(patterns, granted)
        return self._subscriptions().given() if granted else ()

    def _subscriptions(self) -> Subscriptions:
        if self._topics is None:
            options = self._options
            said = {name: seq for name, seq in options.since.items() if name.startswith(TOPIC_PREFIX)}
            self._topics = Subscriptions(
                self._settings, self._outlet, self._user, self._device, self._patterns, said, self._granted, options.left
            )
            if self._looked:
                self._topics.standing(())
        return self._topics
