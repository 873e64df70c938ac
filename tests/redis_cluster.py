"""A real Redis Cluster for tests: three primaries and a replica of each, on free ports of this machine.

It is of the embedded Valkey or of Debian's redis-server. All calls block, as those of `tests.servers` do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

import redis
from redis.cluster import ClusterNode, RedisCluster

from tests.servers import DebianRedis, EmbeddedValkey, free_ports, wait_until

PRIMARIES: Final = 3
SLOTS: Final = 16_384

NODE_TIMEOUT_MS: Final = 1_500
"""A node that is silent for this long counts as failing; a failover begins soon after."""

Kind = Literal["valkey", "redis"]

_KINDS: Final[dict[Kind, type[EmbeddedValkey | DebianRedis]]] = {"valkey": EmbeddedValkey, "redis": DebianRedis}
_TIMEOUT_S: Final = 30.0


class ClusterServers:
    """The six servers.

    Args:
        folder: for their data.
        kind: whose program.
        options: further words of each command line.

    Attributes:
        servers: the primaries of the beginning, then a replica of each in the same order.
    """

    def __init__(self, folder: Path, kind: Kind, *options: str) -> None:
        self.servers = [self.make(folder / f"node-{n}", kind) for n in range(2 * PRIMARIES)]
        for server in self.servers:
            server.options = (*server.options, *_options(free_ports()), *options)

    def make(self, folder: Path, kind: Kind) -> EmbeddedValkey | DebianRedis:
        """Return a server that is not started yet."""
        return _KINDS[kind](folder)

    @property
    def url(self) -> str:
        """What `redis_url` is to say."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"redis://{hosts}/?cluster=true"

    def start(self) -> Self:
        """Start the servers, and make them a cluster."""
        self._start_all()
        for first, server in enumerate(self.servers[:PRIMARIES]):
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", *_range(first))
                for other in self.servers:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, _bus_port(other))
        wait_until(
            lambda: all(len(nodes(server)) == 2 * PRIMARIES for server in self.servers), "all know each other", _TIMEOUT_S
        )
        for primary, replica in zip(self.servers, self.servers[PRIMARIES:], strict=False):
            with replica.client() as client:
                client.execute_command("CLUSTER REPLICATE", _id(primary))
        self.wait_whole()
        return self

    def restart(self) -> None:
        """End all servers calmly at once, and start them anew on what they had written."""
        for server in self.servers:
            server.stop()
        self._start_all()

    def end(self) -> None:
        """Kill what runs."""
        for server in self.servers:
            if server.launched and not server.ended:
                server.kill()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def client(self) -> RedisCluster:
        """Return a blocking client; close it."""
        running = [server for server in self.servers if not server.ended]
        starts = [ClusterNode("127.0.0.1", server.port) for server in running]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=starts, protocol=2)

    def primary_of(self, slot: int) -> EmbeddedValkey | DebianRedis:
        """Return the server that has a slot, as most of those that run say."""
        votes = [_owner(server, slot) for server in self.servers if not server.ended]
        port = max({*votes}, key=votes.count)
        return next(server for server in self.servers if server.port == port)

    def another_primary(self, primary: EmbeddedValkey | DebianRedis) -> EmbeddedValkey | DebianRedis:
        """Return a primary that is not this one."""
        firsts = [self.primary_of(_range(n)[0]) for n in range(PRIMARIES)]
        return next(server for server in firsts if server is not primary)

    def replica_of(self, primary: EmbeddedValkey | DebianRedis) -> EmbeddedValkey | DebianRedis:
        """Return a server that runs and follows another."""
        wanted = _id(primary)
        return next(server for server in self.servers if not server.ended and _myself(server)[3] == wanted)

    def fail_over(self, slot: int) -> None:
        """Have a replica take a slot's primary's place, in agreement with it; return when all know."""
        primary = self.primary_of(slot)
        replica = self.replica_of(primary)
        with replica.client() as client:
            client.execute_command("CLUSTER FAILOVER")
        self.wait_primary(slot, replica)

    def wait_primary(self, slot: int, server: EmbeddedValkey | DebianRedis) -> None:
        """Return when all that run say that a server has a slot."""
        running = [one for one in self.servers if not one.ended]
        wait_until(lambda: all(_owner(one, slot) == server.port for one in running), f"{slot} has moved", _TIMEOUT_S)

    def wait_whole(self) -> None:
        """Return when every server says that all is well, and every replica follows."""
        try:
            wait_until(lambda: all(_is_well(server) for server in self.servers), "the cluster is whole", _TIMEOUT_S)
        except AssertionError as exc:
            told = [f"{one.port} {_is_well(one)}\n" + "\n".join(map(" ".join, nodes(one))) for one in self.servers]
            raise AssertionError("\n".join((str(exc), *told))) from None

    def move(self, slot: int, to: EmbeddedValkey | DebianRedis, between: Callable[[], None] = lambda: None) -> None:
        """Move a slot to another primary key by key, as redis-cli --cluster reshard does; `between` is called half-way."""
        origin = self.primary_of(slot)
        with origin.client() as source, to.client() as target:
            target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", _id(origin))
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", _id(to))
            between()
            while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                source.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, "KEYS", *keys)
            for client in (target, source):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", _id(to))
        self.wait_primary(slot, to)

    def move_at_once(self, slot: int, to: EmbeddedValkey | DebianRedis) -> None:
        """Move a slot to another primary as one step, which Valkey 9 can."""
        with self.primary_of(slot).client() as source:
            source.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", _id(to))
        self.wait_primary(slot, to)

    def _start_all(self) -> None:
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_ready()


def _options(bus_port: int) -> tuple[str, ...]:
    return (
        *("--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
        *("--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"),
        *("--repl-diskless-sync-delay", "0", "--repl-diskless-load", "swapdb"),
    )


def _bus_port(server: EmbeddedValkey | DebianRedis) -> int:
    return int(server.options[server.options.index("--cluster-port") + 1])


def _range(first: int) -> tuple[int, int]:
    return first * SLOTS // PRIMARIES, (first + 1) * SLOTS // PRIMARIES - 1


def nodes(server: EmbeddedValkey | DebianRedis) -> Sequence[list[str]]:
    """Return CLUSTER NODES as a server sees it: the words of each line."""
    with server.client() as client, suppress(redis.RedisError):
        client.set_response_callback("CLUSTER NODES", lambda reply, **_: reply)
        told: bytes = client.execute_command("CLUSTER NODES")
        return [line.split() for line in told.decode().splitlines()]
    return []


def _myself(server: EmbeddedValkey | DebianRedis) -> list[str]:
    return next((words for words in nodes(server) if "myself" in words[2]), ["", "", "", ""])


def _id(server: EmbeddedValkey | DebianRedis) -> str:
    return _myself(server)[0]


def _owner(server: EmbeddedValkey | DebianRedis, slot: int) -> int:
    """Return the port of a slot's primary as a server sees it; 0 where it sees none."""
    for words in nodes(server):
        for part in words[8:]:
            first, _, last = part.partition("-")
            if first.isdigit() and int(first) <= slot <= int(last or first):
                return int(words[1].partition("@")[0].rpartition(":")[2])
    return 0


def _is_well(server: EmbeddedValkey | DebianRedis) -> bool:
    told = nodes(server)
    with server.client() as client:
        try:
            info: Any = client.info("replication")
            state: Any = client.execute_command("CLUSTER INFO")
        except redis.RedisError:
            return False
    follows = info["role"] == "master" or info["master_link_status"] == "up"
    roles = [words[2].replace("myself,", "") for words in told]
    return follows and state["cluster_state"] == "ok" and sorted(roles) == ["master"] * PRIMARIES + ["slave"] * PRIMARIES
