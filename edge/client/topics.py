"""The topics that an application wants to hear, and which of them one connection has been asked for.

    wanted ── connect ──▶ said ── subscribe()/unsubscribe() ──▶ said differs from wanted ── `Asked.unsaid` ──▶ said again

A subscription is the session's and ends with it, so each connection begins with all that is wanted, and from then on is told
of what has changed. An edge answers every frame, in order. Until the last `unsubscribed` that is owed has come, whatever it
says of the topic belongs to a subscription that is over, and is dropped; that holds, too, for a topic that was given up and
taken again in one breath.

A topic that is refused stays wanted: another token, perhaps, grants it, so that it is asked for again when a newer one extends
the session, and with the next connection. So does one that has been ended: what is lost now may be granted later.

A back end may give a session topics that nobody asked for: `subscribed` comes unasked then. They are for the application too,
unless it has given that topic up before: then the session leaves it again.

Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Final

from edge.client.frames import TOPIC_PREFIX, ack_frame, subscribe_frame, unsubscribe_frame

_NAME: Final = re.compile(r'[^\s,{}"\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}')
"""The rule for ids. An edge ends the session of a client that breaks it, for good."""


class Topics:
    """What the application wants.

    Attributes:
        wanted: topic → a number of this subscription's own, so that a later one of the same topic is another.
        watched: those whose members are wanted, too.
        given_up: topics that the application has unsubscribed, and is not to be given.

    Raises:
        ValueError: when a name breaks the rule for ids.
    """

    __slots__ = ("_numbers", "given_up", "wanted", "watched")

    def __init__(self, topics: Iterable[str] = (), watched: Iterable[str] = ()) -> None:
        self._numbers = count()
        self.wanted: dict[str, int] = {}
        self.watched: set[str] = set()
        self.given_up: set[str] = set()
        for topic in topics:
            self.want(topic)
        for topic in watched:
            self.want(topic, presence=True)

    def want(self, topic: str, *, presence: bool = False) -> None:
        """Want a topic, unless it is wanted already; and, maybe, its members from now on.

        Raises:
            ValueError: when its name breaks the rule for ids.
        """
        if _NAME.fullmatch(topic) is None:
            raise ValueError(
                f"{topic[:128]!r} is no topic: 1 to 128 characters, no white space, comma, brace, quote, backslash"
            )
        self.given_up.discard(topic)
        if topic not in self.wanted:
            self.wanted[topic] = next(self._numbers)
        if presence:
            self.watched.add(topic)

    def give_up(self, topic: str) -> None:
        """Want a topic no longer, from whomever."""
        self.wanted.pop(topic, None)
        self.watched.discard(topic)
        self.given_up.add(topic)


class Asked:
    """What one connection has been asked for.

    Args:
        topics: what is wanted, then and later.
        at_once: it begins with all that is wanted, which goes into the connect frame; otherwise all is unsaid. Topics whose
            members are wanted are always unsaid, for the connect frame has no word for that.
    """

    __slots__ = ("_again", "_given", "_given_up", "_heard", "_last_acks", "_leaving", "_said", "_wanted", "_watched")

    def __init__(self, topics: Topics, *, at_once: bool = True) -> None:
        self._wanted, self._given_up = topics.wanted, topics.given_up
        self._given: set[str] = set()
        self._watched = topics.watched
        self._said = {topic: number for topic, number in topics.wanted.items() if at_once and topic not in topics.watched}
        self._leaving: Counter[str] = Counter()
        self._again: set[str] = set()
        self._heard: set[str] = set()
        self._last_acks: dict[str, int] = {}

    @property
    def behind(self) -> bool:
        """Whether the connection is to be told something."""
        return bool(self._again) or self._said != self._wanted or not self._given.isdisjoint(self._given_up)

    @property
    def topics(self) -> list[str]:
        """What has been asked for."""
        return list(self._said)

    def hears(self, target: str) -> bool:
        """Tell whether what comes of a target is for the application; always so unless it is a topic."""
        if not target.startswith(TOPIC_PREFIX):
            return True
        topic = target.removeprefix(TOPIC_PREFIX)
        if self._leaving[topic] or topic in self._given_up:
            return False
        number = self._said.get(topic)
        return topic in self._given if number is None else number == self._wanted.get(topic)

    def knows(self, topic: str) -> bool:
        """Tell whether the connection hears a topic, or has been asked for it."""
        return topic in self._said or topic in self._given

    def ask_again(self, topic: str) -> None:
        """Have a topic asked for once more if it has been: it may have been refused, and granted since."""
        if topic in self._said:
            self._again.add(topic)

    def ask_unheard_again(self) -> None:
        """Have all be asked for once more that has been asked for in vain so far."""
        self._again |= self._said.keys() - self._heard

    def acknowledge_last(self, topic: str, seq: int) -> None:
        """Have this acknowledged before the topic is unsubscribed; behind that, no edge would take it."""
        if self.knows(topic):
            self._last_acks[topic] = seq

    def unsaid(self, cursors: Mapping[str, int]) -> list[str]:
        """Return the frames to send next, which count as sent; none when everything has been said.

        Args:
            cursors: target → behind which seq a subscription begins.
        """
        if not self.behind:
            return []
        for topic, number in self._said.items():
            if self._wanted.get(topic) != number:
                return self._leave(topic)
        for topic in self._given & self._given_up:
            return self._leave(topic)
        topic = next((name for name in self._wanted if name not in self._said), None) or self._again.pop()
        self._again.discard(topic)
        self._said[topic] = self._wanted[topic]
        return [subscribe_frame(topic, cursors.get(TOPIC_PREFIX + topic), presence=topic in self._watched)]

    def subscribed(self, topic: str) -> None:
        """Note that a topic is heard from here on; nobody may have asked for it."""
        if not self._leaving[topic]:
            self._heard.add(topic)
            if topic not in self._said:
                self._given.add(topic)

    def unsubscribed(self, topic: str) -> bool:
        """Note the answer to an `unsubscribe`, or that a topic was taken away; tell whether it was given, and is over now."""
        if self._leaving[topic]:
            self._leaving[topic] -= 1
            return False
        given = topic in self._given
        self._given.discard(topic)
        self._heard.discard(topic)
        return given

    def _leave(self, topic: str) -> list[str]:
        self._said.pop(topic, None)
        self._given.discard(topic)
        self._heard.discard(topic)
        self._again.discard(topic)
        self._leaving[topic] += 1
        last = self._last_acks.pop(topic, None)
        return [*([] if last is None else [ack_frame(TOPIC_PREFIX + topic, last)]), unsubscribe_frame(topic)]
