"""Entries on the fast lane, through dispatch.lua: it passes what collect would take, and nothing becomes somebody else's.

The oracle is that of tests/scripts/test_dispatch_hostile.py, which draws its entries with hypothesis. Here an input is entries
with a 0x02 between them, each of names and values in turn with a 0x01 between those.
"""

from __future__ import annotations

from typing import Any, Final

import fakeredis

from tests.scripts.test_dispatch_hostile import test_only_what_is_good_arrives_and_all_of_it as hostile

_ENTRIES_MAX: Final = 4

SEEDS: Final = (
    b'to\x01user:alice\x01body\x01{"a": 1}\x02to\x01user:bob\x01text\x01a "b" \\ \xc3\xa9',
    b"to\x01all\x01body\x01null\x01id\x01m\x01ttl\x015\x01trace\x011\x01traceparent\x0100-1\x01x-a\x01b",
    b"to\x01user:alice\x01body\x011\x01exclude\x01device:a%,b;=\x01transient\x011",
    b"to\x01user:alice\x01body\x011}\nuser:bob - - - {}",
    b'to\x01user:alice\x01body\x011,"to":"user:bob"',
    b"to\x01user:alice\x01text\x01\xff\x02to\x01user:alice\x01text\x01\xed\xa0\x80\x02to\x01user:\xc2\x85\x01text\x01a",
    b"to\x01user:\xe3\x80\x80\x01text\x01a\x02to\x01user:" + "\u00e9".encode() * 128 + b"\x01text\x01a",
    b"to\x01user:alice,user:bob\x01text\x01a\x02to\x01user:alice\x01text\x01a\x01text\x01b\x02to\x01all\x01to\x01all\x01text\x01b",
    b'to\x01user:alice\x01body\x01\x7f\x02to\x01user:alice\x01body\x01"\x7f"\x02to\x01user:alice\x01text\x01\x7f',
    b"to\x01user:alice\x01text\x01" + b"x" * 201,
    b"to\x01user:alice\x01text\x01a\x01at\x011\x02to\x01user:alice\x01text\x01a\x01collapse\x01k\x02to\x01user:alice\x01text\x01a\x01ttl\x010",
    b"to\x01user:alice\x01text\x01a\x01exclude\x01session:\x02to\x01user:alice\x01text\x01a\x01exclude\x01device:a,b,c",
)

_redis: Final[Any] = fakeredis.FakeRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,)))
_check: Final = hostile.hypothesis.inner_test  # type: ignore[attr-defined]


def run(data: bytes) -> None:
    """Append the entries, and have them dispatched."""
    flats = []
    for entry in data.split(b"\x02")[:_ENTRIES_MAX]:
        parts = entry.split(b"\x01")
        if len(parts) > 1:
            flats.append(tuple(parts[: len(parts) // 2 * 2]))
    if flats:
        _check(_redis, flats)
