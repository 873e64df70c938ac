"""router.dead: reading letters, mending entries, telling what would die again."""

from __future__ import annotations

import json

import pytest

from router.collect.entries import Entry, read_message
from router.dead import Fields, Letter, can_be_appended, fields_to_append, mended, read_letter, why_dead_again
from router.settings import Settings

SETTINGS = Settings()
ENTRY = "1732262400000-0"
GOOD: Fields = ((b"to", b"user:a"), (b"text", b"hi"))


def _letter(*fields: tuple[bytes, bytes], source: str = "in", entry: str = ENTRY) -> Letter:
    return Letter(0, "1732262400999-0", "no", source, entry, fields)


def test_entry_s_own_fields_are_told_from_the_letter_s() -> None:
    """Only the first three are the letter's, also where the entry has fields of those names, twice or not UTF-8."""
    flat = [b"reason", b"no", b"source", b"push:{0}:in", b"entry", b"1-1", b"reason", b"mine", b"to", b"a", b"to", b"\xff"]
    letter = read_letter(3, "5-0", flat)
    assert (letter.shard, letter.id, letter.reason, letter.source, letter.entry) == (3, "5-0", "no", "in", "1-1")
    assert letter.fields == ((b"reason", b"mine"), (b"to", b"a"), (b"to", b"\xff"))
    assert letter.died_ms == 5
    assert letter.value("to") == "a"


def test_letter_by_hand_is_read() -> None:
    """Somebody may have put anything there."""
    letter = read_letter(0, "5-0", [b"to", b"user:a"])
    assert (letter.reason, letter.source, letter.entry, letter.fields) == ("", "", "", ((b"to", b"user:a"),))
    assert read_letter(0, "5-0", []).fields == ()


def test_entry_of_very_many_fields_is_unpacked() -> None:
    """The JSON array of bury.lua becomes the fields again, byte for byte."""
    values = ["name", "\xff\x00/"] * 4_000
    flat = [b"reason", b"no", b"source", b"in", b"entry", b"1-1", b"fields", json.dumps(values).encode("latin-1")]
    assert read_letter(0, "5-0", flat).fields == ((b"name", b"\xff\x00/"),) * 4_000


@pytest.mark.parametrize("value", [b'["to","user:a"]', b"{}", b"not JSON", b"[1,2]", b"[" * 5_000])
def test_field_called_fields_is_a_producer_s(value: bytes) -> None:
    """What would have fitted was never packed, and is nothing to fail over."""
    assert read_letter(0, "5-0", [b"reason", b"", b"source", b"", b"entry", b"", b"fields", value]).fields == (
        (b"fields", value),
    )


def test_field_is_mended_in_place_of_all_of_its_name() -> None:
    """One that was given twice is given once; one set to nothing is left out."""
    twice = (*GOOD, (b"to", b"user:b"), (b"ttl", b"x"))
    assert mended(twice, {b"to": b"user:c", b"ttl": b""}) == ((b"text", b"hi"), (b"to", b"user:c"))


def test_entry_without_id_gets_the_one_that_collect_had_made() -> None:
    """Also when a field was mended, since a target may have the message under that id."""
    made = read_message(Entry.of(ENTRY, GOOD), 0, 2_000_000_000_000, SETTINGS).id
    assert fields_to_append(_letter(*GOOD), {}) == (*GOOD, (b"id", made.encode()))
    assert (b"id", made.encode()) in fields_to_append(_letter(*GOOD), {b"to": b"user:b"})


@pytest.mark.parametrize(
    "letter",
    [
        _letter(*GOOD, (b"id", b"order-1")),
        _letter((b"line", b"user:a - - - {}"), source="out"),
        _letter(*GOOD, source="fast"),
        _letter(*GOOD, entry=""),
    ],
)
def test_other_entries_are_appended_as_they_were(letter: Letter) -> None:
    """An id stays; lines and transient messages have none to give."""
    assert fields_to_append(letter, {}) == letter.fields


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (_letter(*GOOD), None),
        (_letter((b"to", b"alice"), (b"text", b"hi")), "to: 'alice' is not a target"),
        (_letter((b"to", b"user:a"), (b"body", b"{")), "body: is not JSON"),
        (_letter(*GOOD, source="fast"), None),
        (_letter((b"to", b"user:a,user:b"), (b"text", b"hi"), source="fast"), "one target"),
        (_letter((b"to", b"user:a"), (b"body", b"{}\n"), source="fast"), "no control character"),
        (_letter((b"to", b"user:a"), (b"body", b"{}\n")), None),
        (_letter((b"line", b"user:a 1 2 - {}"), source="out"), None),
        (_letter((b"line", b"malformed"), source="out"), "not a payload line"),
        (_letter(*GOOD, source="out"), "not a payload line"),
        (_letter(*GOOD, source="else"), "its source is 'else'"),
        (_letter(*[(b"x", b"")] * 4_000), "it has 4000 fields"),
    ],
)
def test_what_would_die_again_is_told(letter: Letter, why: str | None) -> None:
    """By the rules of the stream that it came from."""
    told = why_dead_again(letter, letter.fields, SETTINGS)
    assert (told is None) if why is None else (told is not None and why in told)


@pytest.mark.parametrize(
    ("letter", "possible"),
    [(_letter((b"to", b"bad")), True), (_letter(source="in"), False), (_letter(*GOOD, source="else"), False)],
)
def test_what_cannot_be_appended_at_all(letter: Letter, possible: bool) -> None:
    """An entry needs a field, and a stream to go to."""
    assert can_be_appended(letter, letter.fields) is possible
