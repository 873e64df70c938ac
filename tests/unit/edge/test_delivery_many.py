"""edge.delivery: a line that stands for the lines of many users."""

from __future__ import annotations

import time

import pytest

from edge import delivery as module
from edge.figures import write_out
from edge.position import Outlet
from router.lines import build_line, build_many, build_opts, build_place
from router.stored import make_body
from tests.unit.edge.test_delivery import Hearers, line, wire

BODY = make_body("m1", 0, '"text":"a b"')


def _many(*places: str, expires_ms: int | None = None, exclude: str = "") -> str:
    return build_many(places, build_opts(expires_ms, exclude=exclude), BODY.rest)


def test_each_user_here_gets_a_frame_of_their_own() -> None:
    """With their own target and seq, among the other lines of a chunk; who is elsewhere is passed over."""
    hearers = Hearers(alice=2, bob=1, carol=1).started()
    many = _many(build_place("user:alice", 0, 1), build_place("user:zoe", 0, 1), build_place("user:bob", 0, 1))
    hearers.receive(f"{line('carol', 0, 1)}\n{many}\n{line('alice', 1, 2)}")
    for outlet in hearers.outlets["alice"]:
        assert outlet.writes == [[wire("alice", 1), wire("alice", 2)]]
    assert hearers.outlets["bob"][0].frames == [wire("bob", 1)]
    assert hearers.outlets["carol"][0].frames == [wire("carol", 1)]


def test_each_place_is_judged_by_the_position() -> None:
    """What a user has is dropped, and what shows a gap has it caught up; the others get theirs."""
    hearers = Hearers(alice=1, bob=1, carol=1).started()
    hearers.receive(line("alice", 0, 1))
    hearers.receive(_many(build_place("user:alice", 0, 1), build_place("user:bob", 7, 8), build_place("user:carol", 0, 1)))
    assert hearers.outlets["alice"][0].frames == [wire("alice", 1)]
    assert hearers.behind == hearers.positions["bob"]
    assert hearers.outlets["carol"][0].frames == [wire("carol", 1)]


def test_transient_frames_have_no_seq() -> None:
    """As one by one."""
    hearers = Hearers(alice=1).started()
    hearers.receive(_many(build_place("user:alice", None, None)))
    alone = Hearers(alice=1).started()
    alone.receive(build_line("user:alice", None, None, None, BODY.frame("user:alice", None)))
    assert hearers.outlets["alice"][0].frames == alone.outlets["alice"][0].frames
    assert b'"seq"' not in hearers.outlets["alice"][0].frames[0]


def test_what_is_over_is_passed_over() -> None:
    """For all of them, and the next message follows it."""
    hearers = Hearers(alice=1, bob=1).started()
    places = [build_place(f"user:{user}", 0, 1) for user in ("alice", "bob")]
    hearers.receive(_many(*places, expires_ms=int(time.time() * 1000) - 1))
    hearers.receive(line("alice", 1, 2), line("bob", 1, 2))
    assert [hearers.outlets[user][0].frames for user in ("alice", "bob")] == [[wire("alice", 2)], [wire("bob", 2)]]


def test_long_frames_are_written_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a line of 64 KiB is never 64 MiB at once; nobody gets one twice."""
    monkeypatch.setattr(module, "_MANY_MAX_BYTES", 2 * len(BODY.rest))
    users = [f"u{number}" for number in range(10)]
    hearers = Hearers(**dict.fromkeys(users, 1)).started()
    written: list[int] = []

    def note(dirty: list[Outlet]) -> None:
        written.append(len(dirty))
        write_out(dirty)

    monkeypatch.setattr(module, "write_out", note)
    hearers.receive(_many(*(build_place(f"user:{user}", 0, 1) for user in users)))
    assert (max(written), sum(written)) == (2, 10)
    assert [hearers.outlets[user][0].frames for user in users] == [[wire(user, 1)] for user in users]


def test_a_line_that_is_none_harms_nothing_around_it() -> None:
    """It is left out."""
    hearers = Hearers(alice=1).started()
    hearers.receive(f'many - - - user:alice,0 "id"\nmany - - - nothing\n{line("alice", 0, 1)}')
    assert hearers.outlets["alice"][0].frames == [wire("alice", 1)]
