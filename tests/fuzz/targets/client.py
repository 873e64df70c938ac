"""What an edge, or who stands in for one, sends to the Python client: understood as it was said, or refused as unintelligible.

The first byte says whether the bytes behind it are a frame, or the choices of one that an edge says.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Final

from edge.client.errors import ClientError
from edge.client.frames import (
    SEQ_MAX,
    Message,
    Unintelligible,
    Welcome,
    decode,
    read_expiring_s,
    read_message,
    read_presence,
    read_progress,
    read_retry_after_s,
    read_subscribed,
    read_welcome,
)
from edge.client.progress import Progress
from edge.frames import Bye, CaughtUp, Expiring, Joined, Left, Lost, Members, ServerFrame, Subscribed, encode
from edge.frames import Welcome as EdgeWelcome
from router.lines import build_frame
from tests.fuzz.inputs import Choices

_TERM_S: Final = 60.0

SEEDS: Final = (
    b'\x00{"type":"welcome","user":"alice","session":"s","node":"n","seq":5,"all":6,"heartbeat":25}',
    b'\x00{"type":"welcome","user":"alice","session":"s","node":"n","seq":5,"heartbeat":1e999}',
    b'\x00{"type":"message","to":"user:alice","seq":7,"id":"m","ts":1,"body":{"a":NaN}}',
    b'\x00{"type":"message","to":"user:alice","seq":true,"id":"m","ts":1,"text":"hi"}',
    b'\x00{"type":"message","to":"user:\\ud800","id":"m","ts":1.0,"text":"hi"}',
    b'\x00{"type":"caught_up","to":"all","seq":9007199254740992}',
    b'\x00{"type":"lost","to":"topic:a","from":1,"until":2}',
    b'\x00{"type":"subscribed","topic":"a","seq":-1}',
    b'\x00{"type":"members","topic":"a","users":["b",1]}',
    b'\x00{"type":"bye","reason":"draining","retry_after_ms":-5}',
    b'\x00{"type":"expiring","in_s":' + b"9" * 400 + b"}",
    b"\x00" + b"[" * 1_500,
    b"\x00[]",
    b"\x01\x00\x05alice\x01\x01\x02",
    b"\x01\x01\x05alice\x01\x01\x02",
    b"\x01" + bytes(range(64)),
)


def run(data: bytes) -> None:
    """Read a frame of anybody, or one of an edge."""
    choices = Choices(data)
    if choices.flag():
        _read_back(choices)
    else:
        _read_any(choices.rest().decode("utf-8", "replace"))


def _read_any(raw: str) -> None:
    """Read it in every way there is, and let what comes of it move cursors."""
    progress = Progress({"topic:a": 3}, None, device=False, ack_every=2, ack_interval_s=1.0)
    progress.welcomed("alice", 5, 6, 0.0)
    with suppress(Unintelligible):
        frame, text = decode(raw)
        assert text == raw
        if (retry_s := read_retry_after_s(frame)) is not None:
            assert 0 <= retry_s <= 600
        assert 0 <= read_expiring_s(frame, _TERM_S) <= _TERM_S
        read_presence(frame)
        for seqs in (("seq",), ("from", "until")):
            if (told := read_progress(frame, *seqs)) is not None:
                progress.caught_up(told[0], told[1][-1], 1.0)
        if (subscribed := read_subscribed(frame)) is not None:
            progress.subscribed(f"topic:{subscribed[0]}", subscribed[1], 1.0)
        with suppress(Unintelligible):
            _check_welcome(read_welcome(frame))
        message = read_message(frame, raw)
        if progress.take(message):
            assert message.seq is None or message.seq > {"user:alice": 5, "all": 6, "topic:a": 3}.get(message.to, -1)
        progress.handled(2.0)
    # What is kept is sent back with the next connect, and must be what an edge takes.
    for target, seq in progress.cursors.items():
        assert 0 <= seq <= SEQ_MAX
        target.encode()
    json.dumps(progress.to_keep(), allow_nan=False)


def _check_welcome(welcome: Welcome) -> None:
    assert math.isfinite(welcome.heartbeat_s)
    assert 0 < welcome.heartbeat_s <= 600
    progress = Progress({}, None, device=True, ack_every=2, ack_interval_s=1.0)
    with suppress(ClientError):
        progress.welcomed(welcome.user, welcome.head, welcome.all_head, 0.0)


def _read_back(choices: Choices) -> None:
    """Say something as an edge does, and hold what is read against it."""
    kind, text = choices.byte() % 9, choices.text()
    one, other = choices.number() % (SEQ_MAX + 1), choices.number() % (SEQ_MAX + 1)
    if kind == 0:
        user = choices.text()
        said = _read(EdgeWelcome(user, text, "n", one, other, 25.0))
        assert read_welcome(said) == Welcome(user, text, "n", one, other, 25.0)
    elif kind == 1:
        content = f'"text":{json.dumps(choices.text(), ensure_ascii=False)}'
        raw = build_frame("topic:é", one, "m-1", other, content)
        assert read_message(*decode(raw)) == Message(
            "topic:é", "m-1", other, one, None, json.loads(f"{{{content}}}")["text"], raw
        )
    elif kind == 2:
        assert read_progress(_read(CaughtUp(text, one)), "seq") == (text, [one])
    elif kind == 3:
        assert read_progress(_read(Lost(text, one, other)), "from", "until") == (text, [one, other])
    elif kind == 4:
        assert read_subscribed(_read(Subscribed(text, one))) == (text, one)
    elif kind == 5:
        assert read_retry_after_s(_read(Bye(text, one))) == min(one, 600_000) / 1000
    elif kind == 6:
        assert read_expiring_s(_read(Expiring(float(one))), math.inf) == float(one)
    else:
        _read_presence(kind, text, choices.text())


def _read_presence(kind: int, topic: str, user: str) -> None:
    for said in (Members(topic, [user, "b"]), (Joined if kind == 7 else Left)(topic, user)):
        read = read_presence(_read(said))
        assert read is not None
        assert read.topic == topic
        assert user in (read.users if hasattr(read, "users") else (read.user,))


def _read(frame: ServerFrame) -> dict[str, object]:
    """Return a frame as a client reads it off the wire."""
    data = encode(frame)
    payload = data[2 if data[1] < 126 else 4 :]
    return decode(payload.decode())[0]
