"""router.api.history over real HTTP and a real store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from router.api import history
from tests.integration.api_site import Api

pytestmark = pytest.mark.anyio

ADDRESSES: Final = {"user:a": "/v1/users/a/messages", "topic:a": "/v1/topics/a/messages", "all": "/v1/all/messages"}
"""Where the history of each kind of target stands."""


async def test_messages_page_by_page(api: Api) -> None:
    """Each as it was stored, byte for byte, in the order of seqs, none twice and none left out."""
    bodies = ['{"z":1.0,"a":[1e400]}', '"ü"', "12345678901234567890", "null", "[]"]
    for body in bodies:
        await api.site.append(to="user:a,user:b", body=body)
    await api.site.settle()
    stored = sorted((one for one in await api.site.stored() if one["target"] == "user:a"), key=lambda one: one["seq"])
    raw = (await api.client.get("/v1/users/a/messages")).content.decode()
    assert raw == f'{{"user":"a","messages":[{",".join(one["frame"] for one in stored)}],"next":null}}'
    seqs, after = [], 0
    while after is not None:
        page = await api.get("/v1/users/a/messages", after=after, limit=2)
        assert len(page["messages"]) <= 2
        seqs += [message["seq"] for message in page["messages"]]
        after = page["next"]
    assert seqs == [one["seq"] for one in stored]


async def test_expired_messages_are_left_out(api: Api) -> None:
    """A page of them is empty, and says where to go on."""
    for text in ("old", "older", "new"):
        await api.site.append(to="user:a", text=text)
    await api.site.settle()
    stored = sorted(await api.site.stored(), key=lambda one: int(one["seq"]))
    over = {"$set": {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}}
    await api.site.documents.update_many({"seq": {"$lte": stored[1]["seq"]}}, over)
    page = await api.get("/v1/users/a/messages", limit=2)
    assert page == {"user": "a", "messages": [], "next": stored[1]["seq"]}
    page = await api.get("/v1/users/a/messages", after=page["next"], limit=2)
    assert (page["messages"], page["next"]) == ([json.loads(stored[2]["frame"])], None)


async def test_page_is_no_longer_than_its_bytes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends behind the message that takes it past them."""
    monkeypatch.setattr(history, "PAGE_MAX_BYTES", 200)
    for _ in range(4):
        await api.site.append(to="user:a", text="x" * 60)
    await api.site.settle()
    page = await api.get("/v1/users/a/messages")
    assert len(page["messages"]) == 2
    assert len((await api.get("/v1/users/a/messages", after=page["next"]))["messages"]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("after", "-1"), ("after", 2**53), ("after", "1e3"), ("after", "٣"), ("limit", 0), ("limit", 1001), ("limit", "")],
)
async def test_numbers_against_the_rules(api: Api, name: str, value: object) -> None:
    """400 names the parameter and what it takes."""
    problem = await api.refused("/v1/users/a/messages", **{name: value})
    assert problem["field"] == name
    assert "a whole number from" in problem["detail"]


async def test_history_of_every_kind_of_target(api: Api) -> None:
    """Each its own, of the same shape; a topic is named, and all is not."""
    await api.site.append(to="user:a,topic:a,all,topic:b", text="hi")
    await api.site.settle()
    frames = {one["target"]: json.loads(one["frame"]) for one in await api.site.stored()}
    for target, path in ADDRESSES.items():
        named = {} if target == "all" else {target.partition(":")[0]: "a"}
        assert await api.get(path) == {**named, "messages": [frames[target]], "next": None}


@pytest.mark.parametrize(("path", "field"), [("/v1/users/a%2Cb/messages", "user"), ("/v1/topics/a%20b/messages", "topic")])
async def test_names_against_the_rules(api: Api, path: str, field: str) -> None:
    """400 names the field."""
    assert (await api.refused(path))["field"] == field
