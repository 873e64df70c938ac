"""router.api.sessions over real HTTP and a real Redis."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from router.kick import REASON
from router.shards import shard_of_id
from tests.integration.api_site import Api

pytestmark = pytest.mark.anyio

NODE: Final = "edge-1.a"
PATH: Final = "/v1/users/a/sessions"


@asynccontextmanager
async def _told(api: Api) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Yield what returns the next line that the node of user `a` is told."""
    await api.route("a", NODE)
    keys = api.site.keys(shard_of_id("a", api.site.settings.shards))
    async with api.site.redis.pubsub() as pubsub:
        await pubsub.ssubscribe(keys.node_channel(NODE))

        async def line() -> Any:  # noqa: ANN401 - JSON
            with anyio.fail_after(60):
                while (message := await pubsub.get_message(timeout=1.0)) is None or message["type"] != "smessage":
                    pass
            assert message["data"].startswith(b"kicked - - - ")
            return json.loads(message["data"].split(b" ", 4)[4])

        yield line


async def test_sessions_are_ended_where_they_are(api_of_two: Api) -> None:
    """202 with the nodes that were told: those of live routes, in the user's own shard. A second time is as good."""
    api = api_of_two
    await api.route("a", "edge-2.b", route_ms=-1)
    async with _told(api) as line:
        for _ in range(2):
            assert await api.ask("DELETE", PATH, 202) == {"user": "a", "nodes": [NODE]}
            assert await line() == {"user": "a", "code": 4502, "reason": REASON}


async def test_code_reason_and_whom_are_chosen(api: Api) -> None:
    """They go to the nodes as they are."""
    async with _told(api) as line:
        wanted = {"code": 4999, "reason": 'signed out: "ü" 🙂', "device": "phone", "session": "3f"}
        await api.ask("DELETE", PATH, 202, **wanted)
        assert await line() == {"user": "a", **wanted}
        await api.ask("DELETE", PATH, 202, code=4000, reason="")
        assert await line() == {"user": "a", "code": 4000, "reason": ""}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("code", 3999), ("code", 5000), ("code", "4502.0"), ("code", "")),
        *(("reason", "ü" * 62), ("reason", "a\nb"), ("device", ""), ("device", "a b"), ("session", "a,b"), ("who", "a")),
    ],
)
async def test_wishes_against_the_rules(api: Api, field: str, value: object) -> None:
    """400 names the parameter, and nobody is told."""
    assert (await api.ask("DELETE", PATH, 400, **{field: value}))["field"] == field


async def test_nobody_is_there_to_be_kicked(api: Api) -> None:
    """That is as good."""
    assert await api.ask("DELETE", PATH, 202) == {"user": "a", "nodes": []}
