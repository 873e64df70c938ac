"""lua/dispatch.lua through Outlet: whom it could not reach, and entries that fail."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from router.dispatch import Outlet
from router.lines import build_many, build_place
from router.stored import make_body
from tests.scripts.shard import HELD, Shard, line, now_ms

pytestmark = pytest.mark.anyio

EDGE_1 = "push:{0}:node:edge.1"
HOUR_MS = 3_600_000


async def _reports(shard: Shard) -> list[tuple[str, str]]:
    return [(report["to"], report["reason"]) for report in await shard.entries(shard.keys.offline())]


async def test_durable_message_without_route_is_reported(shard: Shard) -> None:
    """The report says to whom, which seq and why, and carries the frame; the message is done."""
    text = line("user:a", 9_007_199_254_000_001)
    await shard.put_out(text)
    result = await shard.outlet.dispatch(HELD, 10)
    assert (result.done, result.published, result.offline) == (1, 0, 1)
    (report,) = await shard.entries(shard.keys.offline())
    frame = text.split(" ", 4)[4]
    assert report == {"to": "user:a", "seq": "9007199254000001", "reason": "no_route", "frame": frame}
    assert await shard.ids(shard.keys.out()) == []


async def test_only_durable_and_unexpired_messages_are_reported(shard: Shard) -> None:
    """A transient message, or one whose time is over, is no news to whoever is offline."""
    await shard.put_out(
        line("user:transient", None),
        line("user:expired", 1, expires_ms=now_ms() - 1),
        line("user:expiring", 2, expires_ms=now_ms() + HOUR_MS),
        line("user:transient", None, expires_ms=now_ms() + HOUR_MS),
    )
    result = await shard.outlet.dispatch(HELD, 10)
    assert (result.done, result.offline) == (4, 1)
    assert await _reports(shard) == [("user:expiring", "no_route")]


@pytest.mark.parametrize("listening", [True, False])
@pytest.mark.parametrize("lapsed", [True, False])
async def test_route_is_dropped_when_both_witnesses_agree(shard: Shard, listening: bool, lapsed: bool) -> None:
    """It is published in each case. A lapsed heartbeat or an empty house only adds a report; both drop the route."""
    await shard.route("a", "edge.1", node_ms=-1 if lapsed else 60_000)
    await shard.put_out(line("user:a", 1), line("user:a", 2))
    async with AsyncExitStack() as stack:
        ear = await stack.enter_async_context(shard.listening(EDGE_1)) if listening else None
        result = await shard.outlet.dispatch(HELD, 10)
        assert result.published == 2
        if ear:
            assert await ear.heard() == [(EDGE_1, f"{line('user:a', 1)}\n{line('user:a', 2)}")]
    reason = "node_lapsed" if lapsed else "nobody_listening"
    assert await _reports(shard) == ([] if listening and not lapsed else [("user:a", reason)] * 2)
    assert await shard.nodes_of("a") == ([] if lapsed and not listening else ["edge.1"])


async def test_node_that_never_beat_counts_as_lapsed(shard: Shard) -> None:
    """A node that the heartbeats do not know and nobody hears is dropped from every route of the batch."""
    for user in ("a", "b", "c"):
        await shard.route(user, "edge.1")
    await shard.redis.delete(shard.keys.nodes())
    await shard.put_out(line("user:a", 1), line("user:b", 2))
    await shard.outlet.dispatch(HELD, 10)
    assert [await shard.nodes_of(user) for user in ("a", "b", "c")] == [[], [], ["edge.1"]]


async def test_route_to_a_living_node_survives_a_dead_one(shard: Shard) -> None:
    """Of a user's routes only the dead node's goes; a message is reported once, whatever its nodes."""
    await shard.route("a", "edge.1")
    await shard.route("a", "edge.2", "edge.3", node_ms=-1)
    await shard.put_out(line("user:a", 1))
    async with shard.listening(EDGE_1) as ear:
        result = await shard.outlet.dispatch(HELD, 10)
        assert len(await ear.heard()) == 1
    assert (result.published, result.offline) == (3, 1)
    assert await shard.nodes_of("a") == ["edge.1"]


async def test_report_of_what_waits_comes_when_it_is_done(shard: Shard) -> None:
    """What the budgets left for the next call is reported by that call, once."""
    await shard.route("a", "edge.1")
    await shard.put_out(line("user:a", 1, text="x" * 800), line("user:a", 2, text="x" * 800), line("user:gone", 3))
    shard = shard.with_settings(publish_max_bytes=1_000)
    assert (await shard.outlet.dispatch(HELD, 10)).offline == 1
    assert (await shard.outlet.dispatch(HELD, 10)).offline == 2
    assert await _reports(shard) == [
        ("user:a", "nobody_listening"),
        ("user:a", "nobody_listening"),
        ("user:gone", "no_route"),
    ]


async def test_reports_are_capped(shard: Shard) -> None:
    """About `offline_max` are kept, the newest."""
    await shard.put_out(*(line("user:a", seq) for seq in range(1_000)))
    await shard.with_settings(offline_max=200).outlet.dispatch(HELD, 1_000)
    seqs = [int(report["seq"]) for report in await shard.entries(shard.keys.offline())]
    assert 200 <= len(seqs) < 400
    assert seqs == list(range(1_000 - len(seqs), 1_000))


MALFORMED = [b"", b"nospace", b" ", b"nobody:x 1 2 - {}", b"user: 1 2 - {}", b"alle 1 2 - {}", b"\xff\xfe 1 2 - {}"]


@pytest.mark.parametrize("bad", MALFORMED, ids=repr)
@pytest.mark.parametrize("joined", [False, True])
async def test_malformed_line_dies_alone(shard: Shard, bad: bytes, joined: bool) -> None:
    """It is a dead letter that says why, in an entry of its own or not; its neighbours go out in the same call."""
    before, after = line("topic:news", 1).encode(), line("topic:news", 2).encode()
    texts = [b"\n".join((before, bad, after))] if joined else [before, bad, after]
    ids = await shard.put_out(*texts)
    async with shard.listening("push:{0}:topic:news") as ear:
        result = await shard.outlet.dispatch(HELD, 10)
        assert [payload.encode() for _, payload in await ear.heard()] == [b"\n".join((before, after))]
    assert (result.done, result.dead, result.failed_id) == (len(texts), 1, ids[0 if joined else 1])
    assert result.done + result.more - result.dead == result.published == 2
    assert await shard.ids(shard.keys.out()) == []
    ((_, dead),) = await shard.redis.xrange(shard.keys.dead())
    assert dead.pop(b"reason").decode(errors="replace") == result.failure
    assert dead == {b"source": shard.keys.out().encode(), b"entry": result.failed_id.encode(), b"line": bad}


async def test_broken_route_fails_its_users_messages(shard: Shard) -> None:
    """A route key of another type fails the user's message with what Redis said; others before and behind go out."""
    await shard.redis.set(shard.keys.route("broken"), "by hand")
    ids = await shard.put_out(line("topic:news", 1), line("user:broken", 2), line("topic:news", 3))
    result = await shard.outlet.dispatch(HELD, 10)
    assert (result.taken, result.done, result.published, result.dead, result.failed_id) == (3, 3, 2, 1, ids[1])
    assert result.failure.startswith("WRONGTYPE")


async def test_several_failing_lines(shard: Shard) -> None:
    """All are dead letters, in their order; the last of them is named, and nothing good is lost between them."""
    good = [line("topic:news", seq) for seq in range(4)]
    entries = [["bad0"], [good[0], "bad1", "bad2", good[1]], [good[2], "bad3"], [good[3]], ["bad4"]]
    ids = await shard.put_out(*("\n".join(lines) for lines in entries))
    async with shard.listening("push:{0}:topic:news") as ear:
        result = await shard.outlet.dispatch(HELD, 100)
        assert [payload for _, payload in await ear.heard()] == ["\n".join(good)]
    assert (result.done, result.dead, result.failed_id) == (5, 5, ids[-1])
    letters = [(letter["entry"], letter["line"]) for letter in await shard.entries(shard.keys.dead())]
    assert letters == [(ids[at], f"bad{n}") for n, at in enumerate((0, 1, 1, 2, 4))]


async def test_line_of_many_among_others_is_at_fault(shard: Shard) -> None:
    """It needs an entry of its own: how much becomes of it is known only once its users have been looked up."""
    many = build_many([build_place("user:a", 1, 2)], "-", make_body("m", 7, '"text":"hi"').rest)
    await shard.put_out(f"{many}\n{line('topic:news', 1)}")
    result = await shard.outlet.dispatch(HELD, 100)
    assert (result.done, result.published, result.dead) == (1, 1, 1)


async def test_lines_of_an_entry_are_reported_one_by_one(shard: Shard) -> None:
    """Each for its own reason, whoever stands beside it."""
    await shard.route("here", "edge.1")
    await shard.route("lapsed", "edge.2", node_ms=-1)
    targets = ["user:gone", "user:here", "user:lapsed", "topic:news", "user:gone"]
    await shard.put_out("\n".join(line(target, seq) for seq, target in enumerate(targets)))
    async with shard.listening("push:{0}:node:edge.1"):
        result = await shard.outlet.dispatch(HELD, 10)
    assert (result.done, result.offline) == (1, 3)
    reports = [(report["to"], report["seq"], report["reason"]) for report in await shard.entries(shard.keys.offline())]
    assert reports == [("user:gone", "0", "no_route"), ("user:lapsed", "2", "node_lapsed"), ("user:gone", "4", "no_route")]


async def test_line_with_several_fields_or_another_name(shard: Shard) -> None:
    """The first field's value is the line, whatever its name: nothing else is read from an entry."""
    await shard.redis.xadd(shard.keys.out(), {"x": line("topic:news", 1), "line": "bad"})
    assert (await shard.outlet.dispatch(HELD, 10)).done == 1


@pytest.mark.parametrize("key", ["nodes", "offline"])
async def test_broken_side_key_is_an_error_that_loses_nothing(shard: Shard, key: str) -> None:
    """Heartbeats or reports of another type are the operator's to mend: the entries stay until then."""
    await shard.route("a", "edge.1")
    await shard.put_out(line("user:a", 1), line("user:gone", 2))
    name = getattr(shard.keys, key)()
    await shard.redis.delete(name)
    await shard.redis.set(name, "by hand")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await shard.outlet.dispatch(HELD, 10)
    await shard.redis.delete(name)
    assert (await shard.outlet.dispatch(HELD, 10)).done == 2


@pytest.mark.parametrize("rules", [["~*", "resetchannels"], ["~push:{0}:[^r]*", "allchannels"]], ids=["publish", "look up"])
async def test_not_permitted(real_shard: Shard, rules: list[str]) -> None:
    """A user of Redis who may not publish, or not read routes, gets Redis' own error; no entry is blamed, none is lost."""
    shard = real_shard
    target = line("user:a", 1)
    await shard.route("a", "edge.1")
    await shard.put_out(target)
    await shard.redis.execute_command("ACL", "SETUSER", "mute", "reset", "on", ">secret", "+@all", *rules)
    server = shard.redis.connection_pool.connection_kwargs
    async with Redis(host=server["host"], port=server["port"], username="mute", password="secret", protocol=2) as mute:  # noqa: S106 - the test's own
        with pytest.raises(ResponseError, match="script"):
            await Outlet(mute, shard.keys, shard.settings).dispatch(HELD, 10)
    async with shard.listening(EDGE_1) as ear:
        assert (await shard.outlet.dispatch(HELD, 10)).done == 1
        assert [payload for _, payload in await ear.heard()] == [target]
    await shard.redis.execute_command("ACL", "DELUSER", "mute")
