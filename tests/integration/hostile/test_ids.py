"""What is no id, at every door where one is taken; and ids that are odd and good, which mean nothing but themselves.

An id stands in keys, lines, JSON and logs as it is (router/targets.py), so each door has to look at it once; none behind does.
The doors of producers are held in tests/unit/collect/test_entries.py and tests/scripts/test_dispatch_hostile.py, that of the
address of a connection in test_upgrade.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jwt
import pytest
from typer.testing import CliRunner

from router.auth.judgement import read
from router.auth.keyfile import load_or_make
from router.auth.outward import Answer
from router.auth.tokens import REQUIRED
from router.commands import app
from router.errors import TokenRefused
from router.settings import ENV_PREFIX
from tests.integration.api_site import Api
from tests.integration.edges import Edge

pytestmark = pytest.mark.anyio

BAD: Final = {
    "of nothing": "",
    "a space": "a b",
    "white space": " ",
    "a line end": "a\nuser:bob 0 1 - {}",
    "a return": "a\rb",
    "a comma": "a,bob",
    "a hash tag": "{1}a",
    "an open brace": "a{",
    "a quote": 'a","to":"user:bob',
    "a backslash": "a\\u0022",
    "NUL": "a\0b",
    "an escape": "\x1b[2Ja",
    "DEL": "a\x7f",
    "NEL": "a\x85b",
    "a line separator": "a\u2028b",
    "a paragraph separator": "a\u2029b",
    "a no-break space": "a\u00a0b",
    "a wide space": "a\u3000b",
    "129 characters": "a" * 129,
    "an operator in JSON": '{"$gt":""}',
}

ODD: Final = [
    *("$where", "*", "user:*", "[a-z]?", "a/../b", "a:b", "__proto__", "a;not=x", "%41", "%0a", "<b>", "'--", "#", "[red]"),
    *("\u202eecila", "ü" * 128),
]

BAD_IDS = pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())

PATHS: Final = [
    *(
        ("GET", f"/v1/{path}")
        for path in ("users/%s", "users/%s/messages", "users/%s/topics", "topics/%s", "topics/%s/members")
    ),
    *(("GET", "/v1/topics/%s/messages"), ("GET", "/v1/messages/%s"), ("DELETE", "/v1/messages/%s")),
    *(("DELETE", "/v1/users/%s/sessions"), ("DELETE", "/v1/users/%s"), ("PUT", "/v1/users/%s/topics/news")),
    *(("PUT", "/v1/users/alice/topics/%s"), ("DELETE", "/v1/users/alice/topics/%s"), ("DELETE", "/v1/users/%s/topics/news")),
]


@BAD_IDS
async def test_addresses_of_the_api(api: Api, bad: str) -> None:
    """400, or 404 where the path is none; nothing is written anywhere, whichever operation it is."""
    before = await _keys(api)
    for method, path in PATHS:
        answer = await api.client.request(method, path % quote(bad, safe=""))
        assert answer.status_code in {400, 404, 405}, (method, path, answer.text)
        assert answer.status_code == 400 or not bad, (method, path)
    assert await _keys(api) == before


async def _keys(api: Api) -> set[bytes]:
    prefix = api.site.settings.prefix
    return {key async for key in api.site.redis.scan_iter(match=f"{prefix}:*")}


@BAD_IDS
async def test_bodies_of_the_api(api: Api, bad: str) -> None:
    """Of a message all that holds an id, and whom else is asked about: 400, and nothing is appended."""
    messages: list[dict[str, Any]] = [
        {"to": f"user:{bad}"},
        {"to": f"topic:{bad}"},
        {"to": bad or " "},
        {"id": bad},
        {"collapse": bad},
        {"exclude": f"session:{bad}"},
        {"exclude": f"device:{bad},phone"},
        {"exclude": f"device:alice,{bad}"},
    ]
    for changed in messages:
        answer = await api.client.post("/v1/messages", json={"to": "user:alice", "text": "x"} | changed)
        assert answer.status_code == 400, (changed, answer.text)
    answer = await api.client.post("/v1/presence", json={"users": ["alice", bad]})
    assert answer.status_code == 400
    assert await api.site.redis.xlen(api.site.keys(0).intake()) == 0


@pytest.mark.parametrize("value", [{"$gt": ""}, {"$ne": None}, ["alice"], [{"$regex": ".*"}], 1, True, None, 1.5])
async def test_operators_in_the_place_of_values(api: Api, value: object) -> None:
    """What MongoDB would take for an operator is no text: 400, by the field's name."""
    for field in ("to", "text", "id", "collapse", "exclude", "ttl", "at"):
        answer = await api.client.post("/v1/messages", json={"to": "user:alice", "text": "x"} | {field: value})
        if not (field in {"ttl", "at"} and isinstance(value, int)) and not (field == "to" and value == ["alice"]):
            assert answer.status_code == 400, (field, answer.text)
    for query in ("after[$gt]=0", "limit[$ne]=1", "after=%7B%22%24gt%22%3A0%7D", "after=$where", "limit=1e9", "limit=-1"):
        answer = await api.client.get(f"/v1/users/alice/messages?{query}")
        assert answer.status_code in {200, 400}, query


async def test_operators_in_a_body_are_a_body(api: Api) -> None:
    """They are stored as the text that they are, and come back so."""
    body = {"$where": "sleep(1000)", "$set": {"seq": 0}, "a.b": 1, "": {"$gt": ""}, "_id": "user:bob x"}
    assert (await api.client.post("/v1/messages", json={"to": "user:alice", "body": body, "id": "m1"})).status_code == 202
    await api.site.settle()
    (document,) = await api.site.stored()
    assert json.loads(document["frame"])["body"] == body
    assert document["_id"] == "user:alice m1"


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_id_means_nothing_but_itself(api: Api, odd: str) -> None:
    """No pattern, no operator, no path: what is asked about one user is answered of that one."""
    assert (await api.client.post("/v1/messages", json={"to": f"user:{odd}", "text": odd, "id": "m1"})).status_code == 202
    assert (await api.client.post("/v1/messages", json={"to": "user:bob", "text": "x", "id": "m2"})).status_code == 202
    await api.site.settle()
    found = await api.get(f"/v1/users/{quote(odd, safe='')}/messages")
    assert [one["text"] for one in found["messages"]] == [odd]
    assert (await api.client.delete(f"/v1/users/{quote(odd, safe='')}")).is_success
    assert [document["target"] for document in await api.site.stored()] == ["user:bob"]


def _forged(edge: Edge, **said: object) -> str:
    """Return a token that says this, signed by auth's own key."""
    key = load_or_make(edge.settings.auth_key_file)
    now = int(time.time())
    whole = {"iss": "pushway", "aud": "pushway", "sub": "alice", "jti": "j", "iat": now, "exp": now + 60} | said
    assert set(REQUIRED) <= whole.keys()
    return jwt.encode(whole, key.private, algorithm="EdDSA", headers={"kid": key.kid})


@BAD_IDS
async def test_claims_of_a_token(edge: Edge, bad: str) -> None:
    """Though its signature is good: 4500, be it the user or a topic to subscribe. A pattern that is no id covers nothing."""
    for said in ({"sub": bad}, {"subscribe": ["news", bad]}):
        async with edge.open(_forged(edge, **said)) as client:
            assert (await client.closed())[0] == 4500
    async with edge.open(_forged(edge, topics=[bad])) as client:
        await client.welcome()
        await client.send(type="subscribe", topic="news")
        assert (await client.next())["code"] == "forbidden"


@BAD_IDS
async def test_frames_of_a_client(edge: Edge, bad: str) -> None:
    """Wherever it names something: 4504."""
    token = edge.token("alice")
    first: list[dict[str, Any]] = [
        {"device": bad},
        {"topics": ["news", bad]},
        {"since": {bad: 1}},
        {"since": {f"topic:{bad}": 1}},
    ]
    for said in first:
        async with edge.open() as client:
            await client.send(type="connect", token=token, **said)
            assert (await client.closed())[0] == 4504, said
    for said in ({"type": "subscribe", "topic": bad}, {"type": "unsubscribe", "topic": bad}):
        async with edge.open(token) as client:
            await client.welcome()
            await client.send(**said)
            assert (await client.closed())[0] == 4504, said


async def test_half_of_a_pair_is_no_text_at_any_door(edge: Edge, api: Api) -> None:
    """JSON can escape it, and nobody could write it down."""
    async with edge.open(edge.token("alice")) as client:
        await client.connection.send('{"type":"subscribe","topic":"a\\ud800"}')
        assert (await client.closed())[0] == 4504
    for said in (
        '{"to":"user:a\\ud800","text":"x"}',
        '{"to":"user:a","text":"\\ud800"}',
        '{"to":"user:a","body":{"\\udfff":1}}',
    ):
        answer = await api.client.post("/v1/messages", content=f"{{{said}}}", headers={"content-type": "application/json"})
        assert answer.status_code == 400


@BAD_IDS
def test_answers_of_a_callback(bad: str) -> None:
    """Who is no id, or shall hear of what is none, is not let in."""
    good = {"user": "alice", "expires_at": time.time() + 60}
    for said in ({"user": bad}, {"subscribe": ["news", bad]}):
        assert isinstance(read(Answer(200, {}, json.dumps(good | said).encode()), 100), TokenRefused)


COMMANDS: Final = [
    *(["route"], ["presence"], ["topics"], ["forget", "--yes"], ["disconnect"], ["members"], ["cancel"], ["trace"], ["token"]),
    *(["listen"], ["subscribe", "alice"], ["unsubscribe", "alice"]),
]


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv(f"{ENV_PREFIX}REDIS_URL", "redis://127.0.0.1:1")
        patch.setenv(f"{ENV_PREFIX}API_KEY", "k" * 40)
        yield


@BAD_IDS
@pytest.mark.usefixtures("_elsewhere")
def test_arguments_of_commands(bad: str) -> None:
    """Refused with a word, before anything is asked of anybody."""
    for words in COMMANDS:
        done = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [words[0], *words[1:], "--", bad])
        assert done.exit_code != 0, words
        assert "is not an id" in done.output or "argument" in done.output.lower(), (words, done.output)
        assert "\x1b" not in done.output
