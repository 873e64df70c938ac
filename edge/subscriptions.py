"""The topics of one session, from the wish to the last message.

    subscribe ─▶ granted? ─ Hear ─▶ heard ─┬─ since known, or no device ───────────▶ joined: `subscribed`, then what it missed
                                           └─ FindCursor ─▶ found ─────────────────▶ joined
    unsubscribe, at any of these points ─▶ left: `unsubscribed`

Some topics come unasked: those that the token names (`given`), and those that a back end has subscribed the user to
(`standing`). They take the same way, whatever the patterns grant. What the client leaves it is not given again in this session;
what a back end ends is over, whoever asked for it (`ended`). A newer token grants anew (`regranted`): the session then has
what one that begins with that token would have, but for what the client has left.

Where a topic begins, the later word wins: `since` in the frame; `since` of the connect frame, which counts once, for the first
subscription of that topic; the device's cursor; what comes from now on. Both frames are answered every time, so that a client
that does not know whether it was heard may ask again.

Pure; part of `edge.session`, which it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from edge.actions import Actions, CatchUp, FindCursor, Forgo, Hear, Leave, MoveCursor, Send, Watch, tell
from edge.feed import Feed, Hearing
from edge.frames import CaughtUp, Error, ServerFrame, Subscribed, Unsubscribed, encode
from edge.position import Outlet
from edge.wishes import first_cursor, lost, not_from_the_future
from router.cursors import CursorKey
from router.grants import covers
from router.settings import Settings
from router.targets import TOPIC_PREFIX

_NONE: Final[AbstractSet[str]] = frozenset()


def begin_hearing(
    feed: Feed, outlet: Outlet, since: int | None, retention_s: float, *, asked: bool = True
) -> tuple[Hearing, list[ServerFrame], Actions]:
    """Have a session hear a feed from now on, or behind `since`.

    Args:
        feed: of which target.
        outlet: the session's.
        since: None is from now on.
        retention_s: how long messages are kept.
        asked: the client is told that it has missed nothing; otherwise only what it has.

    Returns:
        its place; what its client is told at once; what is to be done behind that.
    """
    if since is None:
        return feed.join(outlet, None), [], ()
    target, head = feed.position.target, feed.head
    since = not_from_the_future(since, head)
    hearing = feed.join(outlet, since)
    told: list[ServerFrame] = [*lost(target, since, head, retention_s)]
    if hearing.own is not None and hearing.own.goal is not None:
        return hearing, told, (CatchUp(hearing.own, announce=True),)
    return hearing, [*told, CaughtUp(target, since)] if asked else told, ()


class Subscriptions:
    """A session's topics.

    Args:
        settings: `subscriptions_session_max`, `retention_s`.
        outlet: the session's.
        user: whose it is.
        device: whose cursors count; None where the server keeps none.
        patterns: the topics that the token grants.
        since: `topic:<name>` → the last seq that the client has, as it said at connecting.
        granted: topics that the token names, patterns or not.
        left: topics that the client has left before it was welcome.

    Attributes:
        wished: targets asked for and not joined yet → where they are to begin; None leaves it open.
        hearings: target → the place in its feed.
    """

    __slots__ = (
        "_came",
        "_device",
        "_feeds",
        "_granted",
        "_left",
        "_outlet",
        "_patterns",
        "_settings",
        "_since",
        "_standing",
        "_told_full",
        "_user",
        "_watched",
        "hearings",
        "wished",
    )

    def __init__(
        self,
        settings: Settings,
        outlet: Outlet,
        user: str,
        device: str | None,
        patterns: Sequence[str],
        since: Mapping[str, int],
        granted: Sequence[str] = (),
        left: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._outlet = outlet
        self._user = user
        self._device = device
        self._patterns = patterns
        self._since = dict(since)
        self._granted = granted
        self._standing: AbstractSet[str] | None = None
        # Of those that stand: what is heard for that reason alone, and what the client has left.
        self._came: AbstractSet[str] = _NONE
        self._left: AbstractSet[str] = frozenset(left) if left else _NONE
        self._told_full = False
        self._feeds: dict[str, Feed] = {}
        # Targets wished for whose members are to be told.
        self._watched: AbstractSet[str] = _NONE
        self.wished: dict[str, int | None] = {}
        self.hearings: dict[str, Hearing] = {}

    def subscribe(self, topic: str, since: int | None, *, presence: bool = False) -> Actions:
        """The client asks for a topic, and maybe for who else is there."""
        target = TOPIC_PREFIX + topic
        if self._left:
            self._left -= {topic}
        if self._standing:
            self._note_wish(topic)
        if target in self.hearings:
            told = tell(Subscribed(topic, self.hearings[target].feed.head))
            return (told, Watch(topic)) if presence else (told,)
        if target in self.wished:
            self.wished[target] = self.wished[target] if since is None else since
            self._watched |= {target} if presence else _NONE
            return ()
        if problem := self._problem_with(topic):
            return (tell(problem),)
        self.wished[target] = self._since.pop(target, None) if since is None else since
        self._watched |= {target} if presence else _NONE
        return (Hear(target),)

    def heard(self, feed: Feed, at_us: int) -> Actions:
        """The feed of a topic may be joined."""
        target = feed.position.target
        if target not in self.wished:
            return ()
        since = self.wished[target]
        if since is not None or self._device is None:
            return self._join(feed, since)
        self._feeds[target] = feed
        begin_at = first_cursor(feed.head, at_us, self._settings.retention_s)
        return (FindCursor({CursorKey(self._user, self._device, target): begin_at}),)

    def found(self, target: str, cursor: int) -> Actions:
        """The device's cursor of a topic is read, or begun."""
        feed = self._feeds.pop(target, None)
        if feed is None or target not in self.wished:
            return ()
        since = self.wished[target]
        # One of a device that is new may lie above the head (`first_cursor`).
        return self._join(feed, min(cursor, feed.head) if since is None else since)

    def unsubscribe(self, topic: str) -> Actions:
        """The client wants a topic no longer."""
        if topic in self._standing if self._standing is not None else len(self._left) < self._most:
            self._left |= {topic}
        self._came -= {topic}
        return *self._stop(topic), tell(Unsubscribed(topic))

    def _stop(self, topic: str) -> Actions:
        target = TOPIC_PREFIX + topic
        self._watched -= {target}
        hearing = self.hearings.pop(target, None)
        if hearing is not None:
            return (Leave(hearing),)
        if target in self.wished:
            del self.wished[target]
            # The feed may end with this wish; a cursor that is still looked up for it is not for the next one.
            self._feeds.pop(target, None)
            return (Forgo(target),)
        return ()

    # -- unasked -----------------------------------------------------------------------------------------------------

    def given(self) -> Actions:
        """The session begins: the token names topics."""
        return tuple(action for topic in self._granted for action in self._take(topic))

    def standing(self, topics: Sequence[str]) -> Actions:
        """A back end has subscribed the user to these topics, now; what was said before is over."""
        now = frozenset(topics)
        over = sorted(self._came - now)
        self._standing, self._came, self._left = now, self._came & now, self._left & now
        actions = [action for topic in over for action in self._end(topic)]
        for topic in topics:
            taken = self._take(topic)
            if TOPIC_PREFIX + topic in self.wished and taken:
                self._came |= {topic}
            actions += taken
        return tuple(actions)

    def regranted(self, patterns: Sequence[str], granted: Sequence[str]) -> Actions:
        """A newer token holds: what it does not grant is over, unless it stands; what it alone names begins."""
        fresh = [topic for topic in granted if topic not in self._granted]
        self._patterns, self._granted = patterns, granted
        standing = self._standing or _NONE
        bare = [topic for topic in map(_topic, [*self.hearings, *self.wished]) if not self._may_ask(topic)]
        self._came = (self._came - frozenset(fresh)) | (standing & frozenset(bare))
        over = [action for topic in bare if topic not in standing for action in (*self._end(topic), tell(_no_longer(topic)))]
        return (*over, *(action for topic in fresh for action in self._take(topic)))

    def ended(self, topic: str) -> Actions:
        """A back end has ended a topic, whoever asked for it. Where it stands again, that is news."""
        self._came, self._left = self._came - {topic}, self._left - {topic}
        if self._standing:
            self._standing -= {topic}
        return self._end(topic)

    def _end(self, topic: str) -> Actions:
        stopped = self._stop(topic)
        return (*stopped, tell(Unsubscribed(topic))) if stopped else ()

    def _take(self, topic: str) -> Actions:
        """Return what begins a topic that was not asked for; nothing where it is heard, or was left."""
        target = TOPIC_PREFIX + topic
        if topic in self._left or target in self.hearings or target in self.wished:
            return ()
        if self._is_full:
            # Told once: what stands is read again and again.
            told, self._told_full = self._told_full, True
            return () if told else (tell(self._too_many()),)
        self.wished[target] = self._since.pop(target, None)
        return (Hear(target),)

    def _note_wish(self, topic: str) -> None:
        """Keep a topic that stands beyond that where the client asks for it by a right of its own."""
        if self._may_ask(topic):
            self._came -= {topic}
        elif self._standing and topic in self._standing:
            self._came |= {topic}

    # -- what is granted ---------------------------------------------------------------------------------------------

    def _problem_with(self, topic: str) -> Error | None:
        if not (self._may_ask(topic) or (self._standing and topic in self._standing)):
            return Error("forbidden", f"subscribe: the token does not grant the topic {topic}")
        return self._too_many() if self._is_full else None

    def _may_ask(self, topic: str) -> bool:
        return topic in self._granted or covers(self._patterns, topic)

    @property
    def _most(self) -> int:
        return self._settings.subscriptions_session_max

    @property
    def _is_full(self) -> bool:
        return len(self.hearings) + len(self.wished) >= self._most

    def _too_many(self) -> Error:
        return Error("too_many_topics", f"subscribe: a session has at most {self._most} topics")

    def _join(self, feed: Feed, since: int | None) -> Actions:
        target = feed.position.target
        asked = self.wished.pop(target)
        hearing, told, then = begin_hearing(feed, self._outlet, since, self._settings.retention_s)
        self.hearings[target] = hearing
        topic = _topic(target)
        watch = (Watch(topic),) if target in self._watched else ()
        self._watched -= {target}
        actions: Actions = (Send(b"".join(map(encode, [Subscribed(topic, feed.head), *told]))), *then, *watch)
        if asked is None or self._device is None:
            return actions
        # What the client came with is its device's.
        return *actions, MoveCursor(CursorKey(self._user, self._device, target), hearing.at)


def _topic(target: str) -> str:
    return target.removeprefix(TOPIC_PREFIX)


def _no_longer(topic: str) -> Error:
    return Error("forbidden", f"token: the newer one does not grant the topic {topic}")
