"""Redis and MongoDB over TLS, on real servers: who shows another name, or what another CA signed, is not talked to."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge.subscriber import Subscriber
from router.commands.reach import NotReached, redis_at_hand
from router.commands.reach_mongo import mongo_at_hand
from router.doctor.examination import examine
from router.doctor.findings import Severity
from router.own_connection import OwnConnection, pack
from router.redis_client import open_redis
from router.settings import Settings
from tests.certificates import Authority
from tests.integration.edges import PROMPT_S, eventually
from tests.servers import DebianRedis
from tests.tls_servers import TlsRedis, TlsStore

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not DebianRedis.available(), reason="no redis-server here"),
    # MongoDB's driver leaves a socket whose TLS handshake has failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _leave_no_sockets() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the CA of both servers."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def redis_over_tls(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsRedis]:
    """Yield a Redis whose certificate is for localhost."""
    with TlsRedis(tmp_path_factory.mktemp("redis"), authority) as server:
        yield server


@pytest.fixture(scope="module")
def store_over_tls(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsStore]:
    """Yield a store whose certificate is for localhost."""
    with TlsStore(tmp_path_factory.mktemp("store"), authority) as server:
        yield server


def _settings(redis: TlsRedis, store: TlsStore, ca: Path, **changes: Any) -> Settings:  # noqa: ANN401 - settings
    own: dict[str, Any] = {"redis_url": redis.url, "mongo_url": store.url, "redis_ca_file": str(ca), "mongo_ca_file": str(ca)}
    return Settings(**{"prefix": f"test-{uuid.uuid4().hex}", "mongo_timeout_s": 2.0} | own | changes)


async def test_redis_over_tls(redis_over_tls: TlsRedis, store_over_tls: TlsStore, authority: Authority) -> None:
    """The driver's connections, one that is kept, and the edge's own subscriber."""
    settings = _settings(redis_over_tls, store_over_tls, authority.file)
    heard: list[bytes] = []
    subscribed = anyio.Event()
    subscriber = Subscriber(settings, ["channel"], heard.extend, subscribed.set)
    async with redis_at_hand(settings) as redis, anyio.create_task_group() as tasks:
        own = OwnConnection(redis, "push:config")
        await own.send(pack("SET", "k", "x" * 100_000), 1)
        assert await own.receive() in {b"OK", True}
        assert await redis.strlen("k") == 100_000
        tasks.start_soon(subscriber.run)
        with anyio.fail_after(PROMPT_S):
            await subscribed.wait()
        await redis.execute_command("SPUBLISH", "channel", "hello")  # type: ignore[no-untyped-call]  # of the driver
        await eventually(lambda: heard)
        tasks.cancel_scope.cancel()
    assert heard == [b"hello"]


async def test_mongodb_over_tls(redis_over_tls: TlsRedis, store_over_tls: TlsStore, authority: Authority) -> None:
    """The driver finds the server, and its name is the certificate's."""
    async with mongo_at_hand(_settings(redis_over_tls, store_over_tls, authority.file)) as mongo:
        assert await mongo.admin.command("ping")


async def test_another_name_is_refused(redis_over_tls: TlsRedis, store_over_tls: TlsStore, authority: Authority) -> None:
    """Though the CA is right, the server may be any that it has signed for."""
    elsewhere = {"redis_url": f"rediss://127.0.0.1:{redis_over_tls.port}/0"}
    elsewhere["mongo_url"] = store_over_tls.url.replace("localhost", "127.0.0.1")
    settings = _settings(redis_over_tls, store_over_tls, authority.file, **elsewhere)
    with pytest.raises(NotReached, match=r"not to be trusted \(its certificate is for another name: .*127\.0\.0\.1.*redis_url"):
        async with redis_at_hand(settings):
            pass
    with pytest.raises(NotReached, match=r"not to be trusted \(its certificate is for another name: .*127\.0\.0\.1.*mongo_url"):
        async with mongo_at_hand(settings) as mongo:
            await mongo.admin.command("ping")


async def test_another_ca_is_refused(redis_over_tls: TlsRedis, store_over_tls: TlsStore, tmp_path: Path) -> None:
    """Also by the edge's own subscriber, which never subscribes."""
    settings = _settings(redis_over_tls, store_over_tls, Authority(tmp_path, "other").file, backoff_max_ms=100)
    with pytest.raises(NotReached, match=r"its certificate is not trusted: .*redis_ca_file names the CA"):
        async with redis_at_hand(settings):
            pass
    with pytest.raises(NotReached, match=r"its certificate is not trusted: .*mongo_ca_file names the CA"):
        async with mongo_at_hand(settings) as mongo:
            await mongo.admin.command("ping")
    subscriber = Subscriber(settings, ["channel"], lambda _: None, lambda: pytest.fail("it subscribed"))
    with anyio.move_on_after(0.5):
        await subscriber.run()


async def test_machine_s_trust_store_is_the_default(redis_over_tls: TlsRedis, store_over_tls: TlsStore) -> None:
    """Without a CA file nobody's own CA is trusted, and doctor says what is wrong of each."""
    settings = _settings(redis_over_tls, store_over_tls, Path(), redis_ca_file="", mongo_ca_file="")
    examined = await examine(settings, None, lambda _group, _what: None)
    told = {one.group: [found.seen for found in one.findings if found.severity is Severity.ERROR] for one in examined}
    assert "certificate" in told["Redis"][0]
    assert "certificate" in told["MongoDB"][0]


async def test_verification_may_be_off_on_one_machine(redis_over_tls: TlsRedis, store_over_tls: TlsStore) -> None:
    """As for a server in a container on it, which has signed its own certificate."""
    url = f"{redis_over_tls.url}?ssl_cert_reqs=none"
    async with open_redis(_settings(redis_over_tls, store_over_tls, Path(), redis_url=url, redis_ca_file="")) as redis:
        assert await redis.ping()
