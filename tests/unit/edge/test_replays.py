"""edge.replays: what is served from what was kept is what a look into the inbox would have given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge.frames import text_frame
from edge.replays import AGE_S, Part, Replays, Stretch, part_of, stretch_of
from edge.stride import Stride
from router.collapse import Ahead, collapsed, latest_ends
from router.stored import Keyed, Page, Traced

TARGET = "topic:news"
START = datetime(2025, 1, 1, tzinfo=UTC)
LONG_S = 1_000.0


@dataclass
class Message:
    """A message of the inbox."""

    seq: int
    collapse: str
    exclude: str
    ends_s: float
    erased_s: float = float("inf")

    @property
    def keyed(self) -> Keyed:
        """Its key, and when it ends."""
        return Keyed(self.collapse, at(self.ends_s))


def at(now_s: float) -> datetime:
    """Return the time of day."""
    return START + timedelta(seconds=now_s)


def payload(seq: int) -> bytes:
    """Return a message's."""
    return b"%d" % seq


class Model:
    """An inbox, an edge that reads it, and what each read may give.

    Attributes:
        reads: how often the inbox was asked.
    """

    def __init__(self, replays: Replays) -> None:
        self.replays = replays
        self.messages: list[Message] = []
        self.now_s = 0.0
        self.reads = 0

    @property
    def head(self) -> int:
        """The highest seq stored."""
        return self.messages[-1].seq if self.messages else 0

    def append(self, step: int, collapse: str = "", exclude: str = "", ttl_s: float = LONG_S) -> None:
        """Store a message."""
        self.messages.append(Message(self.head + step, collapse, exclude, self.now_s + ttl_s))

    def erase(self, index: int) -> None:
        """Erase one."""
        if self.messages:
            one = self.messages[index % len(self.messages)]
            one.erased_s = min(self.now_s, one.erased_s)

    def stored(self, after: int, until: int) -> list[Message]:
        """Return what stands there."""
        return [one for one in self.messages if after < one.seq <= until and one.erased_s > self.now_s]

    def page(self, after: int, until: int, most: int, head: int) -> Page:
        """Return what the inbox gives."""
        found = self.stored(after, until)[:most]
        alive = [one for one in found if one.ends_s > self.now_s]
        reached = max([after, *(one.seq for one in found)])
        page = Page(
            [(one.seq, payload(one.seq)) for one in alive],
            reached,
            whole=len(found) < most,
            traced=[Traced(one.seq, payload(one.seq), one.ends_s > self.now_s) for one in found],
            excluded={one.seq: one.exclude for one in found if one.exclude},
            collapse={one.seq: one.keyed for one in alive if one.collapse},
            ends={one.seq: at(one.ends_s) for one in alive},
        )
        newer = latest_ends(one.keyed for one in self.stored(reached, head) if one.collapse)
        return collapsed(page, newer)

    def ask(self, after: int, goal: int, most: int) -> Part:
        """Return what somebody is sent, from what is kept or read."""
        stretch = self.replays.find(TARGET, after, goal, self.now_s)
        if stretch is None:
            until = self.replays.free(TARGET, after, goal)
            page, self.reads = self.page(after, until, most, goal), self.reads + 1
            stretch = stretch_of(page, (after, until), (goal, Ahead()), Stride(), self.now_s)
            self.replays.keep(TARGET, stretch)
        return stretch.part(after, goal, at(self.now_s))

    def check(self, part: Part, after: int, goal: int) -> None:
        """Hold what is sent against what is stored."""
        assert list(part.frames) == [text_frame(payload(seq)) for seq in part.seqs]
        assert list(part.seqs) == sorted(set(part.seqs))
        assert after <= part.reached <= goal
        assert part.reached > after or after == goal
        assert part.whole == (part.reached >= goal)
        sent, by_seq = set(part.seqs), {one.seq: one for one in self.messages}
        for one in (by_seq[seq] for seq in sent):
            assert after < one.seq <= part.reached
            assert one.ends_s > self.now_s
            assert one.erased_s >= self.now_s - AGE_S
            assert part.excluded.get(one.seq, "") == one.exclude
        for one in self.stored(after, part.reached):
            if one.ends_s > self.now_s:
                assert one.seq in sent or self._may_be_left_out(one, goal)
        assert all(traced.alive == (traced.seq in sent) for traced in part.traced if after < traced.seq <= part.reached)

    def _may_be_left_out(self, one: Message, head: int) -> bool:
        newer = [other for other in self.messages if one.seq < other.seq <= head and other.collapse == one.collapse != ""]
        return any(other.ends_s >= one.ends_s for other in newer)


appends = st.tuples(
    st.just("append"),
    st.integers(1, 3),
    st.sampled_from(["", "", "price", "score"]),
    st.sampled_from(["", "", "session:1"]),
    st.sampled_from([LONG_S, LONG_S, 1.0, 2.5]),
)
asks = st.tuples(st.just("ask"), st.integers(0, 60), st.integers(0, 6), st.integers(1, 8))
passes = st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, AGE_S]))
erasures = st.tuples(st.just("erase"), st.integers(0, 60))


@given(
    st.lists(st.one_of(appends, appends, asks, asks, asks, passes, erasures), max_size=80),
    st.sampled_from([0, 1_200, 3_000, 10_000_000]),
    st.sampled_from([0, 1_200, 10_000_000]),
)
def test_what_is_served_is_what_is_stored(steps: list[tuple], kept_max_bytes: int, stretch_max_bytes: int) -> None:  # type: ignore[type-arg]
    """In order, without a gap, nothing that has ended, nothing erased long ago; left out only for a newer one of its key."""
    model = Model(Replays(stretch_max_bytes, kept_max_bytes))
    for step in steps:
        match step:
            case ("append", *given_):
                model.append(*given_)
            case ("pass", passed_s):
                model.now_s += passed_s
            case ("erase", index):
                model.erase(index)
            case (_, after, below, most):
                goal = max(0, model.head - below)
                after = min(after, goal)
                model.check(model.ask(after, goal, most), after, goal)
        assert model.replays.bytes <= kept_max_bytes
    model.now_s += 2 * AGE_S
    model.replays.drop_old(model.now_s)
    assert model.replays.bytes == 0


def _replays_of(model: Model, after: int, most: int = 1_000) -> list[int]:
    """Return all that somebody who comes back is sent."""
    seqs: list[int] = []
    while after < model.head:
        part = model.ask(after, model.head, most)
        model.check(part, after, model.head)
        seqs += part.seqs
        after = part.reached
    return seqs


def _news(count: int) -> Model:
    model = Model(Replays(1_000_000))
    for _ in range(count):
        model.append(1)
    return model


def test_any_cursor_in_what_was_read_is_served_from_it() -> None:
    """One look for all of them."""
    model = _news(100)
    for after in (0, 99, 1, 50, 98, 3):
        assert _replays_of(model, after) == list(range(after + 1, 101))
    assert model.reads == 1


def test_what_comes_meanwhile_is_read_by_the_next() -> None:
    """And what touches is one stretch: who comes from far behind is served in one."""
    model = _news(10)
    for _ in range(20):
        _replays_of(model, 0)
        model.append(1)
    assert _replays_of(model, 0) == list(range(1, 31))
    assert model.reads == 21
    assert len(model.ask(0, 30, 1).seqs) == 30


def test_who_knows_of_less_is_not_served_what_was_left_out_for_more() -> None:
    """Else it would have neither the older one nor, yet, the newer."""
    model = Model(Replays(1_000_000))
    model.append(1, "price")
    model.append(1)
    model.append(1, "price")
    assert model.ask(0, 3, 10).seqs == [2, 3]
    assert model.ask(0, 2, 10).seqs == [1, 2]
    # An older head leaves out less, which is no harm to who knows more.
    assert [*model.ask(0, 3, 10).seqs, *model.ask(2, 3, 10).seqs] == [1, 2, 3]


def test_the_target_that_nobody_asked_for_goes_first() -> None:
    """When there is no more room."""

    def read(replays: Replays, target: str) -> None:
        replays.keep(target, _stretch(Model.page(_news(5), 0, 5, 10, 5)))

    def kept(replays: Replays, target: str) -> bool:
        return replays.find(target, 0, 5, 0.0) is not None

    replays = Replays(0, 3_000)
    read(replays, "topic:a")
    read(replays, "topic:b")
    assert kept(replays, "topic:a")
    read(replays, "topic:c")
    assert [kept(replays, f"topic:{name}") for name in "abc"] == [True, False, True]


def _stretch(page: Page) -> Stretch:
    return stretch_of(page, (0, 5), (5, Ahead()), Stride(), 0.0)


def test_one_reader_alone() -> None:
    """A page becomes what is sent, to where it was looked."""
    page = _news(3).page(0, 9, 10, 9)
    part = part_of(page, 9)
    assert (part.seqs, part.reached, part.whole) == ([1, 2, 3], 9, True)
    assert part_of(_news(3).page(0, 9, 2, 9), 9).reached == 2


def test_nothing_is_told_of_whom_a_message_passes_by() -> None:
    """Of what is traced, a session has what is for it."""
    one = Traced(1, b"", alive=True)
    part = Part([1], [b""], 1, whole=True, traced=[one], excluded={1: "session:1"})
    assert part.for_whom(["session:1"]) == []
    assert part.for_whom(["session:2"]) == [one]
