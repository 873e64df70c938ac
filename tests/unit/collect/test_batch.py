"""router.collect.batch: what is to become of a batch."""

from __future__ import annotations

from router.collect.batch import Plan, append_again, due_items, plan_batch
from router.collect.entries import Entry
from router.lines import build_frame, build_line
from router.settings import Settings
from router.shards import shard_of_target
from router.stored import make_body

NOW_MS = 1_732_262_400_999
FOUR = Settings(shards=4)

# One user of each of four shards.
USERS = {shard: next(f"user:{n}" for n in range(100) if shard_of_target(f"user:{n}", 4) == shard) for shard in range(4)}


def _entries(*messages: dict[str, str], appended_ms: int = NOW_MS) -> list[Entry]:
    return [
        Entry.of(f"{appended_ms}-{number}", [(name.encode(), value.encode()) for name, value in fields.items()])
        for number, fields in enumerate(messages)
    ]


def _plan(*messages: dict[str, str], settings: Settings = FOUR, appended_ms: int = NOW_MS) -> Plan:
    entries = _entries(*messages, appended_ms=appended_ms)
    plan, count = plan_batch(entries, 0, NOW_MS, settings)
    assert count == len(entries)
    return plan


def _to(*shards: int) -> str:
    return ",".join(USERS[shard] for shard in shards)


def test_items_are_one_a_target_in_order() -> None:
    """Every target of this shard becomes an item, entry after entry."""
    plan = _plan({"to": "user:b,user:a", "text": "1", "id": "x"}, {"to": "user:a", "text": "2", "id": "y"}, settings=Settings())
    assert [item.id for item in plan.items] == ["user:b x", "user:a x", "user:a y"]
    assert [item.entry_id for item in plan.items] == [f"{NOW_MS}-0", f"{NOW_MS}-0", f"{NOW_MS}-1"]
    assert plan.durable.entry_ids == [f"{NOW_MS}-0", f"{NOW_MS}-1"]
    assert plan.durable.forwards == []


def test_broken_entry_harms_nothing_around_it() -> None:
    """It is listed with its reason, and its neighbours become items."""
    plan = _plan({"to": _to(0), "text": "1"}, {"to": _to(0)}, {"nonsense": "1"}, {"to": _to(0), "text": "2"})
    assert [entry_id for entry_id, _ in plan.dead] == [f"{NOW_MS}-1", f"{NOW_MS}-2"]
    assert plan.dead[0][1].startswith("body: ")
    assert len(plan.items) == 2
    assert plan.durable.entry_ids == [f"{NOW_MS}-0", f"{NOW_MS}-3"]


def test_repeated_id_is_one_item() -> None:
    """The same id for the same target is planned once, and its entry is done with the others; another target has its own."""
    plan = _plan(
        {"to": _to(0), "text": "1", "id": "x"},
        {"to": f"{_to(0)},{_to(0)}", "text": "2", "id": "x"},
        {"to": "all,user:other", "text": "3", "id": "x"},
        settings=Settings(),
    )
    assert [item.id for item in plan.items] == [f"{_to(0)} x", "all x", "user:other x"]
    assert plan.items[0].message.content == '"text":"1"'
    assert len(plan.durable.entry_ids) == 3


def test_targets_of_other_shards_are_forwarded() -> None:
    """Each other shard gets one entry with its targets, in order, and with the id that this shard made."""
    plan = _plan({"to": _to(1, 0, 2), "text": "hi", "x-a": "b", "trace": "1"})
    (item,) = plan.items
    assert item.target == USERS[0]
    assert [(forward.shard, forward.fields["to"].decode()) for forward in plan.durable.forwards] == [(1, _to(1)), (2, _to(2))]
    for forward in plan.durable.forwards:
        assert forward.fields["id"].decode() == item.message.id
        assert {name: forward.fields[name] for name in ("text", "x-a", "trace")} == {"text": b"hi", "x-a": b"b", "trace": b"1"}


def test_forward_keeps_the_contract_over_there() -> None:
    """What is forwarded is a message of the same id and content for its shard, which keeps all of it."""
    plan = _plan({"to": _to(1, 3), "body": '{ "a": 1 }', "ttl": "60", "traceparent": "00-1"})
    for forward in plan.durable.forwards:
        entry = Entry.of("9-0", [(name.encode(), value) for name, value in forward.fields.items()])
        again, _ = plan_batch([entry], forward.shard, NOW_MS, FOUR)
        assert not again.dead
        assert not again.durable.forwards
        (item,) = again.items
        assert item.message.id == forward.fields["id"].decode()
        assert item.message.content == '"body":{"a":1}'


def test_forward_keeps_the_order_of_the_stream() -> None:
    """Entry after entry, whatever their shards."""
    plan = _plan(*({"to": _to(1 + n % 3), "text": str(n), "id": str(n)} for n in range(9)))
    assert [forward.fields["id"] for forward in plan.durable.forwards] == [b"%d" % n for n in range(9)]
    assert plan.durable.entry_ids == [f"{NOW_MS}-{n}" for n in range(9)]
    assert plan.items == []


def test_forward_takes_along_what_is_left_of_the_time() -> None:
    """A ttl counts from the first appending: waiting here does not lengthen a message's life over there."""
    late = NOW_MS - 7_500
    (forward,) = _plan({"to": _to(1), "text": "hi", "ttl": "60"}, appended_ms=late).durable.forwards
    assert forward.fields["ttl"] == b"53"
    (forward,) = _plan({"to": _to(1), "text": "hi", "transient": "1"}, appended_ms=late).transient.forwards
    assert forward.fields["ttl"] == b"3"
    (forward,) = _plan({"to": _to(1), "text": "hi"}, appended_ms=late).durable.forwards
    assert "ttl" not in forward.fields


def test_what_has_expired_is_not_forwarded() -> None:
    """Its entry is done with; nobody would get it."""
    late = NOW_MS - 10_000
    durable = _plan({"to": _to(1), "text": "hi", "ttl": "10"}, appended_ms=late).durable
    transient = _plan({"to": _to(1), "text": "hi", "transient": "1"}, appended_ms=late).transient
    for part in (durable, transient):
        assert part.forwards == []
        assert part.entry_ids == [f"{late}-0"]


def test_transient_is_a_part_of_its_own() -> None:
    """Its lines are finished, its forwards wait for nothing durable."""
    plan = _plan(
        {"to": _to(0), "text": "1"},
        {"to": _to(0, 1), "text": "2", "id": "x", "transient": "1"},
        {"to": _to(0), "text": "3"},
    )
    frame = build_frame(USERS[0], None, "x", NOW_MS, '"text":"2"')
    assert plan.transient.lines.build() == [build_line(USERS[0], None, None, NOW_MS + 10_000, frame)]
    assert [forward.shard for forward in plan.transient.forwards] == [1]
    assert plan.transient.entry_ids == [f"{NOW_MS}-1"]
    assert plan.durable.entry_ids == [f"{NOW_MS}-0", f"{NOW_MS}-2"]
    assert plan.durable.forwards == []


def test_batch_is_cut_where_its_messages_reach_the_most() -> None:
    """Items, transient lines and forwards all count; at least one entry is planned, the rest is left."""
    for fields in (
        {"to": ",".join(f"user:x{n}" for n in range(10)), "text": "hi"},
        {"to": ",".join(f"user:x{n}" for n in range(10)), "text": "hi", "transient": "1"},
    ):
        entries = _entries(*({**fields} for _ in range(10)))
        plan, count = plan_batch(entries, 0, NOW_MS, Settings(batch_max=25))
        assert (count, len(plan.items) + plan.transient.lines.messages) == (3, 30)
        assert plan_batch(entries, 0, NOW_MS, Settings(batch_max=1))[1] == 1
    spread = _entries(*({"to": _to(1, 2, 3), "text": "hi"} for _ in range(10)))
    assert plan_batch(spread, 0, NOW_MS, Settings(shards=4, batch_max=25))[1] == 9


def test_batch_is_cut_where_its_content_reaches_the_most() -> None:
    """A long body to many targets is as many long documents: they are not all held at once."""
    entries = _entries(*({"to": "user:a,user:b", "text": "x" * 1_000} for _ in range(10)))
    assert plan_batch(entries, 0, NOW_MS, Settings(read_max_bytes=5_000))[1] == 3


def test_batch_is_cut_when_time_is_up() -> None:
    """Good entries and bad ones take their time alike, and one is done at least."""
    for fields in ({"to": "user:a", "text": "1"}, {"nonsense": "1"}):
        time_is_up = iter((False, False, True)).__next__
        plan, count = plan_batch(_entries(*[fields] * 10), 0, NOW_MS, Settings(), time_is_up)
        assert (count, len(plan.items) + len(plan.dead)) == (3, 3)
        assert plan_batch(_entries(fields, fields), 0, NOW_MS, Settings(), lambda: True)[1] == 1


def test_dead_entries_behind_the_cut_are_left() -> None:
    """What is behind the cut is judged when it is taken again."""
    entries = _entries({"to": "user:a", "text": "1"}, {"nonsense": "1"})
    plan, count = plan_batch(entries, 0, NOW_MS, Settings(batch_max=1))
    assert (count, plan.dead) == (1, [])


def test_nothing_is_planned_of_nothing() -> None:
    """An empty batch is an empty plan."""
    plan, count = plan_batch([], 0, NOW_MS, FOUR)
    assert (count, plan.dead, plan.items, plan.durable.entry_ids, plan.transient.entry_ids) == (0, [], [], [], [])


def _wide(number: int, **fields: str) -> dict[str, str]:
    return {"to": ",".join(f"user:x{n}" for n in range(number)), "text": "hi", "id": "w", **fields}


def test_targets_share_a_body_where_they_are_many() -> None:
    """Above `targets_inline_max` in this shard; the same entry always has the same body, another content another."""
    eight, nine = (_plan(_wide(number), settings=Settings()) for number in (8, 9))
    assert {item.body for item in eight.items} == {None}
    (body,) = {item.body for item in nine.items}
    assert body == make_body("w", NOW_MS, '"text":"hi"')
    assert body.id.startswith("w ")
    (other,) = {item.body for item in _plan(_wide(9, text="ho"), settings=Settings()).items}
    assert other is not None
    assert other.id != body.id


def test_transient_message_to_many_is_one_line() -> None:
    """Of its users; a topic and everybody have lines of their own."""
    plan = _plan(_wide(9, transient="1", to=_wide(9)["to"] + ",topic:t,all"), settings=Settings())
    many, topic, everybody = plan.transient.lines.build()
    places = ",".join(f"user:x{n},-,-" for n in range(9))
    assert many == f'many - - exp={NOW_MS + 10_000} {places} "id":"w","ts":{NOW_MS},"text":"hi"}}'
    assert [line.split(" ")[0] for line in (topic, everybody)] == ["topic:t", "all"]
    assert plan.transient.lines.messages == 11


def test_content_that_is_shared_counts_once() -> None:
    """So an entry to thousands is no reason to leave those behind it for later."""
    entries = _entries(*(_wide(9, text="x" * 1_000, id=f"w{n}") for n in range(10)))
    assert plan_batch(entries, 0, NOW_MS, Settings(read_max_bytes=5_000))[1] == 5


def test_what_waits_is_no_item() -> None:
    """A message with an `at` that is to come is kept for the targets of this shard, a thousand a document, and acknowledged."""
    at = str(NOW_MS + 1)
    users = ",".join(f"user:{n}" for n in range(1_001))
    plan = _plan({"to": users, "text": "1", "id": "x", "at": at, "ttl": "60"}, settings=Settings())
    assert (plan.items, plan.durable.entry_ids) == ([], [f"{NOW_MS}-0"])
    assert [len(one.targets) for one in plan.waiting] == [1_000, 1]
    assert {(one.id, one.at_ms, one.expires_ms) for one in plan.waiting} == {("x", NOW_MS + 1, NOW_MS + 60_001)}
    assert _plan({"to": "user:a", "text": "1", "at": str(NOW_MS)}, settings=Settings()).waiting == []


def test_what_waits_elsewhere_goes_along_whole() -> None:
    """Its `at` and all of its `ttl`, which begins only then; one that is due already has what is left of it."""
    later, now = str(NOW_MS + 5_000), str(NOW_MS - 3_000)
    plan = _plan(*({"to": _to(1), "text": "1", "ttl": "60", "at": at} for at in (later, now)), appended_ms=NOW_MS - 9_000)
    assert [(one.fields["at"], one.fields["ttl"]) for one in plan.durable.forwards] == [
        (later.encode(), b"60"),
        (now.encode(), b"57"),
    ]
    assert plan.waiting == []


def test_due_items() -> None:
    """Of two documents with a message for one target the first counts; `ts` is the time; a wide one has a body."""
    at = str(NOW_MS + 1)
    few = {"to": "user:a", "text": "1", "id": "x", "at": at, "collapse": "k"}
    many = {"to": ",".join(f"user:{name}" for name in "abcdefghi"), "text": "1", "id": "x", "at": at}
    items = due_items(_plan(few, many, settings=Settings()).waiting, Settings())
    assert [item.id for item in items] == [f"user:{name} x" for name in "abcdefghi"]
    assert (items[0].message.collapse, items[0].body) == ("k", None)
    assert items[1].body == make_body("x", NOW_MS + 1, '"text":"1"')


def test_appended_again_it_says_what_it_said() -> None:
    """Without `at`, and with what is left of its life."""
    fields = {"to": "user:a", "body": '{"a":":"}', "id": "x", "at": str(NOW_MS + 1), "ttl": "60", "x-y": "z", "collapse": "k"}
    (item,) = due_items(_plan(fields, settings=Settings()).waiting, Settings())
    again = append_again(item, 0, NOW_MS + 1_001)
    expected = fields | {"ttl": "59"}
    del expected["at"]
    assert again.fields == {name: value.encode() for name, value in expected.items()}
    (text,) = due_items(_plan({"to": "all", "text": 'a"b', "at": str(NOW_MS + 1)}, settings=Settings()).waiting, Settings())
    assert append_again(text, 0, NOW_MS).fields["text"] == b'a"b'


def test_what_waits_is_told_of() -> None:
    """Appended when it was, and waiting until then."""
    plan = _plan({"to": "user:a", "text": "1", "at": str(NOW_MS + 1), "trace": "1"}, settings=Settings())
    assert [(event.stage, event.at_us) for event in plan.events] == [("appended", NOW_MS * 1_000), ("waiting", NOW_MS * 1_000)]
    assert plan.events[1].why == "kept until 2024-11-22T08:00:01.000+00:00"
