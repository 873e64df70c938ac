"""The topics of one session, from the wish to the last message.

    subscribe ─▶ granted? ─ Hear ─▶ heard ─┬─ since known, or no device ───────────▶ joined: `subscribed`, then what it missed
                                           └─ FindCursor ─▶ found ─────────────────▶ joined
    unsubscribe, at any of these points ─▶ left: `unsubscribed`

Where a topic begins, the later word wins: `since` in the frame; `since` of the connect frame, which counts once, for the first
subscription of that topic; the device's cursor; what comes from now on. Both frames are answered every time, so that a client
that does not know whether it was heard may ask again.

Pure; part of `edge.session`, which it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge.actions import Actions, CatchUp, FindCursor, Forgo, Hear, Leave, MoveCursor, Send
from edge.feed import Feed, Hearing
from edge.frames import CaughtUp, Error, ServerFrame, Subscribed, Unsubscribed, encode
from edge.position import Outlet
from edge.wishes import first_cursor, lost, not_from_the_future
from router.cursors import CursorKey
from router.grants import covers
from router.settings import Settings
from router.targets import TOPIC_PREFIX


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

    Attributes:
        wished: targets asked for and not joined yet → where they are to begin; None leaves it open.
        hearings: target → the place in its feed.
    """

    __slots__ = ("_device", "_feeds", "_outlet", "_patterns", "_settings", "_since", "_user", "hearings", "wished")

    def __init__(
        self,
        settings: Settings,
        outlet: Outlet,
        user: str,
        device: str | None,
        patterns: Sequence[str],
        since: Mapping[str, int],
    ) -> None:
        self._settings = settings
        self._outlet = outlet
        self._user = user
        self._device = device
        self._patterns = patterns
        self._since = dict(since)
        self._feeds: dict[str, Feed] = {}
        self.wished: dict[str, int | None] = {}
        self.hearings: dict[str, Hearing] = {}

    def subscribe(self, topic: str, since: int | None) -> Actions:
        """The client asks for a topic."""
        target = TOPIC_PREFIX + topic
        if target in self.hearings:
            return (_send(Subscribed(topic, self.hearings[target].feed.head)),)
        if target in self.wished:
            self.wished[target] = self.wished[target] if since is None else since
            return ()
        if problem := self._problem_with(topic):
            return (_send(problem),)
        self.wished[target] = self._since.pop(target, None) if since is None else since
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
        target = TOPIC_PREFIX + topic
        told = _send(Unsubscribed(topic))
        hearing = self.hearings.pop(target, None)
        if hearing is not None:
            return Leave(hearing), told
        if target in self.wished:
            del self.wished[target]
            # The feed may end with this wish; a cursor that is still looked up for it is not for the next one.
            self._feeds.pop(target, None)
            return Forgo(target), told
        return (told,)

    def _problem_with(self, topic: str) -> Error | None:
        if not covers(self._patterns, topic):
            return Error("forbidden", f"subscribe: the token does not grant the topic {topic}")
        most = self._settings.subscriptions_session_max
        if len(self.hearings) + len(self.wished) >= most:
            return Error("too_many_topics", f"subscribe: a session has at most {most} topics")
        return None

    def _join(self, feed: Feed, since: int | None) -> Actions:
        target = feed.position.target
        asked = self.wished.pop(target)
        hearing, told, then = begin_hearing(feed, self._outlet, since, self._settings.retention_s)
        self.hearings[target] = hearing
        first = Subscribed(target.removeprefix(TOPIC_PREFIX), feed.head)
        actions: Actions = (Send(b"".join(map(encode, [first, *told]))), *then)
        if asked is None or self._device is None:
            return actions
        # What the client came with is its device's.
        return *actions, MoveCursor(CursorKey(self._user, self._device, target), hearing.at)


def _send(frame: ServerFrame) -> Send:
    return Send(encode(frame))
