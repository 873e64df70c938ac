"""router.doctor.hardening on real servers: what users may too much is found, and nothing is run for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from router.doctor.findings import Finding, Severity
from router.doctor.hardening import examine
from router.redis_client import open_redis
from router.settings import Settings
from tests.guarded import KINDS, ROOT, GuardedRedis
from tests.servers import DebianRedis, EmbeddedValkey

pytestmark = pytest.mark.anyio


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GuardedRedis]:
    """Yield a server with our users, of each kind."""
    if request.param == "redis-server" and not DebianRedis.available():
        pytest.skip("no redis-server here")
    with GuardedRedis(tmp_path, request.param) as server:
        yield server


async def _found(url: str) -> list[Finding]:
    settings = Settings(api_key="k" * 32, redis_url=url)
    async with open_redis(settings) as redis:
        return await examine(redis, settings)


async def test_our_users_may_nothing_too_much(server: GuardedRedis) -> None:
    """Asked by an operator or by whoever may do everything; a service may not ask, and doctor says so."""
    for user in ("pushway-operator", ROOT):
        assert [finding.severity for finding in await _found(server.url_of(user))] == [Severity.OK]
    (told,) = await _found(server.url_of("pushway-edge"))
    assert told.severity is Severity.NOTE
    assert "as pushway-edge" in told.seen


async def test_a_user_who_may_more_is_found(server: GuardedRedis) -> None:
    """With what it may; it is asked of the server, and not done."""
    with server.client() as client:
        client.execute_command("ACL SETUSER", "pushway-edge", "+flushall", "(+xadd ~push:{*}:out)")
        client.set("kept", "1")
    (told,) = await _found(server.url_of("pushway-operator"))
    assert told.severity is Severity.WARNING
    assert "pushway-edge" in told.seen
    assert "FLUSHALL, XADD push:{0}:out" in told.seen
    with server.client() as client:
        assert client.exists("kept")
        assert not client.exists("push:{0}:out")


async def test_a_redis_without_passwords_is_a_note_on_this_machine(valkey_server: EmbeddedValkey) -> None:
    """As under `up`."""
    (told,) = await _found(valkey_server.url)
    assert told.severity is Severity.NOTE
    assert "nobody for a password" in told.seen
