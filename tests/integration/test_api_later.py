"""router.api.messages of what waits for its time, over real HTTP and a real store."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from router.api import messages
from router.later import Later
from router.waiting import Waiting
from tests.integration.api_site import Api

pytestmark = pytest.mark.anyio

IN_AN_HOUR_MS: Final = (time.time_ns() // 1_000_000) + 3_600_000
PATH: Final = "/v1/messages/m"


async def _keep(api: Api, *targets: str, at_ms: int = IN_AN_HOUR_MS, key: str = "k") -> Later:
    later = Later(api.site.mongo, api.site.settings)
    await later.keep([Waiting(key, 0, "m", targets, '"text":"hi"', at_ms)])
    return later


async def _targets(api: Api) -> dict[str, Any]:
    return {one.pop("to"): one for one in (await api.get(PATH))["targets"]}


async def test_a_message_that_waits_is_told_of_and_called_back(api: Api) -> None:
    """With its time; and once it is called back, nothing waits any more."""
    await _keep(api, "user:a", "topic:b")
    found = await _targets(api)
    assert list(found) == ["user:a", "topic:b"]
    for state in found.values():
        assert state["state"] == "waiting"
        assert datetime.fromisoformat(state["at"]) == datetime.fromtimestamp(IN_AN_HOUR_MS / 1000, UTC)
        assert state.keys() == {"state", "at"}
    assert await api.ask("DELETE", PATH) == {"id": "m", "cancelled": 2, "sending": 0}
    for method in ("GET", "DELETE"):
        await api.ask(method, PATH, 404)


async def test_what_is_just_being_sent_is_not_called_back(api: Api) -> None:
    """409, as long as nothing else of it waits; what does is."""
    later = await _keep(api, "user:a", at_ms=1)
    await later.take_in_hand(0, ["k"])
    assert {target: one["state"] for target, one in (await _targets(api)).items()} == {"user:a": "sending"}
    assert (await api.ask("DELETE", PATH, 409))["field"] == "id"
    await _keep(api, "user:b", key="l")
    assert await api.ask("DELETE", PATH) == {"id": "m", "cancelled": 1, "sending": 1}


async def test_stored_for_one_while_it_waits_for_another(api: Api) -> None:
    """Each target has its own state; for what is stored, that it was being sent is of no interest."""
    await api.site.append(to="user:a,user:c", text="hi", id="m")
    await api.site.settle()
    await _keep(api, "user:a", "user:b")
    found = await _targets(api)
    assert {target: one["state"] for target, one in found.items()} == {
        "user:a": "stored",
        "user:b": "waiting",
        "user:c": "stored",
    }


async def test_what_is_stored_cannot_be_called_back(api: Api) -> None:
    """404, and it stays."""
    await api.site.append(to="user:a", text="hi", id="m")
    await api.site.settle()
    await api.ask("DELETE", PATH, 404)
    assert (await _targets(api))["user:a"]["state"] == "stored"


async def test_appended_over_http_to_wait(api: Api) -> None:
    """The fields of the producer go into the stream; who prefers to wait for the storing is not kept waiting."""
    message = {"to": ["user:a"], "text": "x", "id": "m", "at": IN_AN_HOUR_MS, "collapse": "k", "exclude": "device:a,phone"}
    answer = await api.client.post("/v1/messages", json=message, headers={"prefer": "wait=30"})
    assert (answer.status_code, "stored" in answer.json()) == (202, False)
    ((_, fields),) = await api.site.redis.xrange(api.site.keys(0).intake())
    assert fields == {name.encode(): str(value).encode() for name, value in {**message, "to": "user:a"}.items()}


async def test_more_targets_than_are_told_of(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """That there are more is told; devices are not where there are many targets."""
    monkeypatch.setattr(messages, "TARGETS_MAX", 3)
    monkeypatch.setattr(messages, "WITH_DEVICES_MAX", 1)
    await api.site.append(to="user:a,user:b", text="hi", id="m")
    await api.site.settle()
    found = await api.get(PATH)
    assert ([one["to"] for one in found["targets"]], found["more_targets"]) == (["user:a", "user:b"], False)
    assert not any("acked" in one for one in found["targets"])
    await _keep(api, "user:c", "user:d")
    found = await api.get(PATH)
    assert ([one["to"] for one in found["targets"]], found["more_targets"]) == (["user:a", "user:b", "user:c"], True)


async def test_id_against_the_rules(api: Api) -> None:
    """400 names it."""
    assert (await api.ask("DELETE", "/v1/messages/a%20b", 400))["field"] == "id"
