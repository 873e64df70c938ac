"""router.api.append.reading: from JSON to what is appended."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.api.append import reading
from router.api.append.reading import Posted, read_items, read_key, read_posted
from router.collect.entries import Entry, read_message
from router.errors import RuleBroken
from router.http.problems import Problem
from router.settings import Settings

SETTINGS = Settings(targets_max=3, body_max_bytes=100)
NOW_MS = 1_795_360_470_695


def _read(item: object, key: str | None = None) -> Posted:
    raw = item if isinstance(item, bytes) else json.dumps(item).encode()
    return read_posted(raw, key, "made", SETTINGS)


def _fields(item: object) -> dict[bytes, bytes]:
    return dict(_read(item).fields)


def _broken(item: object, **more: str) -> RuleBroken:
    with pytest.raises(RuleBroken) as caught:
        _read(item, **more)
    return caught.value


def test_all_fields() -> None:
    """Each becomes the producer's field of that name."""
    item = {
        "to": "user:a", "body": {"a": 1}, "id": "m", "ttl": 60, "transient": False, "trace": True, "traceparent": "00-ab",
        "x-t": "1", "exclude": "session:3f", "collapse": "k", "at": 1_700_000_000_000,
    }  # fmt: skip
    posted = _read(item)
    assert dict(posted.fields) == {
        b"to": b"user:a", b"body": b'{"a": 1}', b"id": b"m", b"ttl": b"60", b"transient": b"0", b"trace": b"1",
        b"traceparent": b"00-ab", b"x-t": b"1", b"exclude": b"session:3f", b"collapse": b"k", b"at": b"1700000000000",
    }  # fmt: skip
    assert (posted.named, posted.id, posted.content) == (True, "m", '"body":{"a":1}')


@pytest.mark.parametrize("body", [b"null", b'" \\u0041"', b"1.50", b'{ "b" : 1,\n"a":2}', b"[1e300]", '"é"'.encode()])
def test_body_stays_the_bytes_that_came(body: bytes) -> None:
    """Nothing is decoded and encoded again."""
    assert _fields(b'{"to":"all","body":' + body + b"}")[b"body"] == body


def test_message_is_read_as_long_as_it_can_be() -> None:
    """Every field as long as the rules allow, each character escaped."""
    wide, name = "\N{WAVING HAND SIGN}", "x" * 1_020
    item = {
        "to": [f"topic:{n}{wide * 127}" for n in range(3)], "text": "\x01" * 100, "id": wide * 128,
        "traceparent": wide * 1_024, "exclude": f"device:{wide * 128},{wide * 128}", "collapse": wide * 128,
        **{f"x-{name}{n:02}": wide * 1_024 for n in range(15)},
    }  # fmt: skip
    assert _read(item).targets == tuple(item["to"])


def test_message_that_is_longer_than_any_can_be_is_not_read() -> None:
    """Members that nobody knows would be decoded one by one otherwise, however many."""
    members = b",".join(b'"%x":1' % number for number in range(200_000))
    assert _broken(b'{"to":"user:a","text":"hi",' + members + b"}").field == "message"


@pytest.mark.parametrize("to", [["user:a"] * 200_000, ",".join(["user:a"] * 200_000), ["user:a"] * 4, {"a": [1, 2, 3, 4]}])
def test_more_targets_than_there_may_be(to: object) -> None:
    """They are counted before any of them is looked at."""
    assert _broken({"to": to, "text": "hi"}).field == "to"


def test_whether_it_waits() -> None:
    """What is past, by this machine's clock, does not."""
    for at_ms, later in ((time.time_ns() // 1_000_000 + 60_000, True), (1_700_000_000_000, False)):
        assert _read({"to": "all", "text": "", "at": at_ms}).later is later


def test_text_is_what_the_string_says() -> None:
    """Escapes are undone: a stream has no need of them."""
    assert _fields(b'{"to":"all","text":"a\\n\\u00e9"}')[b"text"] == "a\né".encode()


@pytest.mark.parametrize(
    ("to", "field"),
    [("user:a,all", b"user:a,all"), (["user:a", "all"], b"user:a,all"), (["user:a"], b"user:a")],
)
def test_targets(to: object, field: bytes) -> None:
    """A string, or an array with one a string."""
    assert _fields({"to": to, "text": ""})[b"to"] == field


@pytest.mark.parametrize("ttl", [b"60", b"60.0", b"60.000"])
def test_whole_number(ttl: bytes) -> None:
    """60.0 is the same number to JSON."""
    assert _fields(b'{"to":"all","text":"","ttl":' + ttl + b"}")[b"ttl"] == b"60"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": 5}, "to"),
        ({"to": None}, "to"),
        ({"to": []}, "to"),
        ({"to": ["user:a", 5]}, "to"),
        ({"to": ["user:a,user:b"]}, "to"),
        ({"to": ["user:a", ""]}, "to"),
        ({"to": "alice"}, "to"),
        ({"to": "all,user:a,user:b,user:c"}, "to"),
        ({"text": 5}, "text"),
        ({"text": "x" * 101}, "text"),
        ({"body": 1}, "body"),
        ({"id": 5}, "id"),
        ({"id": ""}, "id"),
        ({"id": "a b"}, "id"),
        ({"ttl": "60"}, "ttl"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": 1.5}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": 10**30}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"ttl": None}, "ttl"),
        ({"at": "5"}, "at"),
        ({"at": -5}, "at"),
        ({"at": 1_795_360_470}, "at"),
        ({"at": 2**50 - 1}, "at"),
        ({"at": 5, "transient": True}, "at"),
        ({"collapse": 5}, "collapse"),
        ({"collapse": "a b"}, "collapse"),
        ({"exclude": "phone"}, "exclude"),
        ({"exclude": ["session:a"]}, "exclude"),
        ({"transient": 1}, "transient"),
        ({"transient": "1"}, "transient"),
        ({"trace": None}, "trace"),
        ({"x-tenant": 5}, "x-tenant"),
        ({"x-": "a\n"}, "x-"),
        ({"tll": 60}, "tll"),
        ({"": 60}, ""),
    ],
)
def test_broken_rule(change: dict[str, Any], field: str) -> None:
    """It is told at once, and names the field."""
    assert _broken({"to": "user:a", "text": "hi"} | change).field == field


@pytest.mark.parametrize(
    "item", [b"5", b'"user:a"', b"null", b"[]", b'{"\xff":1}', b'{"to":"user:\xff","text":""}', b'{"x":"\\ud800"}']
)
def test_item_that_is_no_object(item: bytes) -> None:
    """It breaks a rule like any other, and no neighbour suffers."""
    assert _broken(item).field in {"message", "to"}


def test_text_or_body_is_needed() -> None:
    """Exactly one of them."""
    assert _broken({"to": "user:a"}).field == "body"


def test_deep_body() -> None:
    """It is refused, not fatal."""
    deep = b'{"to":"all","body":' + b"[" * 40 + b"]" * 40 + b"}"
    assert _fields(deep)[b"body"].startswith(b"[[")


def test_id_that_nobody_gives() -> None:
    """One is made, and need not be looked up."""
    posted = _read({"to": "all", "text": ""})
    assert (posted.id, posted.named) == ("made", False)
    assert dict(posted.fields)[b"id"] == b"made"


def test_key_gives_the_id() -> None:
    """To an item that has none; one that says the same is as well."""
    for item in ({"to": "all", "text": ""}, {"to": "all", "text": "", "id": "key"}):
        posted = _read(item, key="key")
        assert (posted.id, posted.named) == ("key", True)


def test_key_against_an_id() -> None:
    """Which of the two is meant cannot be known."""
    assert "Idempotency-Key" in _broken({"to": "all", "text": "", "id": "m"}, key="key").rule


def test_key_with_a_place_that_is_too_long_for_an_id() -> None:
    """The rule for ids holds for what is made of it."""
    assert _broken({"to": "all", "text": ""}, key="k" * 125 + "-100").field == "id"


@pytest.mark.parametrize(("header", "key"), [("k-1", "k-1"), ('"k-1"', "k-1"), (" k-1 ", "k-1"), (None, None), ("Ã©", "é")])
def test_key(header: str | None, key: str | None) -> None:
    """With the quotes of a structured header or without; its bytes are UTF-8."""
    assert read_key(header) == key


@pytest.mark.parametrize("header", ["", '""', "a b", '"', "k" * 129, "\xff\x00"])
def test_key_that_is_no_id(header: str) -> None:
    """It names the header."""
    with pytest.raises(RuleBroken, match=r"^Idempotency-Key: "):
        read_key(header)


def test_one_or_many() -> None:
    """White space before an array makes no difference."""
    assert read_items(b' {"a":1} ', 2)[1] is False
    items, many = read_items(b"\r\n\t [1, {}]", 2)
    assert ([bytes(item) for item in items], many) == ([b"1", b"{}"], True)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1, column 1, byte 0"),
        (b"{", "line 1, column 2, byte 1"),
        (b'[\n {"to":"all"}\n {"to"', "line 3, column 2, byte 17"),
        (b'{"a":1}x', "line 1, column 9, byte 8"),
        (b"\xef\xbb\xbf{}", "line 1, column 1, byte 0"),
        (b"[1,", "line 1, column 4, byte 3"),
    ],
)
def test_not_json(body: bytes, where: str) -> None:
    """400 says where."""
    with pytest.raises(Problem, match=where) as caught:
        read_items(body, 9)
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    ("body", "status"), [(b"[]", 400), (b"[1,2,3]", 413), (b"[" * 100_000, 400), (b'{"a":' * 100_000, 400)]
)
def test_request_that_is_refused(body: bytes, status: int) -> None:
    """Nothing, too much, or too deep."""
    with pytest.raises(Problem) as caught:
        read_items(body, 2)
    assert caught.value.status_code == status


@pytest.mark.parametrize("item", [b"0", b"{}", b'""', b'"],\\""', b'[1,{"a":2}]'])
def test_too_many_are_refused_undecoded(item: bytes) -> None:
    """Of so many that they can be no messages, not one becomes an object: that the array has no end is not seen."""
    with pytest.raises(Problem) as caught:
        read_items(b"[" + (item + b",") * 3, 2)
    assert caught.value.status_code == 413


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_names = st.sampled_from(
    ["to", "body", "text", "id", "ttl", "transient", "trace", "traceparent", "x-a", "other", "exclude", "collapse", "at"]
)
_values = _json | st.sampled_from(["user:a", "all", ["topic:b", "all"], 60, True, "m-1", "session:3f"])


@given(st.lists(_json, min_size=1))
def test_commas_within_items_do_not_count(items: list[object]) -> None:
    """As many as are allowed are taken, whatever they look like."""
    assert len(read_items(json.dumps(items).encode(), len(items))[0]) == len(items)


_plain = st.fixed_dictionaries(
    {"to": st.sampled_from(["user:a", "user:a,all", ["topic:b", "all"], "alice", []]) | _values},
    optional={
        "body": _json,
        "text": st.text() | _values,
        "id": st.text() | _values,
        "ttl": st.integers() | _values,
        "transient": _values,
    },
)
_items = st.dictionaries(_names, _values, max_size=5) | _plain | _json


@given(_items)
def test_what_passes_is_no_dead_letter(item: object) -> None:
    """Any JSON is either refused by a rule, or becomes an entry that collect reads as the same message."""
    try:
        posted = _read(item)
    except RuleBroken:
        return
    message = read_message(Entry.of(f"{NOW_MS}-0", posted.fields), 0, NOW_MS, SETTINGS)
    assert (message.targets, message.id, message.transient, message.content) == (
        posted.targets, posted.id, posted.transient, posted.content
    )  # fmt: skip


@given(_items, st.none() | st.sampled_from(["m-1", "a b"]))
def test_plain_messages_are_read_as_all_others_are(item: object, key: str | None) -> None:
    """The short way through comes to what the long one does, or leaves it to that."""
    raw = json.dumps(item).encode()
    if (plainly := reading._read_plainly(raw, key, "made", SETTINGS)) is None:
        return
    exactly = reading._read_exactly(raw, key, "made", SETTINGS)
    assert (plainly.targets, plainly.id, plainly.transient, plainly.named, plainly.content) == (
        exactly.targets, exactly.id, exactly.transient, exactly.named, exactly.content
    )  # fmt: skip
    assert dict(plainly.fields).get(b"ttl") == dict(exactly.fields).get(b"ttl")


@pytest.mark.parametrize(
    "item",
    [{"to": "user:a", "body": {"a": [1, "b"]}}, {"to": ["user:a", "all"], "text": "", "id": "m", "ttl": 60, "transient": True}],
)
def test_what_most_requests_say_is_plain(item: object) -> None:
    """The short way takes it: where it takes nothing, nobody else would notice."""
    assert reading._read_plainly(json.dumps(item).encode(), None, "made", SETTINGS) is not None
