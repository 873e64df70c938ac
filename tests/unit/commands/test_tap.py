"""router.commands.tap and tapping: which node, whether it may be listened to, which lines, how they look."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime

import pytest

from router.commands import tap
from router.commands.tap import Filter, Printer, in_json, in_words
from router.commands.tapping import Line, Look, NotTapped, choose, read_line, read_lines, why_not
from router.directory import Node
from tests.servers import wait_until

AT = datetime(2026, 11, 22, 17, 14, 30, 698_000, UTC)
LINE = read_line(b'user:a 1 2 exp=9 {"type":"message","text":"a b"}')


def _node(node_id: str, *, alive: bool = True) -> Node:
    given = {"left_ms": 1_000 if alive else -1, "address": "", "version": "", "state": "live", "sessions": 0, "age_s": 1.0}
    fields = {name: given.get(name, 0) for name in Node.__dataclass_fields__}
    return Node(**fields | {"id": node_id, "alive": alive})  # type: ignore[arg-type]


NODES = [_node("edge-1.aa"), _node("edge-1.bb", alive=False), _node("edge-2.cc"), _node("other.dd", alive=False)]


@pytest.mark.parametrize(("wanted", "found"), [("edge-1", "edge-1.aa"), ("edge-2.cc", "edge-2.cc")])
def test_node_is_named_by_name_or_id(wanted: str, found: str) -> None:
    """A dead one of the same name does not stand in the way."""
    assert choose(NODES, wanted) == found


@pytest.mark.parametrize(
    ("wanted", "said"), [(None, "say which node"), ("edge-9", "no node edge-9"), ("edge", "no node edge"), ("other", "is dead")]
)
def test_nodes_are_listed_where_none_is_meant(wanted: str | None, said: str) -> None:
    """The error is also the list to choose from."""
    with pytest.raises(NotTapped, match=said) as info:
        choose(NODES, wanted)
    assert "edge-1.aa, edge-1.bb (dead), edge-2.cc, other.dd (dead)" in str(info.value)


def test_only_living_node_needs_no_name() -> None:
    """The dead are not counted; two of one name are not told apart by it; without any there is nothing to list."""
    assert choose(NODES[:2], None) == "edge-1.aa"
    with pytest.raises(NotTapped, match="2 nodes are called edge"):
        choose([_node("edge.a"), _node("edge.b")], "edge")
    with pytest.raises(NotTapped, match="is an edge running"):
        choose([], None)


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([Look(1, 1, 0)], None),
        ([Look(1, 3, 2)], None),
        ([Look(0, 1, 0)], "has lapsed"),
        ([Look(1, 0, 0)], "not subscribed"),
        ([Look(1, 2, 2)], "not subscribed"),
        ([Look(1, 2, 1), Look(1, 1, 1)], "not subscribed"),
        ([Look(9, 2, 1), Look(-1, 2, 1)], "has lapsed"),
    ],
)
def test_tap_listens_only_where_the_edge_does(looks: list[Look], said: str | None) -> None:
    """Both witnesses of its life in every shard, and taps do not count as one."""
    why = why_not("edge-1.aa", looks)
    assert (why is None) if said is None else (why is not None and said in why)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (b"user:a - - - {}", Line("user:a", "-", "-", "-", b"{}")),
        (b"probe - - - 7", Line("probe", "-", "-", "-", b"7")),
        (b"garbled \xff", Line("garbled \\xff", "", "", "", b"")),
    ],
)
def test_line_is_read_whatever_it_is(line: bytes, read: Line) -> None:
    """Anybody may publish anything."""
    assert read_line(line) == read


def test_filter_takes_what_is_wanted() -> None:
    """A target, probes where they are asked for, and no more than a number of them."""
    probe, other = read_line(b"probe - - - 1"), read_line(b"user:b - - - {}")
    lines = Filter("user:a", False, 2)
    assert [lines.take(line) for line in (probe, other, LINE, LINE, LINE)] == [False, False, True, True, False]
    assert lines.over
    everything = Filter(None, True, None)
    assert all(everything.take(line) for line in (probe, other, LINE))
    assert not everything.over


def test_line_for_people_fits_the_terminal() -> None:
    """The frame is cut, and cannot steer the terminal."""
    whole = in_words(LINE, AT, None)
    assert whole.endswith('  user:a  2  31 B  {"type":"message","text":"a b"}')
    cut = in_words(LINE, AT, 60)
    assert len(cut) == 60
    assert cut.endswith("…")
    assert "\x1b" not in in_words(read_line(b"user:\x1b[2J - - - \x1b[2J"), AT, 10)


def test_line_for_machines_holds_the_frame() -> None:
    """As an object, or as a text where it is none."""
    told = json.loads(in_json(LINE, AT))
    assert (told["target"], told["seq"], told["bytes"], told["at"]) == ("user:a", "2", 31, "2026-11-22T17:14:30.698000Z")
    assert told["frame"] == {"type": "message", "text": "a b"}
    assert json.loads(in_json(read_line(b"user:a - - - {\xff"), AT))["frame"] == "{\\xff"


def test_output_that_is_stuck_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes meanwhile waits, up to a bound, and is counted beyond; it is printed when it can be."""
    stuck, printed = threading.Event(), list[bytes]()

    def write(_descriptor: int, data: bytes) -> int:
        stuck.wait(20)
        printed.append(data)
        return len(data)

    monkeypatch.setattr(tap, "_WAITING_MAX", 3)
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(tap.sys.stdout, "fileno", lambda: 1, raising=False)  # type: ignore[attr-defined]
    printer = Printer(lambda: None)
    printer.put("0")
    wait_until(printer._lines.empty, "the first is being printed")
    for number in range(1, 6):
        printer.put(str(number))
    assert printer.skipped == 2
    stuck.set()
    printer.close()
    assert printed == [b"0\n", b"1\n", b"2\n", b"3\n"]


def test_reader_that_has_gone_is_told() -> None:
    """As `head` goes, having had enough."""
    gone = threading.Event()
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tap.sys, "stdout", out)  # type: ignore[attr-defined]
        printer = Printer(gone.set)
        printer.put("nobody reads this")
        assert gone.wait(20)
        printer.close()


def test_line_of_many_is_as_many_lines() -> None:
    """A message each, as if it had come alone; what is no such line is shown as it is."""
    many = b'many - - exp=9 user:a,1,2,user:b,-,- "id":"m","ts":7,"text":"hi"}'
    assert [(line.target, line.prev, line.seq, line.opts, line.frame) for line in read_lines(many)] == [
        ("user:a", "1", "2", "exp=9", b'{"type":"message","to":"user:a","seq":2,"id":"m","ts":7,"text":"hi"}'),
        ("user:b", "-", "-", "exp=9", b'{"type":"message","to":"user:b","id":"m","ts":7,"text":"hi"}'),
    ]
    for text in (b"user:a 1 2 - {}", b"many - - - user:a {}", b"many - - - {}"):
        assert list(read_lines(text)) == [read_line(text)]
