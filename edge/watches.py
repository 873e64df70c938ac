"""The topics that clients of this node watch: who is there by what edges tell (`edge.members`), and what watchers are told.

    watch ─▶ asking ─ all asked have answered, or SETTLE_S are over ─▶ settled: `members`, then `joined` and `left`
                ▲                                                        │
                └───────────── the subscription was lost ────────────────┘

The members are the union of what the nodes have told, each whole at first. Somebody who begins to watch what is settled is told
a moment later, when what the node itself tells of that very subscription has mostly come round.

A node's users have left when it says so; when its heartbeat has lapsed; or when it has not told all for as long as a lease
lasts. Changes that come of a node that is not known have no base: it is asked for all. Questions are repeated after a second,
two, four … up to a third of the lease, which heals what was lost, soonest where most is: in the moments after an outage.

Pure: times and lines come in, questions and frames go out. Bounds: `members_max` users a topic, beyond which the watch ends.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from edge.frames import Error, Joined, Left, Members, ServerFrame
from edge.members import Told, Watched

W = TypeVar("W")
"""Who watches: a session's outlet."""

SETTLE_S: Final = 0.8
"""Longest wait for the edges' answers: with what precedes it `members` comes within a second of `subscribed`."""

JOIN_S: Final = 0.25
"""After this what an edge tells of a subscription has come round: it is gathered for a part of that (`edge.watching`)."""

_FIRST_REPEAT_S: Final = 1.0
_REPEATS_A_LEASE: Final = 3
"""One may be lost and the next still comes in time."""


@dataclass(frozen=True, slots=True)
class Saying(Generic[W]):
    """What some watchers are told, in order."""

    watchers: tuple[W, ...]
    frames: tuple[ServerFrame, ...]


@dataclass(slots=True)
class _Node:
    """What a node has told: its users, and when (all of them, or anything)."""

    users: set[str]
    whole_at_s: float
    heard_at_s: float


class _Watch(Generic[W]):
    """A topic that is watched.

    Attributes:
        watchers: who → when to tell `members`; None who has been told, and hears of changes.
        nodes: those that have told all of their users.
        users: each → on how many nodes.
        awaited: how many answers there are to wait for; None until Redis has said so.
        settled: the answers are in, or were waited for long enough.
        ask_at_s: when to ask all nodes again.
        ask_of: nodes to ask at once.
    """

    __slots__ = (
        *("_answered", "_pause_s", "_topic", "ask_at_s", "ask_of", "awaited", "nodes", "settled", "settles_at_s"),
        *("users", "watchers"),
    )

    def __init__(self, topic: str, now_s: float) -> None:
        self._topic = topic
        self.watchers: dict[W, float | None] = {}
        self.begin_anew(now_s)

    def begin_anew(self, now_s: float) -> None:
        """Forget who is there, and have all watchers told again."""
        self.nodes: dict[str, _Node] = {}
        self.users: Counter[str] = Counter()
        self.awaited: int | None = None
        self._answered: set[str] = set()
        self.settled = False
        self.settles_at_s = now_s + SETTLE_S
        self.ask_at_s = now_s
        self._pause_s = _FIRST_REPEAT_S
        self.ask_of: set[str] = set()
        self.watchers = dict.fromkeys(self.watchers, self.settles_at_s)

    # -- what nodes tell ---------------------------------------------------------------------------------------------

    def hear(self, line: Told, now_s: float) -> list[ServerFrame]:
        """Take in a line; return what has changed of the union."""
        node = self.nodes.get(line.node)
        if line.users is None and node is None:
            self.ask_of.add(line.node)
            return []
        if line.new:
            self.ask_of.add(line.node)
        before = node.users if node is not None else set()
        users = (before - {*line.left}) | {*line.joined} if line.users is None else {*line.users}
        whole_at_s = node.whole_at_s if line.users is None and node is not None else now_s
        self.nodes[line.node] = _Node(users, whole_at_s, now_s)
        if line.users is not None:
            self._answered.add(line.node)
        return self._change(before, users)

    def drop(self, nodes: Iterable[str]) -> list[ServerFrame]:
        """Forget some nodes, and have their users leave."""
        return [frame for node in list(nodes) for frame in self._change(self.nodes.pop(node).users, set())]

    def _change(self, before: set[str], users: set[str]) -> list[ServerFrame]:
        frames: list[ServerFrame] = []
        for user in sorted(before - users):
            self.users[user] -= 1
            if not self.users[user]:
                del self.users[user]
                frames.append(Left(self._topic, user))
        for user in sorted(users - before):
            self.users[user] += 1
            if self.users[user] == 1:
                frames.append(Joined(self._topic, user))
        return frames

    # -- what watchers are told --------------------------------------------------------------------------------------

    @property
    def told(self) -> tuple[W, ...]:
        """Who hears of changes."""
        return tuple(watcher for watcher, at_s in self.watchers.items() if at_s is None)

    def settle(self, now_s: float) -> None:
        """Have all told who wait, if it is settled by now."""
        answers_are_in = self.awaited is not None and len(self._answered) >= self.awaited
        if not self.settled and (answers_are_in or now_s >= self.settles_at_s):
            self.settled = True
            self.watchers = dict.fromkeys(self.watchers, now_s)

    def tell_members(self, now_s: float) -> list[Saying[W]]:
        """Tell those whose time has come; from then on they hear of changes."""
        due = tuple(watcher for watcher, at_s in self.watchers.items() if at_s is not None and at_s <= now_s)
        if not self.settled or not due:
            return []
        self.watchers.update(dict.fromkeys(due))
        return [Saying(due, (Members(self._topic, sorted(self.users)),))]

    # -- questions ---------------------------------------------------------------------------------------------------

    def ask(self, now_s: float, longest_s: float) -> tuple[list[str] | None] | None:
        """Return whom to ask now (in a tuple; None in it is all), or None where nobody is to be."""
        of, self.ask_of = sorted(self.ask_of), set()
        if now_s >= self.ask_at_s:
            self.ask_at_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, longest_s)
            return (None,)
        return (of,) if of else None


class Watches(Generic[W]):
    """Keeps the watched topics of one node.

    Args:
        node: the node id.
        lease_s: as long a node's word counts, and a `watched` of ours there.
        node_s: how long a node counts as alive after its last heartbeat.
        most: users of a topic that is watched.
    """

    def __init__(self, node: str, lease_s: float, node_s: float, most: int) -> None:
        self._node = node
        self._lease_s = lease_s
        self._node_s = node_s
        self._most = most
        self._watches: dict[str, _Watch[W]] = {}

    @property
    def topics(self) -> Collection[str]:
        """What is watched."""
        return self._watches.keys()

    # -- called for watchers -----------------------------------------------------------------------------------------

    def begin(self, topic: str, watcher: W, now_s: float) -> None:
        """Somebody begins to watch a topic, or wants to be told its members once more."""
        watch = self._watches.get(topic)
        if watch is None:
            watch = self._watches[topic] = _Watch(topic, now_s)
        watch.watchers[watcher] = now_s + JOIN_S if watch.settled else watch.settles_at_s

    def end(self, topic: str, watcher: W) -> None:
        """Somebody watches a topic no more."""
        watch = self._watches.get(topic)
        if watch is not None and watcher in watch.watchers:
            del watch.watchers[watcher]
            if not watch.watchers:
                del self._watches[topic]

    # -- called by the edge ------------------------------------------------------------------------------------------

    def hear(self, line: Told, now_s: float) -> list[Saying[W]]:
        """A node has told of its users."""
        watch = self._watches.get(line.topic)
        if watch is None:
            return []
        told = self._tell_changes(line.topic, watch, watch.hear(line, now_s))
        return told + (self._pass_time(line.topic, watch, now_s) if line.topic in self._watches else [])

    def awaited(self, topic: str, count: int, now_s: float) -> list[Saying[W]]:
        """So many have heard the question to all."""
        watch = self._watches.get(topic)
        if watch is None or watch.awaited is not None:
            return []
        watch.awaited = count
        return self._pass_time(topic, watch, now_s)

    def unasked(self, topic: str, now_s: float) -> None:
        """A question may not have got through."""
        if topic in self._watches:
            self._watches[topic].ask_at_s = now_s

    def begin_anew(self, now_s: float) -> None:
        """Lines may have been missed, of any topic."""
        for watch in self._watches.values():
            watch.begin_anew(now_s)

    def pass_time(self, now_s: float) -> list[Saying[W]]:
        """Return what is due by now."""
        return [saying for topic, watch in list(self._watches.items()) for saying in self._pass_time(topic, watch, now_s)]

    def alive(self, topics: Iterable[str], nodes: Collection[str], now_s: float) -> list[Saying[W]]:
        """Of these topics' shard these nodes' heartbeats have not lapsed: those of the others that are silent are dead."""
        sayings = []
        for topic in topics:
            if (watch := self._watches.get(topic)) is not None:
                # A node that has just been heard may beat for the first time yet, to a Redis that has restarted.
                silent = (node for node, said in watch.nodes.items() if said.heard_at_s + self._node_s <= now_s)
                frames = watch.drop([node for node in silent if node not in nodes])
                sayings += self._tell_changes(topic, watch, frames)
        return sayings

    def asks(self, now_s: float) -> list[Watched]:
        """Return the questions that are due, which count as asked."""
        found = [(topic, watch.ask(now_s, self._lease_s / _REPEATS_A_LEASE)) for topic, watch in self._watches.items()]
        return [Watched(topic, self._node, ask[0]) for topic, ask in found if ask is not None]

    def next_s(self) -> float:
        """Return when there is something to do next, besides what lines bring; infinity where nothing is watched."""
        times = [time_s for watch in self._watches.values() for time_s in _times_s(watch)]
        return min(times, default=math.inf)

    def _pass_time(self, topic: str, watch: _Watch[W], now_s: float) -> list[Saying[W]]:
        lapsed = [node for node, said in watch.nodes.items() if said.whole_at_s + self._lease_s <= now_s]
        sayings = self._tell_changes(topic, watch, watch.drop(lapsed))
        if topic not in self._watches:
            return sayings
        watch.settle(now_s)
        return sayings + watch.tell_members(now_s)

    def _tell_changes(self, topic: str, watch: _Watch[W], frames: list[ServerFrame]) -> list[Saying[W]]:
        """Tell what has changed to those who have been told the members; or that there are too many, to all."""
        if len(watch.users) > self._most:
            self._watches.pop(topic, None)
            why = f"presence: more than {self._most} users have subscribed to {topic}; the subscription goes on"
            return [Saying(tuple(watch.watchers), (Error("too_many_members", why),))]
        told = watch.told
        return [Saying(told, tuple(frames))] if told and frames else []


def _times_s(watch: _Watch[W]) -> Iterator[float]:
    yield -math.inf if watch.ask_of else watch.ask_at_s
    yield from (time_s for time_s in watch.watchers.values() if time_s is not None)
