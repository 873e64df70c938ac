"""router.lines: the payload line and the frame in it."""

from __future__ import annotations

import json

import pytest

from router.lines import (
    Opts,
    build_frame,
    build_line,
    build_many,
    build_opts,
    build_place,
    build_rest,
    read_opts,
    split_many,
)


def test_durable_frame() -> None:
    """Type, target, seq, id and ts, then the content as given."""
    frame = build_frame("user:alice", 9_007_199_254_000_001, "m-1", 1732262400999, '"body":{"a":1}')
    assert json.loads(frame) == {
        "type": "message",
        "to": "user:alice",
        "seq": 9_007_199_254_000_001,
        "id": "m-1",
        "ts": 1732262400999,
        "body": {"a": 1},
    }


def test_transient_frame_has_no_seq() -> None:
    """It has no place in an order."""
    assert "seq" not in json.loads(build_frame("all", None, "m", 1, '"text":"hi"'))


@pytest.mark.parametrize(
    ("place", "expires_ms", "line"),
    [
        ((3, 4), None, "user:a 3 4 - {}"),
        ((3, 4), 1732262400999, "user:a 3 4 exp=1732262400999 {}"),
        ((0, 4), 0, "user:a 0 4 exp=0 {}"),
        ((None, None), None, "user:a - - - {}"),
        ((None, None), 7, "user:a - - exp=7 {}"),
    ],
)
def test_line(place: tuple[int | None, int | None], expires_ms: int | None, line: str) -> None:
    """Five parts with one space between them; what is missing is a hyphen."""
    assert build_line("user:a", *place, expires_ms, "{}") == line


@pytest.mark.parametrize("exclude", ["session:9c1b", "device:alice,phone", "device:a;trace=1,exp=5%3D", "device:müller,%"])
@pytest.mark.parametrize("expires_ms", [None, 7])
@pytest.mark.parametrize("trace", [False, True])
def test_opts_come_back_the_same(exclude: str, expires_ms: int | None, *, trace: bool) -> None:
    """Whatever stands in the ids of whom a message passes by, it is taken for nothing else."""
    opts = build_opts(expires_ms, trace=trace, exclude=exclude)
    assert read_opts(opts.encode()) == Opts(expires_ms, trace, exclude=exclude)
    assert " " not in opts


@pytest.mark.parametrize(
    ("opts", "expiry"), [(b"-", None), (b"exp=5", 5), (b"new=1;exp=5", 5), (b"exp=5;new", 5), (b"expo=5", None), (b"", None)]
)
def test_expiry_of_opts(opts: bytes, expiry: int | None) -> None:
    """`exp` is found among keys that are not known."""
    assert read_opts(opts).expires_ms == expiry


@pytest.mark.parametrize(("expires_ms", "opts"), [(None, "trace=1"), (7, "exp=7;trace=1")])
def test_traced_line(expires_ms: int | None, opts: str) -> None:
    """Its opts say so, behind the expiry where it has one; both are found again."""
    line = build_line("user:a", 3, 4, expires_ms, "{}", trace=True)
    assert line == f"user:a 3 4 {opts} {{}}"
    assert read_opts(opts.encode()) == Opts(expires_ms, traced=True)


@pytest.mark.parametrize("opts", [b"-", b"exp=5", b"trace=0", b"xtrace=1", b"trace=11"])
def test_untraced_opts(opts: bytes) -> None:
    """Only the option itself asks for a trace."""
    assert not read_opts(opts).traced


@pytest.mark.parametrize(
    ("opts", "fast"),
    [
        (b"exp=5;fast=1", True),
        (b"exp=5;fast=1;trace=1", True),
        (b"fast=1", True),
        (b"-", False),
        (b"exp=5", False),
        (b"fast=0", False),
        (b"xfast=1;fast=11", False),
    ],
)
def test_mark_of_the_fast_lane(opts: bytes, fast: bool) -> None:
    """It is found among other keys."""
    assert read_opts(opts).fast == fast


@pytest.mark.parametrize(("opts", "over"), [(b"-", False), (b"exp=99", True), (b"exp=100", True), (b"exp=101;fast=1", False)])
def test_time_is_over_from_its_ms_on(opts: bytes, over: bool) -> None:
    """And never where there is none."""
    assert read_opts(opts).is_over(100) == over


def test_many_stands_for_the_lines_of_each() -> None:
    """With the frames and opts that they would have had; who splits it needs know no more than that."""
    opts, rest = build_opts(5, exclude="device:a,b"), build_rest("m", 7, '"text":"a, b"')
    places: list[tuple[str, int | None, int | None]] = [("user:a", 0, 1), ("user:b", None, None)]
    word, *_, given, payload = build_many([build_place(*place) for place in places], opts, rest).encode().split(b" ", 4)
    assert word == b"many"
    assert [line.decode() for line in split_many(given, payload)] == [
        build_line(target, prev, seq, 5, build_frame(target, seq, "m", 7, '"text":"a, b"'), exclude="device:a,b")
        for target, prev, seq in places
    ]


@pytest.mark.parametrize("payload", [b"", b"user:a,1,2", b"user:a,1 {}", b"user:a,1,2,user:b {}"])
def test_what_is_not_many_is_refused(payload: bytes) -> None:
    """At once, before any line is made."""
    with pytest.raises(ValueError, match=r"many|unpack"):
        split_many(b"-", payload)
