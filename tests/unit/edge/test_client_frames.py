"""edge.client_frames: what a client may say, and that nothing else gets through."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.client_frames import (
    SEQ_MAX,
    Ack,
    BadFrame,
    ClientFrame,
    Connect,
    Options,
    Ping,
    Subscribe,
    Token,
    Unsubscribe,
    decode,
    frame_options,
    query_options,
)


@pytest.mark.parametrize(
    ("sent", "frame"),
    [
        ({"type": "connect", "token": "t"}, Connect("t")),
        (
            {"type": "connect", "token": "t", "device": "d", "since": {"user": 0}, "topics": ["news"]},
            Connect("t", "d", {"user": 0}, ["news"]),
        ),
        ({"type": "ack", "seq": 5}, Ack(5)),
        ({"type": "ack", "seq": SEQ_MAX, "to": "all"}, Ack(SEQ_MAX, "all")),
        ({"type": "subscribe", "topic": "news", "since": 1}, Subscribe("news", 1)),
        ({"type": "subscribe", "topic": "news", "presence": True}, Subscribe("news", presence=True)),
        ({"type": "unsubscribe", "topic": "news"}, Unsubscribe("news")),
        ({"type": "token", "token": "t"}, Token("t")),
        ({"type": "ping"}, Ping()),
    ],
)
def test_the_frames_of_the_protocol_are_read(sent: dict[str, Any], frame: ClientFrame) -> None:
    """Each as its own type."""
    assert decode(json.dumps(sent).encode()) == frame


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"type":"ping"} x',
        b'{"type":"dance"}',
        b'{"type":7}',
        b'{"seq":1}',
        b'{"type":"ack"}',
        b'{"type":"ack","seq":-1}',
        b'{"type":"ack","seq":1.5}',
        b'{"type":"ack","seq":"1"}',
        b'{"type":"ack","seq":true}',
        b'{"type":"ack","seq":9007199254740992}',
        b'{"type":"connect"}',
        b'{"type":"connect","token":"t","topic":"news"}',
        b'{"type":"connect","token":"t","since":{"user":null}}',
        b'{"type":"subscribe","topic":"\xff"}',
        b'{"type":"subscribe","topic":"news","presence":1}',
        b'{"a":' + b"[" * 60_000 + b"]" * 60_000 + b',"type":"ping"}',
    ],
)
def test_anything_else_is_a_bad_frame(sent: bytes) -> None:
    """Not JSON, not an object, no known type, a member too few, too many or of another shape."""
    with pytest.raises(BadFrame):
        decode(sent)


@given(st.binary(max_size=100))
def test_no_bytes_do_worse_than_a_bad_frame(sent: bytes) -> None:
    """Nothing a client sends raises anything else."""
    with suppress(BadFrame):
        decode(sent)


def test_header_and_frame_wish_for_the_same() -> None:
    """The address says what the connect frame says."""
    wished = Options("phone", {"user": 7, "all": 0, "topic:news": 3}, ("news", "sport"))
    frame = Connect("t", "phone", {"user": 7, "all": 0, "topic:news": 3}, ["news", "sport"])
    query = {"device": "phone", "since": "7,all:0,topic:news:3", "topics": "news,sport"}
    assert frame_options(frame) == query_options(query) == wished
    assert frame_options(Connect("t")) == query_options({"utm_source": "x"}) == Options()


@pytest.mark.parametrize(
    "query",
    [
        {"device": ""},
        {"device": "a b"},
        {"device": "x" * 129},
        {"since": ""},
        {"since": "-1"},
        {"since": "²"},
        {"since": "news:1"},
        {"since": "topic:a b:1"},
        {"since": "topic::1"},
        {"since": "1,,2"},
        {"since": "1" * 17},
        {"since": "9007199254740992"},
        {"since": "x" * 5_000 + ":1"},
        {"since": "1" * 5_000},
        {"topics": ""},
        {"topics": "a,"},
        {"topics": "a{b}"},
    ],
)
def test_a_wish_that_cannot_be_read_is_a_bad_frame(query: dict[str, str]) -> None:
    """In the address as in the frame, an id keeps the rule for ids."""
    with pytest.raises(BadFrame):
        query_options(query)


@pytest.mark.parametrize(
    "frame",
    [
        Connect("t", device="a,b"),
        Connect("t", since={"news": 1}),
        Connect("t", since={"topic:": 1}),
        Connect("t", topics=["a b"]),
    ],
)
def test_a_frame_with_a_bad_id_is_a_bad_frame(frame: Connect) -> None:
    """The shape alone is not enough."""
    with pytest.raises(BadFrame):
        frame_options(frame)
