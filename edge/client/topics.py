"""The topics that an application wants to hear, and which of them one connection has been asked for.

    wanted ── connect ──▶ said ── subscribe()/unsubscribe() ──▶ said differs from wanted ── `Asked.unsaid` ──▶ said again

A subscription is the session's and ends with it, so each connection begins with all that is wanted, and from then on is told
of what has changed. An edge answers every frame, in order. Until the last `unsubscribed` that is owed has come, whatever it
says of the topic belongs to a subscription that is over, and is dropped; that holds, too, for a topic that was given up and
taken again in one breath.

A topic that is refused stays wanted: the next connection has another token, perhaps, that grants it.

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

    Raises:
        ValueError: when a name breaks the rule for ids.
    """

    __slots__ = ("_numbers", "wanted")

    def __init__(self, topics: Iterable[str] = ()) -> None:
        self._numbers = count()
        self.wanted: dict[str, int] = {}
        for topic in topics:
            self.want(topic)

    def want(self, topic: str) -> None:
        """Want a topic, unless it is wanted already.

        Raises:
            ValueError: when its name breaks the rule for ids.
        """
        if _NAME.fullmatch(topic) is None:
            raise ValueError(
                f"{topic[:128]!r} is no topic: 1 to 128 characters, no white space, comma, brace, quote, backslash"
            )
        if topic not in self.wanted:
            self.wanted[topic] = next(self._numbers)


class Asked:
    """What one connection has been asked for.

    Args:
        topics: what is wanted, then and later.
        at_once: it begins with all that is wanted, which goes into the connect frame; otherwise all is unsaid.
    """

    __slots__ = ("_again", "_last_acks", "_leaving", "_said", "_wanted")

    def __init__(self, topics: Topics, *, at_once: bool = True) -> None:
        self._wanted = topics.wanted
        self._said = dict(topics.wanted) if at_once else {}
        self._leaving: Counter[str] = Counter()
        self._again: set[str] = set()
        self._last_acks: dict[str, int] = {}

    @property
    def behind(self) -> bool:
        """Whether the connection is to be told something."""
        return bool(self._again) or self._said != self._wanted

    @property
    def topics(self) -> list[str]:
        """What has been asked for."""
        return list(self._said)

    def hears(self, target: str) -> bool:
        """Tell whether what comes of a target is for the application; always so unless it is a topic."""
        if not target.startswith(TOPIC_PREFIX):
            return True
        topic = target.removeprefix(TOPIC_PREFIX)
        number = self._said.get(topic)
        return number is not None and number == self._wanted.get(topic) and not self._leaving[topic]

    def ask_again(self, topic: str) -> None:
        """Have a topic asked for once more if it has been: it may have been refused, and granted since."""
        if topic in self._said:
            self._again.add(topic)

    def acknowledge_last(self, topic: str, seq: int) -> None:
        """Have this acknowledged before the topic is unsubscribed; behind that, no edge would take it."""
        if topic in self._said:
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
        topic = next((name for name in self._wanted if name not in self._said), None) or self._again.pop()
        self._again.discard(topic)
        self._said[topic] = self._wanted[topic]
        return [subscribe_frame(topic, cursors.get(TOPIC_PREFIX + topic))]

    def unsubscribed(self, topic: str) -> None:
        """Note the answer to an `unsubscribe`."""
        self._leaving[topic] = max(0, self._leaving[topic] - 1)

    def _leave(self, topic: str) -> list[str]:
        del self._said[topic]
        self._again.discard(topic)
        self._leaving[topic] += 1
        last = self._last_acks.pop(topic, None)
        return [*([] if last is None else [ack_frame(TOPIC_PREFIX + topic, last)]), unsubscribe_frame(topic)]
