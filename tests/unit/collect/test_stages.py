"""router.collect.stages: what collect tells of messages that are traced, as a plan and a batch bring it about."""

from __future__ import annotations

from router.collect.batch import Item, plan_batch
from router.collect.entries import Entry, read_message
from router.collect.intake import Place
from router.collect.joined import Lines
from router.collect.settled import Settled
from router.settings import Settings
from router.stored import Stored
from router.trace import TraceEvent

NOW_MS = 1_732_262_400_999
SETTINGS = Settings()


def _entry(at_ms: int = NOW_MS - 5, /, **fields: str) -> Entry:
    return Entry.of(f"{at_ms}-0", [(name.encode(), value.encode()) for name, value in fields.items()])


def _item(**fields: str) -> Item:
    message = read_message(_entry(id="m", to="user:a", text="hi", **fields), 0, NOW_MS, SETTINGS)
    return Item("user:a m", "user:a", message, "1-0")


def _events(entry: Entry) -> list[TraceEvent]:
    plan, _ = plan_batch([entry], 0, NOW_MS, SETTINGS)
    return plan.events


def test_untraced_entries_tell_nothing() -> None:
    """Whether they are transient, dead or durable."""
    wishes: tuple[dict[str, str], ...] = ({"text": "hi", "transient": "1"}, {"text": "hi"}, {})
    assert [_events(_entry(to="user:a", trace="0", **wish)) for wish in wishes] == [[], [], []]


def test_transient_is_appended_and_has_no_stored_stage() -> None:
    """One event a target, and a line whose opts go on asking for it."""
    plan, _ = plan_batch([_entry(to="user:a,user:b", text="hi", id="m", transient="1", trace="1")], 0, NOW_MS, SETTINGS)
    assert plan.events == [TraceEvent("m", to, "appended", (NOW_MS - 5) * 1_000) for to in ("user:a", "user:b")]
    assert all(line.split(" ", 4)[3].endswith(";trace=1") for line in plan.transient.lines.build())


def test_transient_that_is_too_old_is_expired() -> None:
    """It goes no further."""
    told = _events(_entry(NOW_MS - 60_000, to="user:a", text="hi", id="m", transient="1", trace="1"))
    assert [(event.stage, event.at_us) for event in told] == [
        ("appended", (NOW_MS - 60_000) * 1_000),
        ("expired", NOW_MS * 1_000),
    ]


def test_dead_letter_tells_the_reason() -> None:
    """Under the id that the producer gave, or the entry's where it gave none; an overlong one is cut."""
    given = _events(_entry(to="nobody", text="hi", id="x" * 300, trace="1"))
    assert [(event.id, event.to, event.stage) for event in given] == [
        ("x" * 200, "nobody", "appended"),
        ("x" * 200, "nobody", "dead"),
    ]
    assert given[1].why is not None
    assert given[1].why.startswith("to: 'nobody' is not a target")
    assert [event.id for event in _events(_entry(NOW_MS, trace="1"))] == [f"{NOW_MS}-0"] * 2


def test_settled_items_tell_how() -> None:
    """Stored or repeated with the seq, dead with the reason, each behind its append; traceparent is carried along."""
    settled = Settled(Lines(1_000), at_us=7)
    item = _item(trace="1", traceparent="00-ab-cd-01")
    settled.begin([(item, Place(1, 2))])
    settled.add(item, Place(1, 2), "{}")
    settled.repeat(item, Stored(2, 1, "{}", 5))
    settled.bury(item, "too large")
    assert [(event.stage, event.at_us, event.seq, event.why) for event in settled.events[1::2]] == [
        ("stored", 7, 2, None),
        ("repeated", 7, 2, None),
        ("dead", 7, None, "too large"),
    ]
    assert settled.events[::2] == [TraceEvent("m", "user:a", "appended", (NOW_MS - 5) * 1_000, traceparent="00-ab-cd-01")] * 3
    assert settled.lines.build() == ["user:a 1 2 trace=1 {}", "user:a 1 2 exp=5;trace=1 {}"]


def test_a_repeat_is_traced_when_either_asked_for_it() -> None:
    """The line goes on as the first was meant; only who asks now is told of the repeat."""
    settled = Settled(Lines(1_000))
    item = _item()
    settled.begin([(item, Place(1, 2))])
    settled.repeat(item, Stored(2, 1, "{}", None, trace=True))
    assert settled.events == []
    assert settled.lines.build() == ["user:a 1 2 trace=1 {}"]
