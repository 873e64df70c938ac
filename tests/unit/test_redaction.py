"""router.redaction: what must not stand in a log does not get there, whatever somebody logs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.redaction import HIDDEN, TRACEBACK, VALUE_MAX_CHARS, Redaction, secrets_of
from router.settings import Settings

TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"  # noqa: S105 - made up
SECRETS = ("canary-key", 'p"ass\\wört', "p%40ss")
REDACTION = Redaction(SECRETS)

LONG_TEXT_MAX_S = 2.0
"""Some tens of ms are enough, and the square of the length would take minutes."""


def _told(**event: object) -> dict[str, Any]:
    return REDACTION.event(event)


def test_what_is_harmless_stays_as_it_is() -> None:
    """Ids, numbers, truths and addresses are what logs are for."""
    event = {
        "event": "route_dropped",
        "node": "edge-1.k3f9",
        "shard": 0,
        "held": None,
        "ok": True,
        "url": "http://127.0.0.1:8001/x",
    }
    assert _told(**event) == event


@pytest.mark.parametrize("name", ["token", "api_key", "apikey", "redis_password", "Authorization", "cookie", "client_secret"])
def test_a_name_that_speaks_of_a_secret(name: str) -> None:
    """Whatever stands under it goes."""
    assert _told(**{name: "anything"}) == {name: HIDDEN}


def test_a_number_of_tokens_is_a_number() -> None:
    """Counting what is secret is not telling it."""
    assert _told(tokens=3) == {"tokens": 3}


@pytest.mark.parametrize("name", ["body", "text", "frame", "payload", "document"])
def test_content_is_not_told(name: str) -> None:
    """What people write to each other never stands in a log."""
    assert _told(**{name: {"text": "hello"}}) == {name: HIDDEN}


def test_bytes_are_counted() -> None:
    """Bytes went over a wire: nobody knows what is in them."""
    assert _told(head=b"user:alice 1 2 - {") == {"head": "<18 bytes>"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("redis://user:pw@10.0.0.1:6379/0 is away", "redis://***@10.0.0.1:6379/0 is away"),
        ("mongodb+srv://u:p%21@a.example,b.example/?x=1", "mongodb+srv://***@a.example,b.example/?x=1"),
        (f"refused {TOKEN} again", "refused *** again"),
        (f"user-{TOKEN}, x-eyJ-{TOKEN}", "user-***, x-***"),
        ("Authorization: Bearer abc.def/ghi+j==", "Authorization: Bearer ***"),
        ("GET /v1/connect?token=abc&since=1", "GET /v1/connect?token=***&since=1"),
        ("GET /v1/connect?since=1&access_token=abc HTTP/1.1", "GET /v1/connect?since=1&access_token=*** HTTP/1.1"),
        ("to=https%3A%2F%2Fa%2F%3Ftoken%3Dabc&since=1", "to=https%3A%2F%2Fa%2F%3Ftoken%3D***&since=1"),
        ("no such key: pwk_qTs5kJ0c-Zq_1", "no such key: ***"),
        ("full error: {'op': {'_id': 'user:alice 1', 'frame': 'x'}, 'n': 1}", "full error: {'op': ***"),
        ("invalid literal for int() with base 10: b'hello'", "invalid literal for int() with base 10: ***"),
        ('{"to":"user:alice","body":{"text":"hello"}}', '{"to":"user:alice","body": ***'),
    ],
)
def test_shapes_are_found_inside_texts(text: str, told: str) -> None:
    """Credentials in URLs, tokens and quoted documents go, and what stands around them stays."""
    assert _told(error=text) == {"error": told}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("spell", [str, json.dumps, repr], ids=["plain", "json", "python"])
def test_the_settings_secrets_are_found_anywhere(secret: str, spell: Any) -> None:  # noqa: ANN401
    """In the event, in a value, in a list, in a mapping, in an error, in a traceback; plain or quoted."""
    said = f"before {spell(secret)} after"
    told = _told(event=said, error=said, many=[said], nested={"why": said}, exc=ValueError(said), **{TRACEBACK: said})
    plain = str(told)
    assert secret not in plain
    assert json.dumps(secret)[1:-1] not in plain


def test_secrets_come_from_the_settings() -> None:
    """The API key and the passwords of both servers, as they stand in the URLs and decoded."""
    settings = Settings(
        api_key="canary-key",
        redis_url="redis://:redis%2Fpass@127.0.0.1:6379/0",
        mongo_url="mongodb://me:mongopass@a.example:27017,b.example:27017/?replicaSet=rs0",
    )
    told = Redaction(secrets_of(settings)).event({"error": "canary-key redis%2Fpass redis/pass mongopass me"})
    assert told == {"error": "*** *** *** *** me"}


def test_secrets_of_the_ways_to_authenticate_are_hidden() -> None:
    """Each of several, as well."""
    secrets = {"jwt_secret": ("canary-one", "canary-two"), "auth_callback_secret": "canary-three"}
    told = Redaction(secrets_of(Settings.model_validate(secrets))).event({"error": "canary-one canary-two canary-three me"})
    assert told == {"error": "*** *** *** me"}


def test_settings_without_secrets_hide_nothing() -> None:
    """No key and no password: nothing is taken for a secret."""
    assert secrets_of(Settings()) == []
    assert Redaction([]).event({"error": "anything"}) == {"error": "anything"}


def test_no_value_forges_a_line_or_speaks_to_a_terminal() -> None:
    """Control characters are spelt out; a traceback keeps its line ends."""
    told = _told(event="a\nb", error="c\x1b[31m\r\u2028", **{TRACEBACK: "Traceback\n  file\x1b"})
    assert told == {"event": r"a\nb", "error": r"c\x1b[31m\r\u2028", TRACEBACK: "Traceback\n  file\\x1b"}


def test_a_long_value_is_cut_and_says_so() -> None:
    """One error of a driver that describes all it knows does not fill a page."""
    told = _told(error="x" * 5_000)["error"]
    assert told == "x" * VALUE_MAX_CHARS + "… (5000 characters)"


@pytest.mark.parametrize("part", ["a-", "a.", "eyJaaaa-", "-eyJaaaaa", "a://", "bearer ", "'op'  ", "token=", "x-eyJaaaa."])
def test_a_long_text_takes_no_longer_than_it_is(part: str) -> None:
    """An error may quote a document, and everything in this process waits while it is read."""
    began_s = time.process_time()
    _told(error=part * 20_000)
    assert time.process_time() - began_s < LONG_TEXT_MAX_S


@pytest.mark.parametrize("hidden", ["\x00", "\n", "\x1b[2J", "\x9b2J", "\u2028", "\u202e", "\u2066", "\u200f", "\ud800"])
def test_what_nobody_sees_is_spelt_out(hidden: str) -> None:
    """No line is forged or turned round in a terminal, and every one can be written: half of a surrogate pair has no UTF-8."""
    told = _told(user=f"a{hidden}b", topics={f"a{hidden}b": 1}, exception=f"a{hidden}b".replace("\n", "\r"))
    text = json.dumps(told, ensure_ascii=False)
    assert hidden not in text
    assert text.encode()


_TEXTS = st.text(st.characters(codec=None))
"""Halves of surrogate pairs included, as they come out of headers."""


@given(
    st.recursive(_TEXTS | st.binary() | st.integers() | st.none(), lambda each: st.lists(each) | st.dictionaries(_TEXTS, each))
)
def test_anything_can_be_redacted(value: object) -> None:
    """Whatever is logged comes out as something that JSON can say, and without the secret."""
    told = json.dumps(_told(value=value, more=["canary-key", value]), ensure_ascii=False)
    assert "canary-key" not in told
    assert told.encode()
