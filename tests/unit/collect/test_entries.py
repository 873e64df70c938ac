"""router.collect.entries: the producer's contract, rule by rule."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.collect.entries import Entry, Message, read_message
from router.errors import RuleBroken
from router.lines import build_frame
from router.settings import Settings

NOW_MS = 1_732_262_400_999
ENTRY_ID = f"{NOW_MS - 500}-7"
SETTINGS = Settings()


def _entry(*fields: tuple[str | bytes, str | bytes], entry_id: str = ENTRY_ID) -> Entry:
    raw = [tuple(part.encode() if isinstance(part, str) else part for part in pair) for pair in fields]
    return Entry.of(entry_id, [(name, value) for name, value in raw])


def _read(*fields: tuple[str | bytes, str | bytes], entry_id: str = ENTRY_ID, settings: Settings = SETTINGS) -> Message:
    return read_message(_entry(*fields, entry_id=entry_id), 0, NOW_MS, settings)


def _message(**fields: str | bytes) -> Message:
    return _read(*({"to": "user:a", "text": "hi"} | fields).items())


def _refused(*fields: tuple[str | bytes, str | bytes], settings: Settings = SETTINGS) -> RuleBroken:
    with pytest.raises(RuleBroken) as caught:
        _read(*fields, settings=settings)
    return caught.value


def _frame(message: Message) -> str:
    return build_frame(message.targets[0], 1, message.id, message.ts_ms, message.content)


def test_plain_message() -> None:
    """Target and text are enough; everything else has its default."""
    message = _message()
    assert message.targets == ("user:a",)
    assert message.content == '"text":"hi"'
    assert message.ts_ms == NOW_MS - 500
    assert (message.expires_ms, message.transient, message.trace, message.carried) == (None, False, False, ())


# -- to ------------------------------------------------------------------------------------------------------------------


def test_several_targets_keep_their_order_and_come_once() -> None:
    """`to` is a comma-separated list; a target named twice is meant once."""
    assert _message(to="user:b,all,user:a,topic:x,user:b,all").targets == ("user:b", "all", "user:a", "topic:x")


@pytest.mark.parametrize(
    "to", ["alice", "user:a,", ",user:a", "user:a,,user:b", "user:a, user:b", "user:a b", "user:", b"user:\xff"]
)
def test_bad_target_is_named(to: str | bytes) -> None:
    """One bad target breaks the entry: the reason says `to`."""
    assert _refused(("to", to), ("text", "hi")).field == "to"


@pytest.mark.parametrize("fields", [[("text", "hi")], [("to", ""), ("text", "hi")]])
def test_missing_target(fields: list[tuple[str, str]]) -> None:
    """`to` is required and not empty."""
    assert str(_refused(*fields)) == "to: is missing (one or more targets, comma-separated)"


@pytest.mark.parametrize("count", [10_001, 10_002, 20_000])
def test_too_many_targets(count: int) -> None:
    """More than `targets_max` are refused for that reason, however many they are."""
    assert len(_message(to=",".join(f"user:{n}" for n in range(10_000))).targets) == 10_000
    broken = _refused(("to", ",".join(f"user:{n}" for n in range(count))), ("text", "hi"))
    assert str(broken) == "to: more than 10000 targets"


# -- body and text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "minified"),
    [
        ('{ "a" : [ 1 , 2 ] }', '{"a":[1,2]}'),
        ('"a\\u0000\\n"', '"a\\u0000\\n"'),
        ("null", "null"),
        ("\n\t[]\r", "[]"),
        ("18446744073709551616", "18446744073709551616"),
        ("0.1", "0.1"),
        ('"\\ud83d\\ude00"', '"\\ud83d\\ude00"'),
        ("[ 12345678901234567890.123456, 1E2, 1.10 , -0 ]", "[12345678901234567890.123456,1E2,1.10,-0]"),
        (r'{ "a b" : "\" \\" , "a b":"\\" }', r'{"a b":"\" \\","a b":"\\"}'),
        ('"\u2028"', '"\u2028"'),
    ],
)
def test_body_is_minified(body: str, minified: str) -> None:
    """White space between the parts goes; every part stays as it was given, escapes and digits included."""
    assert _read(("to", "user:a"), ("body", body)).content == f'"body":{minified}'


@pytest.mark.parametrize(
    "body",
    [
        *("", " ", "{", "{'a':1}", "[1,]", "nul", "NaN", "1e999", "1 2", "\ufeff1", "+1", "01"),
        *('"\x01"', '"\n"', '"\\ud800"', '"\\x"', b'"\xff"', b"\xff", b'"\xed\xa0\x80"'),
        *("[" * 100_000, "[" * 30_000 + "]" * 30_000, "1" * 5_000),
    ],
    ids=lambda body: ascii(body[:20]),
)
def test_body_that_is_no_json(body: str | bytes) -> None:
    """Whatever is not JSON, or cannot be held, is refused with the body's name."""
    assert _refused(("to", "user:a"), ("body", body)).field == "body"


def test_a_plain_text_in_the_body_is_told_where_it_belongs() -> None:
    """The mistake of a first try."""
    assert _refused(("to", "user:a"), ("body", "hello")).rule.endswith("; a plain text goes into the field text")


@pytest.mark.parametrize("fields", [[("to", "user:a")], [("to", "user:a"), ("body", "1"), ("text", "hi")]])
def test_exactly_one_content(fields: list[tuple[str, str]]) -> None:
    """Neither and both break the rule."""
    assert str(_refused(*fields)) == "body: exactly one of body and text is needed"


@pytest.mark.parametrize("text", ["", "hi", 'a\n\x00\x1f"\\', "müller 😀 \u2028", " {} "])
def test_text_is_a_json_string(text: str) -> None:
    """Any UTF-8 text comes back as it was."""
    message = _message(text=text)
    assert json.loads(f"{{{message.content}}}") == {"text": text}


def test_text_that_is_not_utf_8() -> None:
    """The reason says which byte."""
    assert str(_refused(("to", "user:a"), ("text", b"ab\xff"))) == "text: is not UTF-8 (byte 2)"


@pytest.mark.parametrize("name", ["body", "text"])
def test_content_has_a_longest_length(name: str) -> None:
    """`body_max_bytes` counts the bytes as given."""
    settings = Settings(body_max_bytes=10)
    _read(("to", "user:a"), (name, '"12345678"'), settings=settings)
    broken = _refused(("to", "user:a"), (name, '"123456789"'), settings=settings)
    assert str(broken) == f"{name}: longer than 10 bytes (11)"


def test_text_that_grows_past_what_mongodb_takes() -> None:
    """As JSON a text may be several times as long as it was; no document takes more than 16 MiB."""
    broken = _refused(("to", "user:a"), ("text", "\x01" * 3_000_000), settings=Settings(body_max_bytes=8_388_608))
    assert broken.field == "text"
    assert "as JSON" in broken.rule


# -- id ------------------------------------------------------------------------------------------------------------------


def test_id_is_the_producer_s() -> None:
    """Given, it is taken as it is."""
    assert _message(id="order-1:ü").id == "order-1:ü"


@pytest.mark.parametrize("ident", ["", "a b", "a,b", "x" * 129, 'a"', b"\xff"])
def test_bad_id(ident: str | bytes) -> None:
    """An id that breaks the rule for ids is refused."""
    assert _refused(("to", "user:a"), ("text", "hi"), ("id", ident)).field == "id"


def test_id_is_made_where_none_is_given() -> None:
    """Shard, entry id and digest: the same entry always has the same, another content or entry another."""
    first = _message().id
    assert first == _message().id
    assert first.startswith(f"0-{ENTRY_ID}-")
    assert first != _message(text="ho").id
    assert first != _read(("to", "user:a"), ("text", "hi"), entry_id="5-0").id
    assert first != read_message(_entry(("to", "user:a"), ("text", "hi")), 1, NOW_MS, SETTINGS).id


def test_digest_sees_where_fields_end() -> None:
    """Moving a byte from one value to the next makes another id."""
    one = _read(("to", "user:a"), ("text", "hi"), ("x-a", "b"), ("x-c", ""))
    two = _read(("to", "user:a"), ("text", "hi"), ("x-a", ""), ("x-c", "b"))
    assert one.id != two.id


def test_longest_made_id_is_an_id() -> None:
    """The largest entry id of the last shard still makes an id."""
    entry = _entry(("to", "user:a"), ("text", "hi"), entry_id=f"{2**64 - 1}-{2**64 - 1}")
    message = read_message(entry, 1023, NOW_MS, SETTINGS)
    assert _message(id=message.id).id == message.id


# -- ttl, transient, trace -----------------------------------------------------------------------------------------------


def test_ttl_counts_from_the_appending() -> None:
    """Seconds from when the entry was appended, by its id."""
    assert _message(ttl="60").expires_ms == NOW_MS - 500 + 60_000


@pytest.mark.parametrize("ttl", ["0", "-1", "1.5", "", " 1", "1 ", "x", "٣", "99999999999", "2592001", "1e3", b"\xff"])
def test_bad_ttl(ttl: str | bytes) -> None:
    """Whole seconds from 1 to the retention; nothing else."""
    assert _refused(("to", "user:a"), ("text", "hi"), ("ttl", ttl)).field == "ttl"


def test_longest_ttl_is_the_retention() -> None:
    """30 days unless set."""
    assert _message(ttl="2592000").expires_ms == NOW_MS - 500 + 2_592_000_000


def test_transient_expires_by_age_or_ttl() -> None:
    """Whichever ends first."""
    assert _message(transient="1").expires_ms == NOW_MS - 500 + 10_000
    assert _message(transient="1", ttl="3").expires_ms == NOW_MS - 500 + 3_000
    assert _message(transient="1", ttl="3600").expires_ms == NOW_MS - 500 + 10_000


# -- exclude, collapse, at -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whom", ["session:9c1b2a3d4e5f6071", "device:alice,phone", "device:a:b,c;not=d%"])
def test_exclude_names_a_session_or_a_device(whom: str) -> None:
    """It is kept as it is written."""
    assert _message(exclude=whom).exclude == whom


@pytest.mark.parametrize(
    "whom",
    ["", "session", "session:", "device:alice", "device:a,b,c", "device:,b", "user:a", "session:a,b", b"session:\xff"],
)
def test_bad_exclude(whom: str | bytes) -> None:
    """Anything else is refused by name."""
    assert _refused(("to", "all"), ("text", "hi"), ("exclude", whom)).field == "exclude"


def test_a_long_name_is_not_repeated_whole() -> None:
    """However it is refused: the reason is kept with the entry, and shown."""
    for name, value in (("a" * 5_000, "1"), ("x-" + "a" * 5_000, "1"), ("x-" + "a" * 5_000, b"\xff")):
        assert len(_refused(("to", "all"), ("text", "hi"), (name, value)).field) == 64


def test_what_is_wrong_with_a_body_is_told_in_brief() -> None:
    """A parser says the whole way to it."""
    assert len(_refused(("to", "all"), ("body", "[" * 500 + "1e999" + "]" * 500)).rule) < 300


def test_collapse_is_an_id() -> None:
    """By the rule for ids."""
    assert _message(collapse="unread").collapse == "unread"
    assert _refused(("to", "user:a"), ("text", "hi"), ("collapse", "a b")).field == "collapse"


def test_at_is_waited_for() -> None:
    """What is due counts its time from then on."""
    due_ms = NOW_MS + 60_000
    message = _message(at=str(due_ms), ttl="5")
    assert (message.at_ms, message.ts_ms, message.expires_ms) == (due_ms, due_ms, due_ms + 5_000)


@pytest.mark.parametrize(("at_ms", "ts_ms"), [(10**11, NOW_MS - 500), (NOW_MS - 1_000, NOW_MS - 500)])
def test_at_that_is_past_means_now(at_ms: int, ts_ms: int) -> None:
    """It is waited for no more, however long the entry has waited itself."""
    message = _message(at=str(at_ms))
    assert (message.at_ms, message.ts_ms) == (None, ts_ms)


def test_at_that_has_passed_since() -> None:
    """It waits as it did when the entry was first taken: a second try may not give it a seq before those of the first."""
    message = _message(at=str(NOW_MS - 9))
    assert (message.at_ms, message.ts_ms) == (NOW_MS - 9, NOW_MS - 9)


@pytest.mark.parametrize("at", ["", "soon", "-1", "1.5", "9" * 15, str(NOW_MS + 31_536_000_000), b"\xff"])
def test_bad_at(at: str | bytes) -> None:
    """A whole number of ms, at most `at_max_s` behind the appending."""
    assert _refused(("to", "user:a"), ("text", "hi"), ("at", at)).field == "at"


@pytest.mark.parametrize("at", ["0", "10", str(NOW_MS // 1_000 + 60)])
def test_at_in_seconds(at: str) -> None:
    """It would be past, and what is for later would be sent at once: so it is refused, and asked after."""
    assert _refused(("to", "user:a"), ("text", "hi"), ("at", at)).rule == f"'{at}' is before 1973 in Unix ms: is it in seconds?"


@pytest.mark.parametrize(("name", "value"), [("at", "1"), ("collapse", "k")])
def test_what_is_transient_is_not_kept(name: str, value: str) -> None:
    """Neither for later nor for a replay."""
    assert _refused(("to", "user:a"), ("text", "hi"), ("transient", "1"), (name, value)).field == name


def test_message_to_many_is_not_traced() -> None:
    """Each target would write as many events as one message does."""
    few, many = (",".join(f"user:{n}" for n in range(count)) for count in (8, 9))
    assert _message(to=few, trace="1").trace
    assert _refused(("to", many), ("text", "hi"), ("trace", "1")).field == "trace"


@pytest.mark.parametrize("name", ["transient", "trace"])
def test_flags(name: str) -> None:
    """`1` or `0`; another value breaks the rule."""
    assert getattr(_message(**{name: "1"}), name) is True
    assert getattr(_message(**{name: "0"}), name) is False
    for value in ("", "true", "2", "01", b"\xff"):
        assert _refused(("to", "user:a"), ("text", "hi"), (name, value)).field == name


# -- fields --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "To", "to ", "message", "line", "x", "X-a", "expires", b"\xff", "seq"])
def test_unknown_field(name: str | bytes) -> None:
    """Another field is a broken rule, which names it and those there are."""
    broken = _refused(("to", "user:a"), ("text", "hi"), (name, "1"))
    assert "there is no such field" in broken.rule


@pytest.mark.parametrize("name", ["to", "text", "id", "x-a"])
def test_field_given_twice(name: str) -> None:
    """Which of the two is meant nobody knows."""
    value = {"to": "user:a", "text": "hi"}.get(name, "v")
    fields = [("to", "user:a"), ("text", "hi"), (name, value)] + ([] if name in ("to", "text") else [(name, value)])
    assert str(_refused(*fields)) == f"{name}: given twice"


def test_carried_fields() -> None:
    """Fields traceparent and x-* are carried along, in order."""
    message = _read(("x-b", "2"), ("to", "user:a"), ("traceparent", "00-1-2-01"), ("text", "hi"), ("x-a.b_c", ""))
    assert message.carried == (("x-b", "2"), ("traceparent", "00-1-2-01"), ("x-a.b_c", ""))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("x-", "1"), ("x-ü", "1"), ("x-a b", "1"), ("x-a$", "1"), (b"x-\xff", "1"), ("x-a", "\n"), ("x-a", b"\xff")),
        *(("x-a", "x" * 1_025), ("x-" + "a" * 1_023, "1"), ("traceparent", "a\x7f"), ("traceparent", "x" * 1_025)),
    ],
    ids=ascii,
)
def test_bad_carried_field(name: str | bytes, value: str | bytes) -> None:
    """Names and values are short labels without control characters."""
    _refused(("to", "user:a"), ("text", "hi"), (name, value))


def test_too_many_carried_fields() -> None:
    """16 are carried, 17 are not."""
    fields = [("to", "user:a"), ("text", "hi"), *((f"x-{n}", "1") for n in range(16))]
    assert len(_read(*fields).carried) == 16
    assert str(_refused(*fields, ("traceparent", "1"))) == "x-*: more than 16 carried fields"


def test_time_never_lies_in_the_future() -> None:
    """An entry id that a producer chose ahead of time counts as now."""
    assert _read(("to", "user:a"), ("text", "hi"), ("ttl", "1"), entry_id=f"{2**64 - 1}-0").expires_ms == NOW_MS + 1_000
    assert _read(("to", "user:a"), ("text", "hi"), entry_id="0-1").ts_ms == 0


# -- anything at all -----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([b"to", b"body", b"text", b"id", b"ttl", b"transient", b"trace", b"traceparent", b"x-a"])
VALUES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"user:a", b"user:a,all", b"1", b"0", b"60", b'{"a":[1,"\\u0000"]}', b'"\\ud800"']),
)
ENTRIES = st.lists(st.tuples(st.one_of(NAMES, st.binary(max_size=8)), VALUES), max_size=6)


def _reaches_message(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(b"to", b"user:a"), (b"text", b"hi"), *fields]


@given(ENTRIES | ENTRIES.map(_reaches_message), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@example([(b"to", b"user:a"), (b"body", b"9" * 4_301)], 0, 1)
def test_any_entry_is_a_message_or_breaks_a_rule(fields: list[tuple[bytes, bytes]], ms: int, number: int) -> None:
    """No bytes whatever make it fail in another way, and a reason can always be written to Redis."""
    try:
        message = read_message(Entry.of(f"{ms}-{number}", fields), 0, NOW_MS, SETTINGS)
    except RuleBroken as broken:
        assert str(broken).encode()  # noqa: PT017 - either outcome is right, each has its claim
    else:
        _is_one_clean_line(message)


def _is_one_clean_line(message: Message) -> None:
    frame = _frame(message)
    assert not any(ord(char) < 0x20 for char in frame)
    assert frame.encode().decode() == frame
    assert json.loads(frame)["id"] == message.id


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_frame_parses_back_to_the_same_json(body: Any, ascii_only: bool, indent: int | None) -> None:  # noqa: ANN401 - JSON
    """However a producer writes its JSON, the client gets that JSON, in one line without raw control bytes."""
    written = json.dumps(body, ensure_ascii=ascii_only, indent=indent)
    frame = _frame(_read(("to", "user:a"), ("body", written.encode("utf-8", "surrogatepass"))))
    assert not any(ord(char) < 0x20 for char in frame)
    assert _same(json.loads(frame)["body"], body)


def _same(left: Any, right: Any) -> bool:  # noqa: ANN401 - JSON
    """Compare JSON; a float may come back as the same number written otherwise."""
    if isinstance(left, float) or isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-15) or left == right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    return bool(left == right)


@given(st.text())
def test_text_comes_back_the_same(text: str) -> None:
    """Any text that is UTF-8 is delivered as it is."""
    assert json.loads(_frame(_message(text=text)))["text"] == text
