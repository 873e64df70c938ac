"""Guests with a token for little who want all: others' topics, thousands of them, members, replays, acks of what never came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

import anyio

from tests.attacks.peer import TEXT, Peer, frame
from tests.attacks.target import Attack, Target

AT_A_TIME: Final = 40
TOPICS: Final = 2_000
"""Each guest asks for so many topics that it may hear; the session may have 128."""

_BATCH: Final = 25
_BEAT_S: Final = 0.25
_SECRET_EVERY_S: Final = 0.2
_FAR: Final = 2**53 - 1


def _asked(own: str) -> Iterator[list[dict[str, Any]]]:
    """Yield, for ever, what a guest says in a beat."""
    for number in count():
        topics = [f"{own}-{at % TOPICS}" for at in range(number * _BATCH // 2, (number + 1) * _BATCH // 2)]
        mine = [{"type": "subscribe", "topic": topic, "since": 0, "presence": True} for topic in topics]
        yield [
            *mine,
            *({"type": "subscribe", "topic": topic, "since": 0} for topic in (f"secret-{own}", "*", "user:honest-0", "all")),
            {"type": "ack", "seq": _FAR},
            *({"type": "ack", "seq": _FAR, "to": to} for to in ("all", "user:honest-0", f"topic:secret-{own}")),
            {"type": "subscribe", "topic": f"secret-{own}", "presence": True},
            {"type": "connect", "token": "x", "device": "phone", "since": {"user": 0, "all": 0}},
            {"type": "ping"},
        ]


FORGED: Final = (
    {"type": "message", "to": "user:honest-0", "seq": 1, "body": "forged"},
    {"type": "welcome", "user": "honest-0"},
    {"type": "kick", "user": "honest-0"},
    {"type": "ack", "seq": -1},
    {"type": "ack", "seq": 1, "session": "other"},
    {"type": "subscribe", "topic": "news", "user": "honest-0"},
    {"type": "subscribe", "topic": "news", "since": -1},
)
"""What no client says, for other sessions or in the edge's own words; each ends the session."""


async def run(target: Target, until: anyio.Event) -> None:
    """Keep so many asking, while there is something in what they may not hear."""
    numbers = count()

    async def one() -> None:
        user = f"{target.own}-{next(numbers)}"
        token = target.doors.sign(user, topics=[f"{target.own}-*"])
        peer = await target.guest("?since=0,all:0&device=phone", token=token)
        if peer is not None:
            with peer:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_ask, target, peer, until)
                    target.note(await peer.ending(heard=_judge(target, user)))
                    tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(target.hold, AT_A_TIME, one, until)
        while not until.is_set():
            await target.append({"to": f"topic:secret-{target.own}", "text": "secret"})
            await anyio.sleep(_SECRET_EVERY_S)


async def _ask(target: Target, peer: Peer, until: anyio.Event) -> None:
    """Ask for three seconds, then say what ends the session."""
    asked = _asked(target.own)
    for _ in range(12):
        if until.is_set():
            return
        await peer.say(b"".join(frame(TEXT, json.dumps(said).encode()) for said in next(asked)))
        await anyio.sleep(_BEAT_S)
    await peer.say(frame(TEXT, json.dumps(FORGED[target.seen["forged"] % len(FORGED)]).encode()))
    target.seen["forged"] += 1


def _judge(target: Target, user: str) -> Callable[[dict[str, Any]], None]:
    """Return who looks at all that a guest is told."""

    def judge(said: dict[str, Any]) -> None:
        if said["type"] == "message":
            target.got_in(f"a message to {said['to']}")
        if said["type"] in {"members", "joined", "left", "subscribed"} and not said["topic"].startswith(f"{target.own}-"):
            target.got_in(f"{said['type']} of {said['topic']}")
        if said["type"] == "welcome" and said["user"] != user:
            target.got_in("as somebody else")
        if said["type"] == "error":
            target.seen[said["code"]] += 1

    return judge


ATTACK: Final = Attack(
    name="hostile-subscriber",
    about=f"{AT_A_TIME} guests: others' topics, {TOPICS:,} of their own with members and replays, forged acks and frames",
    limits=("frames_s_max", "subscriptions_session_max", "members_max"),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4502", "4504"}),
    counted=("pushway_redis_seconds_count",),
    memory_mib=32.0,
    because="128 topics a session, and who is there of each",
    seconds_min=4.0,
    reached=("forbidden", "too_many_topics", "bad_ack", "unexpected", "4504"),
)
