"""What is published to an edge's own channels by somebody who may publish there and should not.

An edge believes what has the shape of a line: that only services may publish is for Redis' users (docs/security.md). So a
forged message is delivered, and this is about the rest: no line, however made, takes the edge down, keeps it from the lines
around it, or makes it begin to hear anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from router.auth.keyfile import load_or_make
from router.auth.tokens import Claims, TokenRules, issue
from router.lines import PLACES_MAX
from tests.integration.edges import Client, Edge, message

pytestmark = pytest.mark.anyio

FRAME: Final = b'{"type":"message","to":"user:alice","id":"x","ts":1,"body":1}'
DEEP: Final = b"[" * 100_000
LONG: Final = b"9" * 5_000
"""More digits than Python turns into a number."""

NUMBERS: Final = [
    *(b"-1", b"+1", b"1_0", b"1.5", b"1e3", b"0x1", b"NaN", b"inf", b"\xef\xbc\x91", b"\xff", b"\0", b"--", b"-"),
    *(b"9007199254740992", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1" + b"0" * 30, LONG),
]

OPTS: Final = [
    *(b"", b"exp", b"exp=", b"exp=x", b"exp=-1", b"exp=1e9", b"exp=" + b"9" * 25, b"exp=" + LONG, b"exp=1;exp=2", b";;;", b"="),
    *(b"not=", b"not=%", b"not=%ff", b"not=%00", b"not=\xff", b"trace=1", b"trace=1;fast=1", b"fast=1", b"\0", b"x" * 100_000),
]

MANY: Final = [
    b"many",
    b"many - - - ",
    b"many - - - user:alice,0,1",
    b"many - - - user:alice,0 x}",
    b"many - - - user:alice,0,1, x}",
    b"many - - - ,,, x}",
    b"many - - - user:alice,x,y x}",
    b"many - - - user:alice,0," + b"9" * 30 + b" x}",
    b"many - - fast=1 user:alice,-,- x}",
    b"many - - - many,0,1 x}",
    # Lines of many within one, each level of them twice as many: as much work as 2^40 lines, in a kilobyte.
    b"many - - - many,0,1,many,0,1 " + b" ".join([b'"x",many,0,1,many,0,1'] * 40) + b" x}",
    b"many - - - many,0,1 " + b" ".join([b'"x",many,0,1'] * 5_000) + b" x}",
    b"many - - - " + b",".join([b"user:nobody,0,1"] * 100_000) + b" x}",
    b"many - - - " + b",".join([b"user:alice,-,-"] * (PLACES_MAX + 1)) + b" " + b"x" * 1_000_000 + b"}",
]

ODD_JSON: Final = [
    *(
        b"",
        b"null",
        b"1",
        b'""',
        b"[]",
        b"{}",
        b"{",
        b'{"user":"alice"',
        b"NaN",
        b'{"user":NaN}',
        b"\xff",
        b'"\xff"',
        b'"\\ud800"',
    ),
    *(
        DEEP,
        b'{"user":' + DEEP + b"}",
        b'{"x":' + DEEP,
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"{}\0",
        b"'user'",
        b'{"user":"alice","x":1e999}',
    ),
]


def _notices() -> list[bytes]:
    """Return what stands behind each word, with one member made odd."""
    whole: dict[str, dict[str, Any]] = {
        "kicked": {"user": "nobody", "code": 4502, "reason": "x", "device": "d", "session": "s"},
        "replaced": {"user": "nobody", "device": "d", "session": "s", "at_us": 1},
        "revoked": {"user": "nobody", "jti": "j", "all": False, "before": 1, "expires_at": 1},
        "asked": {"topic": "news", "to": "push:{0}:answer:x"},
        "watched": {"topic": "news", "node": "edge-9.x", "of": ["edge-1.x"]},
        "members": {"topic": "news", "node": "edge-9.x", "users": ["u"], "joined": ["v"], "left": ["w"], "new": True},
        "subscriptions": {"user": "nobody"},
        "unsubscribed": {"user": "nobody", "topic": "news"},
    }
    odd: list[Any] = [
        *(None, True, -1, 0, 1.5, 3_999, 5_000, 2**53, 2**64, 10**300, "", "x" * 100_000, "a\nb", "\0", "\u2028", "a b", "{0}"),
        *([], {}, [[]], {"$gt": ""}, ["x"] * 10_000, [1], [""], {"a": {"b": {}}}),
    ]
    lines = [word.encode() + b" - - - " + said for word in whole for said in ODD_JSON]
    for word, said in whole.items():
        for name in said:
            lines += [word.encode() + b" - - - " + json.dumps(said | {name: one}).encode() for one in odd]
    return lines


LINES: Final = {
    "nothing": [b"", b"\n", b"\n" * 10_000, b" ", b" " * 10_000, b"    ", b"     ", b"\0", b"\xff" * 1_000],
    "less than a line": [
        b"user:alice",
        b"user:alice ",
        b"user:alice 0",
        b"user:alice 0 1",
        b"user:alice 0 1 -",
        b"user:alice    ",
    ],
    "numbers": [
        b"user:alice %b %b - %b" % (one, two, FRAME) for one, two in [(n, b"5") for n in NUMBERS] + [(b"0", n) for n in NUMBERS]
    ],
    "numbers behind a gap": [b"user:alice 8999999999999999 %b - %b" % (n, FRAME) for n in NUMBERS],
    "numbers of all": [b"all 8999999999999999 %b - %b" % (n, FRAME) for n in NUMBERS],
    "opts": [b"user:alice - - %b %b" % (opts, FRAME) for opts in OPTS],
    "opts of what is traced": [b"user:alice - - trace=1;%b %b" % (opts, FRAME) for opts in OPTS],
    "frames of the fast lane": [b"user:alice - - fast=1 " + said for said in [b"", *ODD_JSON]],
    "many": MANY,
    "notices": _notices(),
    "other targets": [
        b"user: 0 1 - {}",
        b"user:\xff 0 1 - {}",
        b"topic: 0 1 - {}",
        b"ALL 0 1 - {}",
        b"probe - - - " + LONG,
        b"x" * 1_000_000,
    ],
}


def _resubscribed() -> float:
    names = ("lost", "probe", "sunsubscribe")
    return sum(REGISTRY.get_sample_value("pushway_resubscribed_total", {"reason": name}) or 0.0 for name in names)


def _token(edge: Edge, user: str) -> str:
    key, now = load_or_make(edge.settings.auth_key_file), int(time.time())
    claims = Claims(user, now + 600, ("*",), "j")
    return issue(claims, key.private, key.kid, TokenRules("pushway", "pushway", 0), now)


@asynccontextmanager
async def _watcher(edge: Edge) -> AsyncIterator[tuple[Client, str]]:
    """Yield a session of alice that hears of a topic and who else does, and its node."""
    async with edge.open(_token(edge, "alice")) as client:
        node = (await client.welcome())["node"]
        await client.send(type="subscribe", topic="news", presence=True)
        while (await client.next())["type"] != "members":
            pass
        yield client, node


async def _hears(client: Client, text: str) -> None:
    """Wait for a message of this body, whatever comes before it."""
    while (await client.next()).get("body") != text:
        pass


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES.keys())
@pytest.mark.parametrize("where", ["node", "topic", "all"])
async def test_no_line_stops_an_edge(edge: Edge, lines: list[bytes], where: str) -> None:
    """On whichever channel: what is published behind it arrives, on the subscription that stood before."""
    before = _resubscribed()
    with capture_logs():
        await _publish(edge, lines, where)
    assert _resubscribed() == before
    assert not edge.ended.is_set()


async def _publish(edge: Edge, lines: list[bytes], where: str) -> None:
    keys = edge.keys
    async with _watcher(edge) as (client, node), edge.session("bob") as (bob, _):
        channel = {"node": keys.node_channel(node), "topic": keys.topic_channel("news"), "all": keys.all_channel()}[where]
        for line in lines:
            await edge.redis.spublish(channel, line)
        # All in one payload as well, where a line ends that was open before.
        await edge.redis.spublish(channel, b"\n".join(lines))
        with anyio.fail_after(60):
            await edge.redis.spublish(keys.node_channel(node), message("bob", 5, 0, "served"))
            await _hears(bob, "served")
            await edge.redis.spublish(keys.topic_channel("news"), b'topic:news - - - {"type":"message","body":"heard"}')
            await _hears(client, "heard")


async def test_a_line_of_megabytes_is_passed_on_and_its_neighbours_too(edge: Edge) -> None:
    """As much as Redis lets through: what is larger it cuts off itself (client-output-buffer-limit pubsub)."""
    async with edge.session("carol") as (client, node):
        big = b'user:nobody - - - {"type":"message","body":"' + b"x" * 20_000_000 + b'"}'
        await edge.redis.spublish(edge.keys.node_channel(node), big + b"\n" + message("carol", 5, 0, "served").encode())
        await _hears(client, "served")


async def test_what_redis_cuts_off_is_made_up_for(edge: Edge) -> None:
    """More than 32 MiB at once end the subscription: the edge subscribes anew, and what was missed is read from the inbox."""
    async with edge.session("dave") as (client, node):
        await edge.publish(node, message("dave", 5, 0, "one"))
        await _hears(client, "one")
        await edge.redis.spublish(edge.keys.node_channel(node), b"x" * 40_000_000)
        await edge.set_head("dave", 6)
        await edge.publish(node, message("dave", 6, 5, "two"))
        await _hears(client, "two")
