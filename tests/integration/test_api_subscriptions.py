"""router.api.subscriptions over real HTTP, a real Redis and a real store."""

from __future__ import annotations

import pytest

from router.redis_client import open_redis
from tests.integration.api_site import Api, serving
from tests.integration.site import Site

pytestmark = pytest.mark.anyio

TOPICS = "/v1/users/a/topics"


async def test_subscribing_and_unsubscribing_may_be_repeated(api: Api) -> None:
    """201 says that it is new; what stands is told in the order of its coming; removing what is not there is as good."""
    assert await api.get(TOPICS) == {"user": "a", "topics": []}
    for status in (201, 200):
        assert await api.ask("PUT", f"{TOPICS}/n%2Fews", status) == {"user": "a", "topic": "n/ews"}
    await api.ask("PUT", f"{TOPICS}/sport", 201)
    assert await api.get(TOPICS) == {"user": "a", "topics": ["n/ews", "sport"]}
    for _ in range(2):
        answer = await api.client.delete(f"{TOPICS}/n%2Fews")
        assert (answer.status_code, answer.content) == (204, b"")
    assert await api.get(TOPICS) == {"user": "a", "topics": ["sport"]}


async def test_as_many_as_may_stand(site: Site) -> None:
    """409 for one more, with the rule; what stands is as good as before."""
    site.settings = site.settings.model_copy(update={"subscriptions_user_max": 2})
    async with serving(site) as api:
        for topic in ("1", "2"):
            await api.ask("PUT", f"{TOPICS}/{topic}", 201)
        problem = await api.ask("PUT", f"{TOPICS}/3", 409)
        assert (problem["field"], "subscriptions_user_max" in problem["detail"]) == ("topic", True)
        await api.ask("PUT", f"{TOPICS}/2", 200)


@pytest.mark.parametrize(("path", "field"), [("/v1/users/a%20b/topics/c", "user"), ("/v1/users/a/topics/b%2Cc", "topic")])
async def test_names_against_the_rules(api: Api, path: str, field: str) -> None:
    """400 names the field."""
    for method in ("PUT", "DELETE"):
        assert (await api.ask(method, path, 400))["field"] == field


async def test_who_could_not_be_told(api: Api) -> None:
    """503 says that it is written, and when to repeat it."""
    async with open_redis(api.site.settings) as redis:
        await redis.set(api.site.keys(0).route("a"), "no sorted set")
    answer = await api.client.put(f"{TOPICS}/news")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "it is written" in answer.json()["detail"]
    assert (await api.client.delete(f"{TOPICS}/news")).status_code == 503
    assert await api.get(TOPICS) == {"user": "a", "topics": []}
