"""The fast lane of lua/dispatch.lua through Outlet: from a producer's entry to a line, or to where it ends instead."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence

import pytest
from redis.exceptions import ResponseError

from router.dispatch import Dispatched, Lane, Moved
from router.lines import Opts, read_opts
from router.shards import shard_of_id
from tests.scripts.shard import HELD, Shard, now_ms

pytestmark = pytest.mark.anyio

EDGE_1 = "push:{0}:node:edge.1"
EDGE_2 = "push:{0}:node:edge.2"

Flat = Sequence[str | bytes]


async def _dispatch(shard: Shard, most: int = 100) -> Dispatched:
    return await shard.outlet.dispatch(HELD, most, Lane.FAST)


async def _line(shard: Shard, *flat: str | bytes) -> str:
    """Return the line that an entry for user:a comes out as."""
    await shard.route("a", "edge.1")
    await shard.put_fast(flat)
    async with shard.listening(EDGE_1) as ear:
        assert (await _dispatch(shard)).published == 1
        ((_, payload),) = await ear.heard()
    return payload


async def _dead(shard: Shard, *flat: str | bytes) -> dict[bytes, bytes]:
    """Return the dead letter that an entry becomes, between two good ones that go out."""
    await shard.route("good", "edge.1")
    good = ("to", "user:good", "text", "hi")
    ids = await shard.put_fast(good, flat, good)
    async with shard.listening(EDGE_1) as ear:
        result = await _dispatch(shard)
        ((_, payload),) = await ear.heard()
    assert (result.taken, result.done, result.dead, result.published) == (3, 3, 1, 2)
    assert (result.failed_id, payload.count("\n")) == (ids[1], 1)
    assert await shard.ids(shard.keys.fast()) == []
    assert await shard.pending_ids(shard.keys.fast(), "dispatch") == []
    ((_, letter),) = await shard.redis.xrange(shard.keys.dead())
    assert letter[b"source"] == shard.keys.fast().encode()
    assert letter[b"entry"] == ids[1].encode()
    assert letter[b"reason"].decode() == result.failure
    found: dict[bytes, bytes] = letter
    return found


async def test_nothing_to_do(shard: Shard) -> None:
    """An empty lane is no error."""
    assert await _dispatch(shard) == Dispatched(0, 0, 0, 0, "", "")


async def test_line_of_a_body(shard: Shard) -> None:
    """Target, no place in an order, when it is over, the mark of the lane, and the frame with the body as it came."""
    await shard.route("a", "edge.1")
    (entry_id,) = await shard.put_fast(("to", "user:a", "body", '{"x": 1.50, "y": "ü"}'))
    async with shard.listening(EDGE_1) as ear:
        assert await _dispatch(shard) == Dispatched(1, 1, 1, 0, "", "")
        ((_, payload),) = await ear.heard()
    ms = int(entry_id.partition("-")[0])
    frame = f'{{"type":"message","to":"user:a","id":"0-{entry_id}","ts":{ms},"body":{{"x": 1.50, "y": "ü"}}}}'
    assert payload == f"user:a - - exp={ms + shard.settings.transient_max_age_ms};fast=1 {frame}"
    assert await shard.ids(shard.keys.fast()) == []
    assert await shard.pending_ids(shard.keys.fast(), "dispatch") == []
    assert await shard.entries(shard.keys.offline()) == []


async def test_text_is_escaped(shard: Shard) -> None:
    """Quotes, backslashes and every control character: it is one line, and says what the producer said."""
    text = "".join(map(chr, range(0x20))) + '\x7f "quoted" \\n ü \u2028'
    payload = await _line(shard, "to", "user:a", "text", text)
    assert not any(ord(character) < 0x20 or character == "\x7f" for character in payload)
    assert json.loads(payload.split(" ", 4)[4])["text"] == text


async def test_fields_of_the_contract(shard: Shard) -> None:
    """An id of the producer's own, a ttl shorter than the lane's limit, and what is carried along."""
    before = now_ms()
    payload = await _line(
        shard,
        *("x-a", "1", "traceparent", "00-0", "ttl", "3", "id", "typing-ü-1", "transient", "1", "trace", "0"),
        *("to", "user:a", "body", "1"),
    )
    _, _, _, opts, frame = payload.split(" ", 4)
    expiry, mark = opts.split(";")
    assert before + 3_000 <= int(expiry.removeprefix("exp=")) <= now_ms() + 3_000
    assert mark == "fast=1"
    assert json.loads(frame)["id"] == "typing-ü-1"


@pytest.mark.parametrize("exclude", ["session:9c1b", "device:alice,phone", "device:a;trace=1%,müller=5", "session:a:b"])
@pytest.mark.parametrize("trace", ["0", "1"])
async def test_whom_it_passes_by(shard: Shard, exclude: str, trace: str) -> None:
    """It stands last in the opts, and the edge reads it as the producer wrote it."""
    payload = await _line(shard, "exclude", exclude, "to", "user:a", "body", "1", "trace", trace)
    opts = payload.split(" ", 4)[3].encode()
    read = read_opts(opts)
    assert read == Opts(read.expires_ms, traced=trace == "1", fast=True, exclude=exclude)
    assert opts.split(b";")[-1].startswith(b"not=")


async def test_long_ttl_is_cut_to_the_age(shard: Shard) -> None:
    """What is transient is over after `transient_max_age_ms`, whatever the producer hopes."""
    before = now_ms()
    payload = await _line(shard, "to", "user:a", "body", "1", "ttl", "1000")
    assert before + 10_000 <= int(payload.split("exp=")[1].split(";")[0]) <= now_ms() + 10_000


async def test_topics_and_all(shard: Shard) -> None:
    """They have channels of their own, as on the other lane."""
    await shard.put_fast(("to", "topic:news", "body", "1"), ("to", "all", "body", "2"))
    async with shard.listening("push:{0}:topic:news", "push:{0}:all") as ear:
        assert (await _dispatch(shard)).published == 2
        heard = sorted((channel, payload.partition(" ")[0]) for channel, payload in await ear.heard())
    assert heard == [("push:{0}:all", "all"), ("push:{0}:topic:news", "topic:news")]


async def test_one_payload_a_node_in_order(shard: Shard) -> None:
    """As many entries as a call takes come out in the stream's order, one payload a node."""
    await shard.route("a", "edge.1", "edge.2")
    await shard.route("b", "edge.2")
    await shard.put_fast(*(("to", f"user:{user}", "body", str(n)) for n, user in enumerate("abbaab" * 50)))
    async with shard.listening(EDGE_1, EDGE_2) as ear:
        assert await _dispatch(shard, most=1_000) == Dispatched(300, 300, 450, 0, "", "")
        heard = dict(await ear.heard())
    bodies = {
        channel: [json.loads(line.split(" ", 4)[4])["body"] for line in payload.split("\n")]
        for channel, payload in heard.items()
    }
    assert bodies == {EDGE_1: [n for n, user in enumerate("abbaab" * 50) if user == "a"], EDGE_2: list(range(300))}


async def test_nobody_there_is_no_news(shard: Shard) -> None:
    """A transient message for somebody who is offline is gone, and not reported."""
    await shard.put_fast(("to", "user:nobody", "body", "1"))
    assert await _dispatch(shard) == Dispatched(1, 1, 0, 0, "", "")
    assert await shard.redis.exists(shard.keys.offline()) == 0


@pytest.mark.parametrize(("age_ms", "ttl"), [(11_000, None), (3_000, "2"), (11_000, "100")])
async def test_too_old_is_dropped(shard: Shard, age_ms: int, ttl: str | None) -> None:
    """What had to wait longer than its time is counted, and neither published nor kept."""
    await shard.route("a", "edge.1")
    fields = {"to": "user:a", "body": "1"} | ({"ttl": ttl} if ttl else {})
    await shard.redis.xadd(shard.keys.fast(), fields, id=f"{now_ms() - age_ms}-0")
    assert await _dispatch(shard) == Dispatched(1, 1, 0, 0, "", "", expired=1)
    assert await shard.ids(shard.keys.fast()) == []


async def test_entry_of_the_future_counts_as_now(shard: Shard) -> None:
    """A producer that chooses ids does not make its messages live longer, or lie about the time."""
    await shard.route("a", "edge.1")
    await shard.redis.xadd(shard.keys.fast(), {"to": "user:a", "body": "1"}, id=f"{2**64 - 2}-7")
    async with shard.listening(EDGE_1) as ear:
        await _dispatch(shard)
        ((_, payload),) = await ear.heard()
    frame = json.loads(payload.split(" ", 4)[4])
    assert frame["ts"] <= now_ms()
    assert frame["id"] == f"0-{2**64 - 2}-7"


NOBODY = (
    "",
    "phone",
    "user:a",
    "session:",
    "session:a,b",
    "device:a",
    "device:,b",
    "device:a,",
    "device:a,b,c",
    "device:a b,c",
)
"""What an `exclude` names nobody by."""

BAD: dict[str, tuple[str, Flat]] = {
    "no target": ("to: is missing", ("body", "1")),
    "empty target": ("to: is missing", ("to", "", "body", "1")),
    "two targets": ("to: more than one target", ("to", "user:a,user:b", "body", "1")),
    "a target twice": ("to: more than one target", ("to", "user:a,user:a", "body", "1")),
    "no kind": ('to: "alice" is not a target', ("to", "alice", "body", "1")),
    "another kind": ('to: "group:a" is not a target', ("to", "group:a", "body", "1")),
    "all of something": ('to: "all:x" is not a target', ("to", "all:x", "body", "1")),
    "no id": ('to: "" is not an id', ("to", "user:", "body", "1")),
    "newline in the target": ('to: "a\\x0auser:b" is not an id', ("to", "user:a\nuser:b", "body", "1")),
    "space in the target": ("to: ", ("to", "user:a b", "body", "1")),
    "quote in the target": ("to: ", ("to", 'user:a"', "body", "1")),
    "backslash in the target": ("to: ", ("to", "user:a\\", "body", "1")),
    "brace in the target": ("to: ", ("to", "user:{1}", "body", "1")),
    "null byte in the target": ("to: ", ("to", "user:a\0", "body", "1")),
    "wide space in the target": ("to: ", ("to", "user:a\u3000b", "body", "1")),
    "C1 control in the target": ("to: ", ("to", "user:a\x85b", "body", "1")),
    "not UTF-8 in the target": ("to: ", ("to", b"user:a\xff", "body", "1")),
    "half of a pair in the target": ("to: ", ("to", b"user:a\xed\xa0\x80", "body", "1")),
    "long target": ("to: ", ("to", "user:" + "a" * 129, "body", "1")),
    "long target of wide characters": ("to: ", ("to", "user:" + "ü" * 129, "body", "1")),
    "target of megabytes": ("to: ", ("to", "user:" + "ü" * 2_000_000, "body", "1")),
    "forging id": ("id: ", ("to", "user:a", "body", "1", "id", '","to":"user:b')),
    "empty id": ("id: ", ("to", "user:a", "body", "1", "id", "")),
    "newline in the body": ("body: a control", ("to", "user:a", "body", "1\nuser:b - - - {}")),
    "newline between parts": ("body: a control", ("to", "user:a", "body", '{\n"a":1}')),
    "null byte in the body": ("body: a control", ("to", "user:a", "body", '"\0"')),
    "DEL in the body": ("body: a control", ("to", "user:a", "body", '"\x7f"')),
    "carriage return at the end": ("body: a control", ("to", "user:a", "body", "1\r")),
    "body and text": ("body: exactly one", ("to", "user:a", "body", "1", "text", "1")),
    "neither": ("body: exactly one", ("to", "user:a")),
    "body twice": ("body: given twice", ("to", "user:a", "body", "1", "body", "2")),
    **{
        f"exclude {whom!r}": (
            f'exclude: "{whom}" is neither session:<id> nor device:<user>,<device>',
            ("to", "user:a", "body", "1", "exclude", whom),
        )
        for whom in NOBODY
    },
    "collapse": (
        "collapse: is for what is stored, and a transient message is not",
        ("to", "user:a", "body", "1", "collapse", "k"),
    ),
    "at": ("at: is for what is stored, and a transient message is not", ("to", "user:a", "body", "1", "at", "5")),
    "misspelt field": ("tll: there is no such field", ("to", "user:a", "body", "1", "tll", "1")),
    "field of bytes": ("\\xff\\x0a: there is no such field", ("to", "user:a", "body", "1", b"\xff\n", "1")),
    "long body": ("body: longer than 65536 bytes (65537)", ("to", "user:a", "body", "1" * 65_537)),
    "long text": ("text: longer than 65536 bytes (65537)", ("to", "user:a", "text", "1" * 65_537)),
    "durable": ('transient: "0" is not 1', ("to", "user:a", "body", "1", "transient", "0")),
    "ttl of words": ('ttl: "soon" is not', ("to", "user:a", "body", "1", "ttl", "soon")),
    "no ttl": ('ttl: "0" is not', ("to", "user:a", "body", "1", "ttl", "0")),
    "negative ttl": ('ttl: "-1" is not', ("to", "user:a", "body", "1", "ttl", "-1")),
    "ttl in base 16": ('ttl: "0x10" is not', ("to", "user:a", "body", "1", "ttl", "0x10")),
    "ttl above retention": ('ttl: "2592001" is not', ("to", "user:a", "body", "1", "ttl", "2592001")),
    "long ttl": ('ttl: "00000000001" is not', ("to", "user:a", "body", "1", "ttl", "00000000001")),
    "trace of words": ('trace: "yes" is not', ("to", "user:a", "body", "1", "trace", "yes")),
    "carried name": ("x-ü".encode().decode("ascii", "backslashreplace"), ("to", "user:a", "body", "1", "x-ü", "1")),
    "nameless carried": ("x-: a carried field's name", ("to", "user:a", "body", "1", "x-", "1")),
    "carried newline": ("x-a: a carried field takes", ("to", "user:a", "body", "1", "x-a", "1\n")),
    "carried bytes": ("traceparent: a carried field takes", ("to", "user:a", "body", "1", "traceparent", b"\xc0\x80")),
    "long carried": ("x-a: a carried field takes", ("to", "user:a", "body", "1", "x-a", "ü" * 1_025)),
    "carried megabytes": ("x-a: a carried field takes", ("to", "user:a", "body", "1", "x-a", "ü" * 2_000_000)),
    "much carried": ("x-*: more than 16", ("to", "user:a", "body", "1", *(part for n in range(17) for part in (f"x-{n}", "")))),
}


@pytest.mark.parametrize(("reason", "flat"), BAD.values(), ids=BAD.keys())
async def test_broken_rule_dies_alone_and_whole(shard: Shard, reason: str, flat: Flat) -> None:
    """It is in the dead-letter stream with its reason within the call; what stands around it goes out."""
    letter = await _dead(shard, *flat)
    assert letter[b"reason"].startswith(reason.encode()), letter[b"reason"]
    assert letter[b"reason"].isascii()
    kept = {name: value for name, value in letter.items() if name not in {b"reason", b"source", b"entry"}}
    pairs = [part.encode() if isinstance(part, str) else part for part in flat]
    assert kept == dict(zip(pairs[::2], pairs[1::2], strict=True))


async def test_entry_of_very_many_fields_is_kept_as_one(shard: Shard) -> None:
    """More than Lua's unpack bears: nothing of it is lost."""
    flat = [part for n in range(5_000) for part in (f"f{n}", "v")]
    letter = await _dead(shard, *flat)
    assert json.loads(letter[b"fields"]) == flat


async def test_text_that_grows_beyond_measure(shard: Shard) -> None:
    """A text of control characters is six times as long as JSON; it stops where collect's would."""
    roomy = shard.with_settings(body_max_bytes=8_388_608)
    await roomy.put_fast(("to", "user:a", "text", "\x01" * 2_700_000))
    assert (await _dispatch(roomy)).failure == "text: longer than 16000000 bytes as JSON (16200000)"


async def test_ids_of_every_script_pass(shard: Shard) -> None:
    """128 characters, not bytes, and whatever is a character and neither space nor control."""
    user = "é€👋\ufffd\u200b" + "ü" * 123
    await shard.route(user, "edge.1")
    await shard.put_fast(("to", f"user:{user}", "body", "1"))
    async with shard.listening(EDGE_1) as ear:
        assert (await _dispatch(shard)).published == 1
        ((_, payload),) = await ear.heard()
    assert json.loads(payload.split(" ", 4)[4])["to"] == f"user:{user}"


async def test_every_white_space_and_control_is_seen(shard: Shard) -> None:
    """Whatever Python, and so collect, takes for one, in an id of any place."""
    bad = [character for character in map(chr, range(0x3010)) if character.isspace() or unicodedata.category(character) == "Cc"]
    await shard.put_fast(*(("to", f"user:a{character}b", "body", "1") for character in bad))
    await shard.put_fast(*(("to", "user:a", "id", f"ü{character}", "body", "1") for character in bad))
    result = await _dispatch(shard, most=1_000)
    assert (result.taken, result.dead) == (2 * len(bad), 2 * len(bad))


async def test_broken_route_kills_only_its_message(shard: Shard) -> None:
    """A route key of another type is that user's own trouble; nobody waits for it to be buried."""
    await shard.redis.set(shard.keys.route("broken"), "by hand")
    letter = await _dead(shard, "to", "user:broken", "body", "1")
    assert b"WRONGTYPE" in letter[b"reason"]


async def test_budgets_hold_on_this_lane(shard: Shard) -> None:
    """What a node may not be sent in one call waits, is found again in order, and nobody gets anything twice."""
    await shard.route("a", "edge.1")
    entries: list[Flat] = [("to", "user:a", "body", f'"{n:03}{"x" * 300}"') for n in range(20)]
    entries[5:5] = [("to", "nobody", "body", "1")]
    await shard.put_fast(*entries)
    small = shard.with_settings(publish_max_bytes=1_500)
    async with shard.listening(EDGE_1) as ear:
        results = [await _dispatch(small)]
        while await shard.ids(shard.keys.fast()):
            results.append(await _dispatch(small))
        heard = "\n".join(payload for _, payload in await ear.heard()).split("\n")
    assert any(result.done < result.taken for result in results)
    assert [json.loads(line.split(" ", 4)[4])["body"][:3] for line in heard] == [f"{n:03}" for n in range(20)]
    assert sum(result.dead for result in results) == 1
    assert len(await shard.entries(shard.keys.dead())) == 1


async def test_all_of_an_entry_counts_as_read(shard: Shard) -> None:
    """The byte budget sees every field, or small ones would hide a large one."""
    await shard.put_fast(*(("to", "user:a", "body", "1", "x-a", "x" * 1_000) for _ in range(30)))
    small = shard.with_settings(read_max_bytes=10_000)
    assert 10 <= (await _dispatch(small)).taken <= 12


async def test_no_more_is_read_than_a_node_is_sent(shard: Shard) -> None:
    """Every character costs the script time, so a call reads less of what producers append than of collect's lines."""
    await shard.put_fast(*(("to", "user:a", "text", "x" * 1_000) for _ in range(30)))
    small = shard.with_settings(read_max_bytes=100_000, publish_max_bytes=10_000)
    assert 10 <= (await _dispatch(small)).taken <= 12


async def test_nothing_is_buried_twice(shard: Shard) -> None:
    """Where publishing fails, the call ends with an error; what had died before is dead already, and once."""
    await shard.put_fast(("to", "nobody", "body", "1"), ("to", "user:a", "body", "1"))
    await shard.route("a", "edge.1")
    await shard.redis.delete(shard.keys.nodes())
    await shard.redis.set(shard.keys.nodes(), "by hand")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await _dispatch(shard)
    await shard.redis.delete(shard.keys.nodes())
    result = await _dispatch(shard)
    assert (result.taken, result.done, result.dead, result.published) == (1, 1, 0, 1)
    assert len(await shard.entries(shard.keys.dead())) == 1


# -- several shards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [2, 3, 16, 1024])
async def test_shards_are_those_of_redis_cluster(shard: Shard, shards: int) -> None:
    """For ids of any length and script the script finds the shard that everything else does."""
    ids = ["a", "alice", "ü", "👋", "x" * 128, "123456789", "user:a", "all"] + [f"u{n}" for n in range(300)]
    await shard.put_fast(
        *(("to", f"user:{one}", "body", "1", "id", str(n)) for n, one in enumerate(ids)), ("to", "all", "body", "1")
    )
    result = await _dispatch(shard.with_settings(shards=shards), most=1_000)
    moved = {entry.flat[1].decode(): entry.shard for entry in result.moved}
    expected = {f"user:{one}": shard_of_id(one, shards) for one in ids} | {"all": shard_of_id("all", shards)}
    assert moved == {target: its for target, its in expected.items() if its != 0}
    assert (result.taken, result.done, result.dead) == (len(ids) + 1, len(ids) + 1, 0)


async def test_each_message_of_a_target_is_moved(shard: Shard) -> None:
    """Plain ones too, and again and again: nobody here has a route to it, which is no reason to take it for one of ours."""
    other = next(f"u{n}" for n in range(100) if shard_of_id(f"u{n}", 2) == 1)
    await shard.put_fast(*(("to", f"user:{other}", "body", str(n)) for n in range(5)))
    result = await _dispatch(shard.with_settings(shards=2))
    assert [entry.flat[:4] for entry in result.moved] == [
        [b"to", f"user:{other}".encode(), b"body", b"%d" % n] for n in range(5)
    ]


async def test_whoever_has_no_route_is_at_home_all_the_same(shard: Shard) -> None:
    """A message for somebody of this shard who is not there ends here, reported to nobody, and none is moved."""
    here = next(f"u{n}" for n in range(100) if shard_of_id(f"u{n}", 2) == 0)
    await shard.put_fast(*(("to", f"user:{here}", "body", "1") for _ in range(3)))
    assert await _dispatch(shard.with_settings(shards=2)) == Dispatched(3, 3, 0, 0, "", "")


async def test_entry_of_another_shard_is_moved_on(shard: Shard) -> None:
    """It goes to that shard's `fast` with the id that it has, what is left of its time, and all that it carries."""
    mine, other = (next(f"u{n}" for n in range(100) if shard_of_id(f"u{n}", 2) == its) for its in (0, 1))
    two = shard.with_settings(shards=2)
    await two.route(mine, "edge.1")
    entry_id, _, _ = await two.put_fast(
        ("to", f"user:{other}", "ttl", "4", "body", "1", "exclude", "session:s", "x-a", "b"),
        ("to", f"user:{mine}", "body", "2"),
        ("to", f"user:{other}", "body", "3", "id", "mine"),
    )
    async with two.listening(EDGE_1) as ear:
        result = await _dispatch(two)
        assert len(await ear.heard()) == 1
    assert (result.taken, result.done, result.published, result.dead) == (3, 3, 1, 0)
    assert await two.ids(two.keys.fast()) == []
    assert await two.pending_ids(two.keys.fast(), "dispatch") == []
    assert result.moved[0] == Moved(
        1,
        [
            *(b"to", f"user:{other}".encode(), b"body", b"1", b"exclude", b"session:s", b"x-a", b"b"),
            *(b"id", f"0-{entry_id}".encode(), b"ttl", b"4"),
        ],
    )
    await two.outlet.move(result.moved)
    assert await two.entries("push:{1}:fast") == [
        {"to": f"user:{other}", "body": "1", "exclude": "session:s", "x-a": "b", "id": f"0-{entry_id}", "ttl": "4"},
        {"to": f"user:{other}", "body": "3", "id": "mine", "ttl": "10"},
    ]


async def test_nothing_bad_or_late_is_moved(shard: Shard) -> None:
    """Whatever its shard, it ends here."""
    other = next(f"u{n}" for n in range(100) if shard_of_id(f"u{n}", 2) == 1)
    await shard.redis.xadd(shard.keys.fast(), {"to": f"user:{other}", "body": "1"}, id=f"{now_ms() - 11_000}-0")
    await shard.put_fast(("to", f"user:{other}", "body", "\n"))
    result = await _dispatch(shard.with_settings(shards=2))
    assert (result.expired, result.dead, result.moved) == (1, 1, ())


# -- traces ----------------------------------------------------------------------------------------------------------


async def test_traced_from_its_append(shard: Shard) -> None:
    """Nobody else sees the entry, so that it was appended is told here, by its id."""
    await shard.route("a", "edge.1")
    (entry_id,) = await shard.put_fast(("to", "user:a", "body", "1", "trace", "1", "traceparent", "00-1-1-00"))
    async with shard.listening(EDGE_1) as ear:
        await _dispatch(shard)
        ((_, payload),) = await ear.heard()
    assert ";fast=1;trace=1 {" in payload
    appended, dispatched = await shard.entries(shard.keys.trace())
    ms = entry_id.partition("-")[0]
    assert appended == {
        "id": f"0-{entry_id}", "to": "user:a", "stage": "appended", "at": f"{ms}000", "by": "me", "traceparent": "00-1-1-00"
    }  # fmt: skip
    assert (dispatched["stage"], dispatched["nodes"]) == ("dispatched", "edge.1")


async def test_traced_end(shard: Shard) -> None:
    """One that dies, or comes too late, is told of with its reason."""
    await shard.redis.xadd(
        shard.keys.fast(), {"to": "user:a", "body": "1", "trace": "1", "id": "late"}, id=f"{now_ms() - 11_000}-0"
    )
    await shard.put_fast(("to", "user:a", "body", "\n", "trace", "1", "id", "bad"), ("to", "user:a", "body", "\n"))
    await _dispatch(shard)
    told = [(event["id"], event["stage"], event.get("why", "")[:20]) for event in await shard.entries(shard.keys.trace())]
    assert told == [
        ("late", "appended", ""),
        ("late", "expired", "its time was over be"),
        ("bad", "appended", ""),
        ("bad", "dead", "body: a control char"),
    ]
