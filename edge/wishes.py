"""What a client wished for at the start, against what there is: where a session begins, and what it is told of that.

A seq is the Redis time in µs of its giving, or little above it, so that it says how old a cursor is.
"""

from __future__ import annotations

import time
from dataclasses import replace

from edge.client_frames import Options
from edge.frames import Lost
from router.targets import TOPIC_PREFIX


def merged(asked: Options, wished: Options) -> Options:
    """Return the wishes of the address and of the connect frame together; the frame is the later word."""
    return Options(
        asked.device if wished.device is None else wished.device,
        wished.since or asked.since,
        wished.topics or asked.topics,
    )


def with_topic(options: Options, topic: str, since: int | None, *, presence: bool) -> Options:
    """Return the wishes with a topic that is asked for before the welcome, to be subscribed behind it."""
    said = options.since if since is None else {**options.since, TOPIC_PREFIX + topic: since}
    watched = options.watched | {topic} if presence else options.watched
    return replace(options, topics=(*options.topics, topic), since=said, watched=watched, left=_without(options.left, topic))


def without_topic(options: Options, topic: str) -> Options:
    """Return the wishes without a topic that is left before the welcome; nor is it to be given."""
    topics, watched = _without(options.topics, topic), options.watched - {topic}
    return replace(options, topics=topics, watched=watched, left=(*options.left, topic))


def _without(topics: tuple[str, ...], topic: str) -> tuple[str, ...]:
    return tuple(name for name in topics if name != topic)


def not_from_the_future(since: int, head: int) -> int:
    """Return where to begin: a cursor from the future is not of this cluster, and would make a duplicate of all that comes."""
    return min(since, max(head, time.time_ns() // 1_000))


def lost(target: str, since: int, head: int, retention_s: float) -> list[Lost]:
    """Return what a client is told whose cursor is older than what is kept; 0 asks for what there is, and misses nothing."""
    until = min(head, _ago(retention_s))
    return [Lost(target, since, until)] if 0 < since < until else []


def first_cursor(head: int, now_us: int, retention_s: float) -> int:
    """Return what is stored for a device that comes for the first time, `now_us` by Redis' clock: the head.

    An old head would later look as if the device had missed what nobody sent, and one of 0 as if it could have missed nothing.
    What is to come has a seq of its time, so any time before now does as well, and half of the retention is far from both ends.
    """
    return max(head, now_us - int(retention_s / 2 * 1_000_000))


def _ago(seconds: float) -> int:
    return int((time.time() - seconds) * 1_000_000)
