"""edge.delivery: from payload lines to one write a session."""

from __future__ import annotations

import time
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from edge.delivery import Delivery
from edge.frames import text_frame
from edge.members import Told
from edge.position import Position
from router.lines import build_frame, build_line
from tests.unit.edge.outlets import KeptOutlet

HELD_MAX_BYTES = 10_000
"""As much as some hundred messages."""


class Hearers:
    """Users with sessions, each with an outlet, and the delivery to them."""

    def __init__(self, **sessions: int) -> None:
        self.outlets = {user: [KeptOutlet() for _ in range(count)] for user, count in sessions.items()}
        self.positions = {
            user: [Position(outlet, "user:x", HELD_MAX_BYTES) for outlet in outlets] for user, outlets in self.outlets.items()
        }
        self.behind: list[Position] = []
        audiences = {f"user:{user}".encode(): at for user, at in self.positions.items()}
        self.delivery = Delivery(audiences, self.behind.append)

    def started(self) -> Hearers:
        """Start all positions at 0."""
        for positions in self.positions.values():
            for position in positions:
                position.start(0)
        return self

    def receive(self, *payloads: str) -> None:
        """Receive one chunk."""
        self.delivery.receive([payload.encode() for payload in payloads])


def frame(user: str, seq: int | None) -> str:
    """Return a message frame."""
    return build_frame(f"user:{user}", seq, f"m{seq}", 0, '"text":"a b"')


def line(user: str, prev: int, seq: int, expires_ms: int | None = None, exclude: str = "") -> str:
    """Return a payload line."""
    return build_line(f"user:{user}", prev, seq, expires_ms, frame(user, seq), exclude=exclude)


def wire(user: str, seq: int | None) -> bytes:
    """Return what a client gets of it."""
    return text_frame(frame(user, seq).encode())


def test_a_chunk_is_one_write_a_session() -> None:
    """However many payloads and lines it has; a session that gets nothing is not written to."""
    hearers = Hearers(alice=2, bob=1, carol=1).started()
    hearers.receive(f"{line('alice', 0, 1)}\n{line('bob', 0, 1)}\n{line('alice', 1, 2)}", line("alice", 2, 3))
    for outlet in hearers.outlets["alice"]:
        assert outlet.writes == [[wire("alice", 1), wire("alice", 2), wire("alice", 3)]]
    assert hearers.outlets["bob"][0].writes == [[wire("bob", 1)]]
    assert hearers.outlets["carol"][0].writes == []


def test_the_frame_is_built_once_for_all_sessions() -> None:
    """They share the bytes."""
    hearers = Hearers(alice=2).started()
    hearers.receive(line("alice", 0, 1))
    one, two = (outlet.frames[0] for outlet in hearers.outlets["alice"])
    assert one is two


def test_duplicates_are_dropped_and_gaps_caught_up() -> None:
    """From a gap on nothing is delivered live: whoever catches up is told once, and reads it all in order."""
    hearers = Hearers(alice=1).started()
    gaps = REGISTRY.get_sample_value("pushway_gaps_total") or 0
    hearers.receive(line("alice", 0, 1), line("alice", 0, 1), line("alice", 7, 9), line("alice", 1, 7))
    assert hearers.outlets["alice"][0].frames == [wire("alice", 1)]
    assert hearers.behind == hearers.positions["alice"]
    assert REGISTRY.get_sample_value("pushway_gaps_total") == gaps + 1


def test_a_transient_message_has_no_seq() -> None:
    """It is delivered as it comes."""
    hearers = Hearers(alice=1).started()
    hearers.receive(build_line("user:alice", None, None, None, frame("alice", None)))
    assert hearers.outlets["alice"][0].frames == [wire("alice", None)]


def test_a_message_passes_a_session_by() -> None:
    """All others get it; to that one it counts as seen, so that what follows shows no gap, and as nothing written."""
    hearers = Hearers(alice=2, bob=1).started()
    phone, desk = hearers.outlets["alice"]
    phone.names = ("session:1", "device:alice,phone")
    transient = build_line("user:alice", None, None, None, frame("alice", None), exclude="session:1")
    hearers.receive(
        line("alice", 0, 1, exclude="device:alice,phone"),
        line("bob", 0, 1, exclude="device:alice,phone"),
        line("alice", 1, 2),
        transient,
        line("alice", 2, 3, exclude="device:alice,pad"),
        line("alice", 3, 4, exclude="session:1"),
    )
    assert phone.writes == [[wire("alice", 2), wire("alice", 3)]]
    assert desk.writes == [[wire("alice", 1), wire("alice", 2), wire("alice", None), wire("alice", 3), wire("alice", 4)]]
    assert hearers.outlets["bob"][0].frames == [wire("bob", 1)]
    assert [position.at for position in hearers.positions["alice"]] == [4, 4]
    assert hearers.behind == []


def test_a_message_for_others_shows_a_gap() -> None:
    """What was missed before it did not pass the session by."""
    hearers = Hearers(alice=1).started()
    hearers.outlets["alice"][0].names = ("session:1",)
    hearers.receive(line("alice", 4, 5, exclude="session:1"), line("alice", 4, 5, exclude="session:1"))
    assert hearers.behind == hearers.positions["alice"]
    assert (hearers.outlets["alice"][0].writes, hearers.positions["alice"][0].goal) == ([], 5)


def test_who_registers_too_long_is_ended_by_what_is_for_others_too() -> None:
    """It is held like the rest, since whom it passes by is asked when it is due."""
    hearers = Hearers(alice=1)
    hearers.receive(*(line("alice", seq - 1, seq, exclude="session:1") for seq in range(1, 200)))
    assert hearers.outlets["alice"][0].ended > 0


def test_an_expired_message_shows_a_gap() -> None:
    """What was missed before it is owed still, and nothing may come behind it for long."""
    hearers = Hearers(alice=1).started()
    (position,) = hearers.positions["alice"]
    hearers.receive(line("alice", 0, 1, expires_ms=1), build_line("user:alice", None, None, 1, frame("alice", None)))
    assert hearers.behind == []
    hearers.receive(line("alice", 2, 3, expires_ms=1), line("alice", 4, 5, expires_ms=1))
    assert hearers.behind == [position]
    assert (position.at, position.goal) == (1, 5)
    assert hearers.outlets["alice"][0].frames == []


def test_an_expired_message_shows_a_gap_to_who_registers() -> None:
    """The head that it starts from may be older."""
    hearers = Hearers(alice=1)
    (position,) = hearers.positions["alice"]
    hearers.receive(line("alice", 2, 3, expires_ms=1))
    position.start(1)
    assert (position.at, position.goal) == (1, 3)


def test_expired_messages_are_dropped() -> None:
    """By `exp` of the opts; another option is passed over."""
    now_ms = int(time.time() * 1000)
    hearers = Hearers(alice=1).started()
    hearers.receive(
        line("alice", 0, 1, expires_ms=now_ms - 1),
        line("alice", 1, 2, expires_ms=now_ms + 60_000),
        f"user:alice 2 3 not=1 {frame('alice', 3)}",
    )
    assert hearers.outlets["alice"][0].frames == [wire("alice", 2), wire("alice", 3)]


@pytest.mark.parametrize(
    "strange", ["", "x", "user:alice", "user:alice 0 1 -", "user:alice a b - {}", "user:alice 0 1 exp=x {}"]
)
def test_a_strange_line_does_not_stop_those_around_it(strange: str) -> None:
    """It is logged and left out."""
    hearers = Hearers(alice=1).started()
    hearers.receive(f"{line('alice', 0, 1)}\n{strange}\n{line('alice', 1, 2)}")
    assert hearers.outlets["alice"][0].frames == [wire("alice", 1), wire("alice", 2)]


def test_lines_for_nobody_are_passed_over() -> None:
    """A user who has just left, and the edge's own probe."""
    hearers = Hearers(alice=1).started()
    hearers.receive("probe - - - 7", line("bob", 0, 1))
    assert hearers.outlets["alice"][0].writes == []


def test_who_registers_too_long_is_ended_after_the_chunk() -> None:
    """Not while the audience is being walked."""
    hearers = Hearers(alice=2)
    hearers.positions["alice"][0].start(0)
    hearers.receive(*(line("alice", seq - 1, seq) for seq in range(1, 200)))
    live, registering = hearers.outlets["alice"]
    assert len(live.frames) == 199
    assert registering.ended > 0
    assert registering.writes == []


def published(whose: list[str]) -> list[str]:
    """Return a line for each, numbered per user; "again" repeats the line before."""
    seqs, lines = {"alice": 0, "bob": 0}, list[str]()
    for user in whose:
        if user in seqs:
            seqs[user] += 1
            lines.append(line(user, seqs[user] - 1, seqs[user]))
        else:
            lines += lines[-1:]
    return lines


@given(
    st.lists(st.sampled_from(["alice", "bob", "again"]), max_size=40),
    st.lists(st.integers(0, 40), max_size=8),
    st.integers(1, 4),
    st.integers(0, 40),
    st.integers(0, 10),
)
def test_every_session_gets_its_own_in_order_and_once(
    whose: list[str], cuts: list[int], lines_a_payload: int, starts_at: int, head: int
) -> None:
    """Whatever is repeated, however the lines are cut into payloads and chunks, whenever a session starts."""
    hearers, lines = Hearers(alice=2, bob=1), published(whose)
    late, others = hearers.positions["alice"][0], [hearers.positions["alice"][1], hearers.positions["bob"][0]]
    for position in others:
        position.start(0)
    released: list[bytes] = []
    edges = sorted({0, *(cut for cut in cuts if cut < len(lines)), starts_at, len(lines)})
    for begin, end in pairwise(edges):
        if begin == starts_at:
            released = late.start(head)
        chunk = lines[begin:end]
        hearers.receive(*("\n".join(chunk[n : n + lines_a_payload]) for n in range(0, len(chunk), lines_a_payload)))
    count = {user: len({text for text in lines if text.startswith(f"user:{user} ")}) for user in ("alice", "bob")}
    one, two = hearers.outlets["alice"]
    assert two.frames == [wire("alice", seq) for seq in range(1, count["alice"] + 1)]
    assert hearers.outlets["bob"][0].frames == [wire("bob", seq) for seq in range(1, count["bob"] + 1)]
    if late.started:
        assert released + one.frames == [wire("alice", seq) for seq in range(head + 1, count["alice"] + 1)]


# -- the fast lane ---------------------------------------------------------------------------------------------------


def _refused() -> float:
    return REGISTRY.get_sample_value("pushway_refused_total") or 0.0


def fast_line(user: str, content: bytes, opts: str = "exp=9999999999999;fast=1") -> bytes:
    """Return a line as dispatch.lua makes it of an entry."""
    head = f'user:{user} - - {opts} {{"type":"message","to":"user:{user}","id":"0-1-0","ts":0,"body":'
    return head.encode() + content + b"}"


def test_hostile_frames_reach_nobody() -> None:
    """What is no JSON by itself, or not UTF-8, is counted; its neighbours, of the same payload and user, are delivered."""
    hearers = Hearers(alice=2).started()
    contents = [b"1", b'"\xff"', b"2", b'3,"to":"user:bob"', b"", b"4", b"[" * 9_999]
    before = _refused()
    hearers.delivery.receive([b"\n".join(fast_line("alice", content) for content in contents)])
    good = [text_frame(fast_line("alice", content).split(b" ", 4)[4]) for content in (b"1", b"2", b"4")]
    assert all(outlet.writes == [good] for outlet in hearers.outlets["alice"])
    assert _refused() - before == 4


def test_a_fast_frame_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sessions get it, traced or not; one that nobody gets, or that is too late, is not looked at."""
    looked: list[bytes] = []
    monkeypatch.setattr("edge.delivery.fault_of", looked.append)
    hearers = Hearers(alice=5).started()
    hearers.delivery.receive([fast_line("alice", b"1")])
    assert len(looked) == 1
    assert all(len(outlet.frames) == 1 for outlet in hearers.outlets["alice"])
    hearers.delivery.receive([fast_line("nobody", b"1"), fast_line("alice", b"1", "exp=1;fast=1")])
    hearers.receive(line("alice", 0, 1, expires_ms=9_999_999_999_999), line("alice", 1, 2))
    assert len(looked) == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"topic":7}',
        b'{"topic":"\xff"}',
        b'{"topic":"\\ud800"}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=["nothing", "null", "a list", "cut", "a number", "no utf-8", "half a pair", "deep"],
)
def test_a_notice_of_nonsense_costs_nobody_anything(payload: bytes) -> None:
    """What was published with it is delivered, and so is what comes behind: the subscription stands."""
    heard: list[Told] = []
    outlet = KeptOutlet()
    position = Position(outlet, "user:x", HELD_MAX_BYTES)
    position.start(0)

    def hear(text: bytes) -> None:
        heard.append(msgspec.json.decode(text, type=Told))

    delivery = Delivery({b"user:a": [position]}, lambda _: None, notices={b"members": hear})
    good = b'members - - - {"topic":"t","node":"n"}'
    delivery.receive([line("a", 0, 1).encode(), b"members - - - " + payload, good, line("a", 1, 2).encode()])
    assert outlet.frames == [wire("a", 1), wire("a", 2)]
    assert heard == [Told("t", "n")]
