"""A Redis Cluster that is spoken to by TLS alone, by services that are the users of deploy/redis/users.acl."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from router.cluster_redis import slot_of
from router.redis_users import USERS, acl_lines
from router.shards import shard_of_id
from tests.certificates import Authority
from tests.e2e.flowing import QUICK, flowing
from tests.redis_cluster import ClusterServers, Kind
from tests.servers import DebianRedis
from tests.stack import Stack
from tests.tls_servers import TlsRedis

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not DebianRedis.available(), reason="no redis-server here"),
]

SHARDS: Final = 4
SERVICES: Final = ("auth", "collect", "dispatch", "edge-1", "edge-2")


class GuardedCluster(ClusterServers):
    """The six servers, which speak TLS to everybody, each other included. The user without a password is the test's.

    Args:
        folder: for their data.
        authority: signs their certificate.
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._authority = authority
        folder.mkdir(parents=True)
        acl_file = folder / "users.acl"
        digests = {user.name: sha256(user.name.encode()).hexdigest() for user in USERS}
        users = [line for line in acl_lines("push", digests) if not line.startswith("user default")]
        acl_file.write_text("\n".join([*users, "user default on nopass ~* &* +@all", ""]), encoding="utf-8")
        among_them = ("--tls-cluster", "yes", "--tls-replication", "yes", "--tls-ca-cert-file", str(authority.file))
        super().__init__(folder, "redis", "--aclfile", str(acl_file), *among_them)

    def make(self, folder: Path, kind: Kind) -> DebianRedis:
        """Return a server behind a certificate."""
        del kind
        return TlsRedis(folder, self._authority, "localhost", "127.0.0.1")

    def tls_url(self, user: str = "") -> str:
        """Return what `redis_url` of a user is to say, whose password is its name."""
        who = f"{user}:{user}@" if user else ""
        return f"rediss://{who}{','.join(f'127.0.0.1:{server.port}' for server in self.servers[:2])}/?cluster=true"

    def refused(self) -> list[str]:
        """Return what users were refused so far."""
        told: list[str] = []
        for server in self.servers:
            with server.client() as client:
                log: Any = client.acl_log()
            told += [" ".join(str(one[name]) for name in ("username", "reason", "object")) for one in log]
        return told


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GuardedCluster, Stack]]:
    """Yield the cluster, and the whole system on it."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    with GuardedCluster(folder / "cluster", authority) as cluster:
        settings = {**QUICK, "shards": SHARDS, "redis_ca_file": str(authority.file)}
        stack = Stack(folder / "stack", redis_url=cluster.tls_url(), settings=settings)
        for name in SERVICES:
            stack.set(name, redis_url=cluster.tls_url(f"pushway-{name.partition('-')[0]}"))
        with stack:
            yield cluster, stack


async def test_messages_flow_while_a_primary_dies(site: tuple[GuardedCluster, Stack]) -> None:
    """In every shard, in order and once; the replica that takes over is reached as safely; nothing needed is refused."""
    cluster, stack = site
    async with flowing(stack, "guarded") as traffic:
        slot = slot_of(f"push:{{{shard_of_id(traffic.seats[0].user, SHARDS)}}}:in")
        primary = await anyio.to_thread.run_sync(cluster.primary_of, slot)
        replica = await anyio.to_thread.run_sync(cluster.replica_of, primary)
        primary.kill()
        await anyio.to_thread.run_sync(cluster.wait_primary, slot, replica)
        await traffic.flows()
        primary.start()
    await anyio.to_thread.run_sync(cluster.wait_whole)
    assert cluster.refused() == []
