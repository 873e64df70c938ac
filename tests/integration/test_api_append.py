"""POST /v1/messages over real HTTP, a real Redis and a real store."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from router.shards import shard_of_target
from tests.integration.append_site import AppendSite, appending_to, collecting
from tests.integration.site import Site

pytestmark = pytest.mark.anyio

HI: dict[str, Any] = {"to": "user:a", "text": "hi"}


@pytest.fixture
async def api(site: Site) -> AsyncIterator[AppendSite]:
    """Yield the API of one shard."""
    async with appending_to(site) as api:
        yield api


async def test_one_message(api: AppendSite) -> None:
    """It stands in the stream as a producer would have appended it, its body byte for byte."""
    answer = await api.accepted(
        b'{"to":["user:a","all"], "body":{ "n":1.50,"s":"\\u00e9"},"id":"m","ttl":60,"trace":true,"transient":false,"x-t":"1"}'
    )
    ((entry_id, fields),) = await api.site.redis.xrange(api.site.keys(0).intake())
    assert answer == {
        "id": "m", "to": ["user:a", "all"], "entry": entry_id.decode(), "stream": api.site.keys(0).intake(),
    }  # fmt: skip
    assert fields == {
        b"to": b"user:a,all", b"body": b'{ "n":1.50,"s":"\\u00e9"}', b"id": b"m", b"ttl": b"60", b"trace": b"1",
        b"transient": b"0", b"x-t": b"1",
    }  # fmt: skip


async def test_message_without_an_id(api: AppendSite) -> None:
    """It gets one of its own, which is the one it is stored with."""
    first, second = await api.accepted(HI), await api.accepted(HI)
    await api.site.settle()
    assert first["id"] != second["id"]
    assert [one["id"] for one in await api.site.stored()] == [first["id"], second["id"]]


async def test_array(api: AppendSite) -> None:
    """Each item has its own result; the good ones are appended in their order, whatever stands between them."""
    items: list[Any] = [HI | {"id": f"m{n}"} for n in range(5)]
    items[1:1] = [5, HI | {"ttl": "soon"}]
    results = await api.results(items)
    assert [one.get("id") for one in results] == ["m0", None, None, "m1", "m2", "m3", "m4"]
    assert [one["problem"]["status"] for one in results[1:3]] == [400, 400]
    assert (results[2]["problem"]["field"], results[2]["problem"]["rule"]) == ("ttl", "is not a number (seconds)")
    assert [fields[b"id"] for fields in await api.entries()] == [b"m0", b"m1", b"m2", b"m3", b"m4"]
    await api.site.settle()
    seqs = {one["id"]: one["seq"] for one in await api.site.stored()}
    assert sorted(seqs, key=lambda one: seqs[one]) == ["m0", "m1", "m2", "m3", "m4"]


async def test_array_of_many(api: AppendSite) -> None:
    """Ten thousand go in one call, in order, each with the entry that it has."""
    results = await api.results([{"to": f"user:u{n % 7}", "body": n} for n in range(10_000)])
    found = await api.site.redis.xrange(api.site.keys(0).intake())
    assert [fields[b"body"] for _, fields in found] == [b"%d" % n for n in range(10_000)]
    assert [(one["entry"].encode(), one["id"].encode()) for one in results] == [
        (entry_id, fields[b"id"]) for entry_id, fields in found
    ]


async def test_array_of_nothing_good(api: AppendSite) -> None:
    """422 when none could be appended; the results say why."""
    results = await api.results([5, {}], status=422)
    assert [one["problem"]["field"] for one in results] == ["message", "to"]


async def test_shards(two_shards: Site) -> None:
    """A message goes to the shard of its first target, and from there to the others'."""
    async with appending_to(two_shards) as api:
        results = await api.results([{"to": f"user:u{n},user:u{n + 1}", "text": "", "id": f"m{n}"} for n in range(20)])
        for shard in (0, 1):
            stream = two_shards.keys(shard).intake()
            mine = [one for one in results if one["stream"] == stream]
            found = await two_shards.redis.xrange(stream)
            assert [one["entry"] for one in mine] == [entry_id.decode() for entry_id, _ in found] != []
        results = await _waited(api, [{"to": f"user:u{n},user:u{n + 1}", "text": "", "id": f"n{n}"} for n in range(20)])
        assert all(len(one["stored"]) == 2 for one in results)


async def _waited(api: AppendSite, items: object) -> Any:  # noqa: ANN401 - results, or the one answer
    async with collecting(api.site):
        answer = await api.post(items, prefer="wait=20")
        # The answer is of what has been stored, and an owner that ends just then has not done with its entry.
        with anyio.fail_after(20):
            while await api.entries():  # noqa: ASYNC110 - it is Redis that changes
                await anyio.sleep(0.005)
    assert (answer.status_code, answer.headers["preference-applied"]) == (201, "wait=20"), answer.text
    return answer.json().get("results", answer.json())


async def test_wait_until_it_is_stored(api: AppendSite) -> None:
    """201 tells the seq for each target."""
    answer = await _waited(api, {"to": "user:a,all", "text": "hi", "id": "m"})
    stored = {one["target"]: one["seq"] for one in await api.site.stored()}
    assert answer["stored"] == [{"to": "user:a", "seq": stored["user:a"]}, {"to": "all", "seq": stored["all"]}]


async def test_wait_for_many(api: AppendSite) -> None:
    """Each of them is told."""
    results = await _waited(api, [{"to": f"user:u{n % 50}", "text": "", "id": f"m{n}"} for n in range(1_000)])
    seqs = {one["_id"]: one["seq"] for one in await api.site.stored()}
    assert [one["stored"][0]["seq"] for one in results] == [seqs[f"user:u{n % 50} m{n}"] for n in range(1_000)]


async def test_wait_that_was_too_short(api: AppendSite) -> None:
    """202 as without it: nobody collects here."""
    answer = await api.post(HI, prefer="respond-async, wait=1")
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    assert "stored" not in answer.json()


async def test_wait_is_cut(site: Site) -> None:
    """To the longest there is; the answer says so."""
    async with appending_to(site, api_wait_max_s=1) as api:
        answer = await api.post(HI, prefer="wait=600")
        assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    async with appending_to(site, api_wait_max_s=0) as api:
        assert "preference-applied" not in (await api.post(HI, prefer="wait=600")).headers


async def test_nothing_to_wait_for(api: AppendSite) -> None:
    """A transient message is never stored; there is nothing to wait for."""
    answer = await api.post(HI | {"transient": True}, prefer="wait=30")
    assert answer.status_code == 202


async def test_dead_letter_while_waiting(api: AppendSite) -> None:
    """A message that cannot be stored after all is told of: here its counters are broken."""
    await api.site.redis.set(api.site.keys(0).seq("user:b"), "no hash")
    async with collecting(api.site):
        document = await api.refused(422, {"to": "user:b", "text": "hi", "id": "m"}, prefer="wait=20")
        results = await api.results([HI | {"id": "n1"}, {"to": "user:b,user:c", "text": "", "id": "n2"}], 201, prefer="wait=20")
    assert "dead letter" in document["detail"]
    assert "the counters of user:b are broken" in document["detail"]
    assert results[0]["stored"][0]["to"] == "user:a"
    assert "the counters of user:b are broken" in results[1]["problem"]["detail"]
    assert [one["to"] for one in results[1]["stored"]] == ["user:c"]


async def test_dead_letter_of_somebody_else(api: AppendSite) -> None:
    """One with the same id and target says nothing of ours."""
    async with collecting(api.site):
        await api.site.append(to="user:a", text="hi", body="5", id="m")
        answer = await api.accepted(HI | {"id": "m"}, 201, prefer="wait=20")
    assert (len(answer["stored"]), len(await api.site.dead())) == (1, 1)


async def test_repeated_id(api: AppendSite) -> None:
    """What is stored with the same content is not appended again, and is answered with what is known of it."""
    answer = await _waited(api, HI | {"id": "m"})
    assert await api.accepted(HI | {"id": "m"}) == {
        "id": "m", "to": ["user:a"], "repeated": True, "stored": answer["stored"],
    }  # fmt: skip
    again = await api.post(HI | {"id": "m"}, prefer="wait=5")
    assert (again.status_code, again.json()["repeated"]) == (201, True)
    assert await api.entries() == []
    assert len(await api.site.stored()) == 1


async def test_repeated_among_many(api: AppendSite) -> None:
    """Each is found, wherever it stands in however long an array."""
    old = [HI | {"id": f"m{n}"} for n in (0, 700, 2_999)]
    await api.results(old)
    await api.site.settle()
    items = [HI | {"id": f"m{n}"} for n in range(3_000)]
    items[700] |= {"text": "another"}
    results = await api.results(items)
    assert [n for n, one in enumerate(results) if one.get("repeated")] == [0, 2_999]
    assert [(n, one["problem"]["status"]) for n, one in enumerate(results) if "problem" in one] == [(700, 409)]
    assert len(await api.entries()) == 3_000 - len(old)


async def test_repeated_for_some_targets(api: AppendSite) -> None:
    """Then it is appended, and made once where it is stored already."""
    await _waited(api, HI | {"id": "m"})
    answer = await _waited(api, HI | {"to": "user:a,user:b", "id": "m"})
    assert "repeated" not in answer
    assert [one["to"] for one in answer["stored"]] == ["user:a", "user:b"]
    assert len(await api.site.stored()) == 2


@pytest.mark.parametrize("other", [{"text": "ho"}, {"body": "hi"}])
async def test_id_of_another_message(api: AppendSite, other: dict[str, str]) -> None:
    """409; of an array, a problem of that item."""
    await _waited(api, HI | {"id": "m"})
    clash = {"to": "user:a", "id": "m"} | other
    assert (await api.refused(409, clash))["field"] == "id"
    results = await api.results([clash, HI | {"id": "n"}, HI | {"id": "m"}])
    assert [one.get("problem", {}).get("status") for one in results] == [409, None, None]
    assert results[2]["repeated"]
    assert [fields[b"id"] for fields in await api.entries()] == [b"n"]
    # For another target it is another message.
    await api.accepted(clash | {"to": "user:b"})


async def test_id_of_another_message_of_the_same_array(api: AppendSite) -> None:
    """The first of them has it."""
    results = await api.results([HI | {"id": "m"}, HI | {"id": "m", "text": "ho"}, HI | {"id": "m"}])
    assert [one.get("problem", {}).get("status") for one in results] == [None, 409, None]
    results = await _waited(api, [HI | {"id": "n"}, HI | {"id": "n"}])
    assert [len(one["stored"]) for one in results] == [1, 1]


async def test_id_that_turns_out_to_be_taken(api: AppendSite) -> None:
    """Two different messages on their way at once: who waits is told that the other one has the id."""
    await api.accepted(HI | {"id": "m"})
    async with collecting(api.site):
        await api.refused(409, HI | {"id": "m", "text": "ho"}, prefer="wait=20")


async def test_key(api: AppendSite) -> None:
    """Idempotency-Key is the id of one message, and the beginning of those of an array."""
    assert (await api.accepted(HI, idempotency_key="k"))["id"] == "k"
    assert (await api.accepted(HI, idempotency_key='"k2"'))["id"] == "k2"
    results = await api.results([HI, HI, 5, HI], idempotency_key="k")
    assert [one.get("id") for one in results] == ["k-0", "k-1", None, "k-3"]
    assert (await api.refused(400, HI | {"id": "m"}, idempotency_key="k"))["field"] == "id"
    assert (await api.refused(400, HI, idempotency_key="a b"))["field"] == "Idempotency-Key"


async def test_repeated_before_it_is_stored(api: AppendSite) -> None:
    """Who got no answer sends the same again: collect makes it once, each in its place."""
    items = [HI | {"text": str(n)} for n in range(600)]
    for _ in range(2):
        await api.results(items, idempotency_key="k")
    await api.site.settle()
    stored = sorted(await api.site.stored(), key=lambda one: one["seq"])
    assert [one["id"] for one in stored] == [f"k-{n}" for n in range(600)]
    results = await api.results(items, idempotency_key="k")
    assert all(one["repeated"] for one in results)


async def test_transient_message(two_shards: Site) -> None:
    """It goes to the fast lane, an entry a target, each in the target's shard; nothing of it is ever stored or looked up."""
    async with appending_to(two_shards) as api:
        targets = [f"user:u{n}" for n in range(8)]
        message = {"to": targets, "transient": True, "id": "m", "ttl": 5, "x-t": "1"}
        for content in ({"body": {"a b": "\u007f\n"}}, {"text": "a\n"}):
            answer = await api.accepted(message | content)
        found = [one for n in (0, 1) for one in await two_shards.redis.xrange(two_shards.keys(n).fast())]
        assert answer["entry"].encode() in [entry_id for entry_id, _ in found]
        assert answer["stream"] == two_shards.keys(shard_of_target("user:u0", 2)).fast()
        assert sorted(fields[b"to"].decode() for _, fields in found) == sorted(2 * targets)
        common = {b"transient": b"1", b"id": b"m", b"ttl": b"5", b"x-t": b"1"}
        contents = ({b"body": b'{"a b":"\\u007f\\n"}'}, {b"text": b"a\n"})
        assert all(fields in [{b"to": fields[b"to"]} | common | one for one in contents] for _, fields in found)
        assert await api.entries(0) == await api.entries(1) == []


async def test_transient_body_that_does_not_fit_the_fast_lane(api: AppendSite) -> None:
    """Escaped as that lane needs it, it would be too long: it goes the other way."""
    await api.accepted({"to": "user:a", "body": "\x7f" * 20_000, "transient": True})
    assert len(await api.entries()) == 1


@pytest.mark.parametrize(
    ("what", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b'"hi"', {}, 400),
        (b'{"to":"user:a"}', {}, 400),
        (b'{"to":"user:a","text":"hi"}', {"content_type": "text/plain"}, 415),
        (b'{"to":"user:a","text":"hi"}', {"content_type": "application/x-www-form-urlencoded"}, 415),
        (b'{"to":"user:a","text":"hi"}', {"content_encoding": "gzip"}, 415),
        (b"[1,2,3,4,5]", {}, 413),
        (b'{"to":"user:a","text":"' + b"x" * 5_000 + b'"}', {}, 413),
        (HI, {"authorization": "Bearer wrong"}, 401),
    ],
)
async def test_refused(site: Site, what: object, headers: dict[str, str], status: int) -> None:
    """Nothing is appended, and a problem document says why."""
    async with appending_to(site, api_messages_max=4, api_request_max_bytes=4_096) as api:
        await api.refused(status, what, **headers)
        assert await api.entries() == []
        await api.accepted(HI, content_type="Application/JSON; charset=utf-8")


async def test_endless_request(site: Site) -> None:
    """One that does not say its length is read no further than it may be long."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in itertools.repeat(None, 1_000):
            yield b" " * 65_536

    async with appending_to(site, api_request_max_bytes=100_000) as api:
        try:
            answer = await api.client.post("/v1/messages", content=endless(), headers={"content-type": "application/json"})
        except httpx.WriteError:
            return  # the connection was closed before all of it was sent, as it may be
        assert answer.status_code == 413


async def test_room_for_requests(site: Site) -> None:
    """While those that are in hand fill it, others have 503; when they are through, there is room again."""
    async with appending_to(site, api_in_hand_max_bytes=100) as api:
        hi = HI | {"text": "x" * 80}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(api.accepted, hi, 201, prefer="wait=30"))
            await until_appended(api)
            assert "are in hand" in (await api.refused(503, hi))["detail"]
            await site.settle()
        await api.accepted(hi)


async def until_appended(api: AppendSite) -> None:
    """Return when something waits in `in`."""
    with anyio.fail_after(60):
        while not await api.entries():  # noqa: ASYNC110 - Redis has no event for it
            await anyio.sleep(0.01)


async def test_wrong_method(api: AppendSite) -> None:
    """405 with the one there is."""
    answer = await api.client.get("/v1/messages")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
