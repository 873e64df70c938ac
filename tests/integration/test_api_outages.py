"""Every operation that asks Redis or MongoDB, while one of them is away."""

from __future__ import annotations

from typing import Final

import pytest

from tests.integration.api_site import serving
from tests.integration.site import Site
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

ASK_REDIS: Final = (
    ("DELETE", "/v1/users/a/sessions"),
    ("GET", "/v1/topics/a"),
    ("GET", "/v1/topics/a/members"),
    ("GET", "/v1/online"),
    ("POST", "/v1/presence"),
    ("PUT", "/v1/users/a/topics/b"),
    ("DELETE", "/v1/users/a/topics/b"),
    ("GET", "/v1/nodes"),
    ("GET", "/v1/messages/m"),  # which is not stored: perhaps it is a dead letter
)
ASK_MONGO: Final = (
    ("GET", "/v1/topics/a"),  # which has no counter in Redis
    ("GET", "/v1/users/a/messages"),
    ("GET", "/v1/topics/a/messages"),
    ("GET", "/v1/all/messages"),
    ("GET", "/v1/users/a/topics"),
    ("PUT", "/v1/users/a/topics/b"),
    ("DELETE", "/v1/users/a/topics/b"),
    ("GET", "/v1/messages/m"),
    ("DELETE", "/v1/messages/m"),
)


@pytest.mark.parametrize(("server", "asks"), [("redis", ASK_REDIS), ("mongo", ASK_MONGO)])
async def test_a_server_is_away(site: Site, server: str, asks: tuple[tuple[str, str], ...]) -> None:
    """503 says which, and when to try again; whatever asks only the other one goes on."""
    nowhere = f"127.0.0.1:{free_ports()}"
    urls = {"redis": f"redis://{nowhere}/0", "mongo": f"mongodb://{nowhere}/?directConnection=true"}
    changes = {f"{server}_url": urls[server], "mongo_timeout_s": 0.5, "redis_timeout_s": 0.5}
    site.settings = site.settings.model_copy(update=changes)
    name = {"redis": "Redis", "mongo": "MongoDB"}[server]
    async with serving(site) as api:
        for method, path in {*ASK_REDIS, *ASK_MONGO}:
            answer = await api.client.request(method, path, json={"users": ["a"]} if method == "POST" else None)
            if (method, path) not in asks:
                assert answer.status_code in {200, 202, 404}, (path, answer.text)
                continue
            assert (answer.status_code, answer.headers.get("retry-after")) == (503, "2"), (path, answer.text)
            assert name in answer.json()["detail"] or "it is written" in answer.json()["detail"]
