"""Whatever producers put on the fast lane: nobody gets a line that was not theirs, and nobody misses one that was.

The rules are those of collect. So collect's own reader is the judge here, of what the script lets pass and the edge sends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import fakeredis
import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st

import lua
from edge.fast import fault_of
from router.collect.entries import Entry, read_message
from router.errors import RuleBroken
from router.keys import Keys
from router.settings import Settings
from tests.servers import EmbeddedValkey

SETTINGS = Settings(body_max_bytes=200)
KEYS = Keys("push", 0)
HELD = "me 1"
FAR_MS = 9_999_999_999_999
CHANNELS = {"user:alice": KEYS.node_channel("edge.1"), "user:bob": KEYS.node_channel("edge.1"), "all": KEYS.all_channel()}
END = b"the end of what was published"

Flat = Sequence[bytes]

_NASTY = st.sampled_from(
    [
        *(
            b"\n",
            b"\r",
            b"\0",
            b"\x1f",
            b"\x7f",
            b"\x85",
            b" ",
            b",",
            b'"',
            b"\\",
            b"{",
            b"}",
            b"%s",
            b"\\n",
            b"'",
            b":",
            b";",
            b"-",
        ),
        *(b"\xff", b"\xc0\x80", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc2\x85", b"\xc2\xa0"),
        *("\u3000".encode(), "\u2028".encode(), "ü".encode(), "👋".encode(), b"\\ud800", b"\\u0000"),
        *(
            b'1,"to":"user:bob"',
            b'1}\nuser:bob - - - {"type":"message"}',
            b"user:bob - - - {}",
            b" - - - {",
            b";trace=1",
            b"exp=0",
        ),
        *(b"user:bob", b"all", b"NaN", b"[" * 90, b"[" * 90 + b"]" * 90, b"1" * 201, b"0", b"1", b"-1", b"1.5", b"99999999999"),
    ]
)
_VALUE = st.lists(_NASTY | st.binary(max_size=4), max_size=3).map(b"".join)
_NAME = st.sampled_from(
    [b"to", b"body", b"text", b"id", b"ttl", b"transient", b"trace", b"traceparent", b"x-a", b"x-b", b"tll"]
)
_GOOD = {
    b"to": st.sampled_from([b"user:alice", b"user:bob", b"all"]),
    b"body": st.sampled_from([b"1", b'{"a": [1.50, "\\n"]}', '"ü"'.encode(), b"null"]),
    b"id": st.sampled_from([b"m1", "ü".encode()]),
    b"ttl": st.sampled_from([b"9", b"60"]),
    b"transient": st.just(b"1"),
    b"trace": st.sampled_from([b"0", b"1"]),
}


@st.composite
def _flats(draw: st.DrawFn) -> Flat:
    """An entry that is good, or was until some of its fields were made worse, left out or added."""
    names = [b"to", b"body", *draw(st.lists(st.sampled_from(sorted(_GOOD)[2:]), unique=True, max_size=3))]
    fields = [(name, draw(_GOOD[name])) for name in dict.fromkeys(names)]
    for name, worse in draw(st.lists(st.tuples(_NAME | _VALUE, _VALUE), max_size=2)):
        how = draw(st.sampled_from(["add", "put", "append", "drop"]))
        if how != "add":
            old = dict(fields).get(name, b"")
            fields = [(one, its) for one, its in fields if one != name]
            worse = old + worse if how == "append" else worse  # noqa: PLW2901 - worse still
        if how != "drop":
            fields.insert(draw(st.integers(0, len(fields))), (name, worse))
    return tuple(chain.from_iterable(fields)) or (b"to", b"")


def _pairs(flat: Flat) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _is_stricter(flat: Flat) -> bool:
    """Tell whether an entry breaks one of the rules that are the fast lane's alone."""
    values = dict(_pairs(flat))
    controls = any(byte < 0x20 or byte == 0x7F for byte in values.get(b"body", b""))
    stored = not values.keys().isdisjoint({b"at", b"collapse"})
    return stored or b"," in values.get(b"to", b"") or values.get(b"transient") == b"0" or controls


def _as_collect_reads(flat: Flat, entry_id: str) -> dict[str, Any] | None:
    """Return the frame that collect would make of it, were it appended to `in` as transient, or None when it would be dead."""
    fields = [pair for pair in _pairs(flat) if pair != (b"transient", b"1")]
    now_ms = time.time_ns() // 1_000_000
    try:
        message = read_message(Entry.of(entry_id, fields), 0, now_ms, SETTINGS)
    except RuleBroken:
        return None
    made: dict[str, Any] = {"type": "message", "to": message.targets[0], "id": message.id, "ts": message.ts_ms}
    if b"id" not in dict(fields):
        made["id"] = f"0-{entry_id}"
    made.update(json.loads("{" + message.content + "}"))
    return made


def _passes_script(flat: Flat) -> bool:
    """Tell whether an entry is good but for what only reading its content tells."""
    harmless = {b"body": b"1", b"text": b"x"}
    fields = [
        (name, harmless.get(name, value) if len(value) <= SETTINGS.body_max_bytes else value) for name, value in _pairs(flat)
    ]
    return not _is_stricter(flat) and _as_collect_reads(tuple(chain.from_iterable(fields)), "1-0") is not None


class Lane:
    """The fast lane of an empty shard, and all who could hear of it."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - RESP2 replies
        self.redis = client
        self.redis.flushall()
        self.redis.set(KEYS.lease("dispatch"), HELD)
        self.redis.xgroup_create(KEYS.fast(), "dispatch", id="0", mkstream=True)
        self.redis.zadd(KEYS.nodes(), {"edge.1": FAR_MS})
        for user in ("alice", "bob"):
            self.redis.zadd(KEYS.route(user), {"edge.1": FAR_MS})
        self._script = self.redis.register_script(lua.source("dispatch"))

    def put(self, flat: Flat) -> str:
        """Append an entry and return its id."""
        entry_id: bytes = self.redis.execute_command("XADD", KEYS.fast(), "*", *flat)
        return entry_id.decode()

    def dispatch(self) -> Any:  # noqa: ANN401 - the script's reply
        """Hand all of it on."""
        names = [KEYS.lease("dispatch"), KEYS.fast(), KEYS.nodes(), KEYS.offline(), KEYS.trace(), KEYS.dead()]
        limits = [
            1_000,
            10,
            10**7,
            10**7,
            100,
            1_000,
            "fast",
            1_000,
            1,
            SETTINGS.body_max_bytes,
            10_000,
            int(SETTINGS.retention_s),
        ]
        return self._script(keys=names, args=[HELD, *limits])

    def heard(self, pubsub: Any) -> dict[str, list[bytes]]:  # noqa: ANN401 - the driver's
        """Return the lines on each channel."""
        lines: dict[str, list[bytes]] = {channel: [] for channel in CHANNELS.values()}
        for channel in lines:
            self.redis.execute_command("SPUBLISH", channel, END)
        ended = 0
        while ended < len(lines):
            message = pubsub.get_sharded_message(timeout=60.0)
            if message["type"] == "smessage" and message["data"] == END:
                ended += 1
            elif message["type"] == "smessage":
                lines[message["channel"].decode()] += message["data"].split(b"\n")
        return lines

    def dead(self) -> list[str]:
        """Return the ids of the entries that died."""
        return [fields[b"entry"].decode() for _, fields in self.redis.xrange(KEYS.dead())]


@pytest.fixture(params=["fakeredis", "valkey"], scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Yield a Redis, or what passes for one."""
    if request.param == "fakeredis":
        yield fakeredis.FakeRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,)))
        return
    server: EmbeddedValkey = request.getfixturevalue("valkey_server")
    with redis.Redis.from_url(server.url, protocol=2) as real:
        yield real


@given(flats=st.lists(_flats(), min_size=1, max_size=8))
@example(flats=[(b"to", b"user:alice", b"body", b'1}\nuser:bob - - - {"type":"message","to":"user:bob","body":1}')])
@example(flats=[(b"to", b"user:alice", b"text", b"a\nuser:bob - - - {}")])
@example(flats=[(b"to", b"user:alice", b"body", b"1", b"id", b'x","to":"user:bob')])
@example(flats=[(b"to", b"user:alice", b"body", b"1", b"x-a", b"1", b"trace", b"1", b"traceparent", b"\n")])
def test_only_what_is_good_arrives_and_all_of_it(client: Any, flats: list[Flat]) -> None:  # noqa: ANN401 - RESP2 replies
    """A line an entry that the script passes, made of it alone, in order; of those the edge sends what collect would have."""
    lane = Lane(client)
    with lane.redis.pubsub() as pubsub:
        pubsub.ssubscribe(*CHANNELS.values())
        ids = [lane.put(flat) for flat in flats]
        taken, done, *_ = lane.dispatch()
        heard = lane.heard(pubsub)
    assert taken == done == len(flats)
    assert lane.redis.xlen(KEYS.fast()) == 0
    assert lane.dead() == [entry_id for entry_id, flat in zip(ids, flats, strict=True) if not _passes_script(flat)]
    expected: dict[str, list[dict[str, Any] | None]] = {channel: [] for channel in heard}
    for entry_id, flat in zip(ids, flats, strict=True):
        channel = CHANNELS.get(dict(_pairs(flat)).get(b"to", b"").decode(errors="replace"))
        if channel and _passes_script(flat):
            expected[channel].append(_as_collect_reads(flat, entry_id))
    assert {channel: [_sent(line) for line in lines] for channel, lines in heard.items()} == expected


def _sent(line: bytes) -> dict[str, Any] | None:
    """Return the frame that an edge sends of a line, or None when it sends nothing."""
    target, prev, seq, opts, frame = line.split(b" ", 4)
    assert (prev, seq) == (b"-", b"-")
    assert b"fast=1" in opts.split(b";")
    if fault_of(frame):
        return None
    made = json.loads(frame)
    assert made["to"] == target.decode()
    names = [name for name, _ in json.loads(frame, object_pairs_hook=list)]
    assert names[:4] == ["type", "to", "id", "ts"]
    assert names[4:] in (["body"], ["text"])
    found: dict[str, Any] = made
    return found
