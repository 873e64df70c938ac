"""Wishes in an address, and other small texts of requests: read, or refused with what is documented; what is said is read back.

The first byte chooses which.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from edge.client.frames import connect_address
from edge.client_frames import SEQ_MAX, BadFrame, query_options
from edge.origins import is_allowed
from router.api.append.reading import read_key
from router.api.prefer import read_wait
from router.errors import RuleBroken
from router.targets import is_id
from tests.fuzz.inputs import Choices

_WAIT_MAX_S: Final = 30

SEEDS: Final = (
    b"\x00device=phone&since=5,all:6,topic:news:7&topics=news,sport",
    b"\x00since=-1",
    b"\x00since=\xc2\xb2",
    b"\x00since=9007199254740992",
    b"\x00since=topic:a:b:5&since=3",
    b"\x00since=&topics=&device=",
    b"\x00since=all:,5",
    b"\x00topics=a,,b",
    b"\x00device=%ff%00%0a",
    b"\x01\x05\x01\x03abc\x05phone\x04news",
    b'\x02respond-async, wait=5; a="b,c"',
    b"\x02wait=99999999999",
    b"\x02" + b'a="' * 40,
    b'\x03"key-1"',
    b'\x03"',
    b"\x03\xff",
    b"\x04https://edge:8002\x00edge",
    b"\x04null\x00",
    b"\x04http://[::1]:5\x00localhost:8002",
    b"\x04http://[\x00[",
    b"\x04https://a.example.com/.evil\x00evil",
    b"\x04https://evil.net/.example.com\x00evil.net",
)


def run(data: bytes) -> None:
    """Read one of the texts."""
    choices = Choices(data)
    (_read_query, _read_back, _read_prefer, _read_key, _read_origin)[choices.byte() % 5](choices)


def _read_query(choices: Choices) -> None:
    query = dict(parse_qsl(choices.rest().decode("latin-1"), keep_blank_values=True))
    try:
        options = query_options(query)
    except BadFrame as exc:
        assert len(str(exc)) < 2_000, "more than a client is shown again"
        str(exc).encode()
        return
    assert options.device is None or is_id(options.device)
    assert all(map(is_id, options.topics))
    for name, seq in options.since.items():
        assert name in {"user", "all"} or (name.startswith("topic:") and is_id(name[6:])), name
        assert 0 <= seq <= SEQ_MAX


def _read_back(choices: Choices) -> None:
    """Say wishes as the client library does, and read them as an edge does."""
    seqs = [choices.number() % (SEQ_MAX + 1) for _ in range(3)]
    device, topics = choices.text(), [choices.text() for _ in range(choices.byte() % 4)]
    if not is_id(device) or not all(map(is_id, topics)):
        return
    since = dict(zip(("user", "all", *(f"topic:{topic}" for topic in topics)), seqs, strict=False))
    address = connect_address("ws://localhost/v1/connect?a=b", device, since, topics)
    options = query_options(dict(parse_qsl(urlsplit(address).query, keep_blank_values=True)))
    assert (options.device, dict(options.since), options.topics) == (device, since, tuple(topics))


def _read_prefer(choices: Choices) -> None:
    assert 0 <= read_wait([choices.rest().decode("latin-1")], _WAIT_MAX_S) <= _WAIT_MAX_S


def _read_key(choices: Choices) -> None:
    try:
        key = read_key(choices.rest().decode("latin-1"))
    except RuleBroken as exc:
        assert exc.field == "Idempotency-Key"
    else:
        assert key is not None
        assert is_id(key)


def _read_origin(choices: Choices) -> None:
    """See to it that no list lets in a page of a host that it does not name."""
    origin, _, host = choices.rest().decode("latin-1").partition("\0")
    is_allowed(origin, host, ())
    if is_allowed(origin, host, ("https://*.example.com",)):
        said = origin.lower()
        assert said.startswith("https://")
        assert said.endswith(".example.com")
        assert "/" not in said[8:]
