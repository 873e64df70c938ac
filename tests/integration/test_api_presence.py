"""router.api.presence over real HTTP and a real Redis."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from router.presence import USERS_MAX
from router.shards import shard_of_id
from tests.integration.api_site import Api

pytestmark = pytest.mark.anyio

NODE: Final = "edge-1.a"
PATH: Final = "/v1/presence"
SINCE_MS: Final = 1_795_360_470_695


async def _come(api: Api, user: str, devices: str = "") -> None:
    """Have a user be online, as an edge writes it."""
    await api.route(user, NODE)
    keys = api.site.keys(shard_of_id(user, api.site.settings.shards))
    await api.site.redis.hset(keys.online(), user, str(SINCE_MS))
    await api.site.redis.hset(keys.on(NODE), user, devices)


async def _ask(api: Api, content: bytes, status: int = 200, kind: str = "application/json") -> Any:  # noqa: ANN401 - JSON
    answer = await api.client.post(PATH, content=content, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_many_users_in_the_order_asked(api_of_two: Api) -> None:
    """Each where it was asked after, twice too; who is not there has neither time nor nodes."""
    api = api_of_two
    await _come(api, "a", "phone,tab")
    await _come(api, "ü/b")
    asked = ["nobody", "ü/b", "a", "nobody"]
    found = await _ask(api, json.dumps({"users": asked}).encode())
    nobody = {"user": "nobody", "online": False, "since": None, "nodes": []}
    since = "2026-11-22T15:14:30.695Z"
    assert found["users"] == [
        nobody,
        {"user": "ü/b", "online": True, "since": since, "nodes": [{"node": NODE, "devices": []}]},
        {"user": "a", "online": True, "since": since, "nodes": [{"node": NODE, "devices": ["phone", "tab"]}]},
        nobody,
    ]


async def test_who_is_online_but_on_no_live_node_is_not(api: Api) -> None:
    """What stands of who is to be said offline is not told."""
    await _come(api, "a")
    await api.route("a", NODE, node_ms=-1)
    (found,) = (await _ask(api, b'{"users":["a"]}'))["users"]
    assert (found["online"], found["since"]) == (False, None)


async def test_as_many_as_may_be_asked_after(api: Api) -> None:
    """With the longest ids, each character escaped; one more is refused, and so is a longer request."""
    users = [f"{number:05}" + "a" * 123 for number in range(USERS_MAX)]
    escaped = ",".join('"' + "".join(f"\\u{ord(char):04x}" for char in user) + '"' for user in users)
    found = await _ask(api, f'{{"users":[{escaped}]}}'.encode())
    assert [one["user"] for one in found["users"]] == users
    assert (await _ask(api, json.dumps({"users": [*users, "a"]}).encode(), 413))["status"] == 413
    assert (await _ask(api, b" " * 9_000_000, 413))["status"] == 413
    assert await _ask(api, b'{"users":[]}') == {"users": []}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"users":"a"}', b'{"users":[1]}', b'{"users":["\\ud800"]}', b'{"users":[],"who":1}', b"\xff"],
)
async def test_what_is_no_such_request(api: Api, content: bytes) -> None:
    """400 says what is expected."""
    assert (await _ask(api, content, 400))["status"] == 400


async def test_requests_against_the_rules(api: Api) -> None:
    """400 names the place of what is no id; 415 is told of what does not say that it is JSON."""
    assert (await _ask(api, b'{"users":["a","b c"]}', 400))["field"] == "users[1]"
    await _ask(api, b"{}", 415, kind="text/plain")


async def test_online_users_page_by_page(api_of_two: Api) -> None:
    """All of every shard, each with the time."""
    api, users = api_of_two, {f"u{number}" for number in range(3_000)}
    for shard in range(2):
        there = {user: SINCE_MS for user in users if shard_of_id(user, 2) == shard}
        await api.site.redis.hset(api.site.keys(shard).online(), mapping=there)
    found: list[dict[str, str]] = []
    page = await api.get("/v1/online", limit=100)
    pages = 1
    while page["next"] is not None:
        found += page["users"]
        page = await api.get("/v1/online", after=page["next"], limit=100)
        pages += 1
    found += page["users"]
    assert pages > 4
    assert {one["user"] for one in found} == users
    assert {one["since"] for one in found} == {"2026-11-22T15:14:30.695Z"}


@pytest.mark.parametrize(
    ("field", "value"), [("after", "x"), ("after", ""), ("after", "7-0"), ("limit", 0), ("limit", 10_001), ("page", 1)]
)
async def test_pages_against_the_rules(api: Api, field: str, value: object) -> None:
    """400 names the parameter."""
    assert (await api.refused("/v1/online", **{field: value}))["field"] == field
