"""router.collect.joined: who shares a line, and in which order lines stand."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from router.collect.joined import Lines
from router.lines import PLACES_MAX, build_line
from router.stored import Body, make_body
from tests.collecting import ordinary

BODY = make_body("m", 7, '"text":"hi"')
OTHER = make_body("n", 8, '"text":"ho"')


def _users(count: int, body: Body = BODY, most_bytes: int = 1_000_000) -> list[str]:
    lines = Lines(most_bytes)
    for number in range(count):
        lines.add(f"user:{number}", (number, number + 1), None, body)
    return lines.build()


def test_users_of_a_body_share_a_line() -> None:
    """It stands for the lines that they would have had."""
    (line,) = _users(2)
    assert line == 'many - - - user:0,0,1,user:1,1,2 "id":"m","ts":7,"text":"hi"}'
    assert ordinary(line) == [build_line(f"user:{n}", n, n + 1, None, BODY.frame(f"user:{n}", n + 1)) for n in range(2)]


def test_line_is_bounded() -> None:
    """By places, and by the bytes of all the frames that it stands for; one at least has room."""
    assert [len(ordinary(line)) for line in _users(PLACES_MAX + 1)] == [PLACES_MAX, 1]
    assert [len(ordinary(line)) for line in _users(7, most_bytes=3 * len(BODY.rest))] == [3, 3, 1]
    assert len(_users(3, most_bytes=1)) == 3


def test_topics_and_what_is_traced_stand_alone() -> None:
    """With the frames that they would have had."""
    lines = Lines(1_000)
    for target in ("topic:t", "all"):
        lines.add(target, (1, 2), 9, BODY)
    lines.add("user:a", (1, 2), 9, BODY, trace=True)
    assert lines.build() == [
        f"topic:t 1 2 exp=9 {BODY.frame('topic:t', 2)}",
        f"all 1 2 exp=9 {BODY.frame('all', 2)}",
        f"user:a 1 2 exp=9;trace=1 {BODY.frame('user:a', 2)}",
    ]


def test_only_those_with_the_same_opts_share() -> None:
    """Who passes a session by, or expires, does so for all of a line."""
    lines = Lines(1_000)
    lines.add("user:a", (1, 2), None, BODY)
    lines.add("user:b", (1, 2), 5, BODY)
    lines.add("user:c", (1, 2), None, BODY, exclude="session:s")
    lines.add("user:d", (1, 2), None, BODY)
    assert [line.split(" ")[3:5] for line in lines.build()] == [
        ["-", "user:a,1,2,user:d,1,2"],
        ["exp=5", "user:b,1,2"],
        ["not=session:s", "user:c,1,2"],
    ]


MESSAGES = st.lists(st.tuples(st.sampled_from(["user:a", "user:b", "user:c", "all"]), st.sampled_from([BODY, OTHER, "{}"])))


@given(MESSAGES, st.integers(1, 200), st.integers(0, 20))
def test_targets_keep_the_order_in_which_they_are_added(
    messages: list[tuple[str, Body | str]], most_bytes: int, later: int
) -> None:
    """However lines are shared, and whatever follows them; and none is lost."""
    lines, behind = Lines(most_bytes), Lines(most_bytes)
    expected: dict[str, list[int]] = defaultdict(list)
    for seq, (target, what) in enumerate(messages, start=1):
        (lines if seq <= later else behind).add(target, (seq - 1, seq), None, what)
        expected[target].append(seq)
    lines.follow(behind)
    assert lines.messages == len(messages)
    found: dict[str, list[int]] = defaultdict(list)
    for line in (one for shared in lines.build() for one in ordinary(shared)):
        target, _, text, _ = line.split(" ", 3)
        found[target].append(int(text))
    assert found == expected
