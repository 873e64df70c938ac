"""Opening Redis, and refusing one that is not fit for the work.

Replies are asked for in RESP2, whose shapes do not depend on the driver's version. The driver's own retries are off: a
script that was cut off may have run, and only its caller knows how to find out.
"""

from __future__ import annotations

from ssl import SSLContext
from typing import Any, ClassVar, Final, cast
from urllib.parse import urlsplit

import anyio
import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from router.cluster_redis import ClusterRedis, every_primary, open_cluster
from router.errors import SetupError
from router.keys import config_key
from router.redis_url import read_url
from router.refusals import asked_with, explained, is_refusal
from router.replies import Replies
from router.sentinels import open_watched
from router.settings import Settings
from router.timed_redis import TimedRedis
from router.tls.trust import redis_trust
from router.waiting_pool import WaitingPool

SCHEMA: Final = 1
"""Version of the keys' layout. Schema n and n - 1 run together."""

OUTAGE: Final = (RedisError, OSError)
"""What a call to Redis raises when Redis is away, starting, full, failing over or refusing: back off and try again."""

CLOSE_TIMEOUT_S: Final = 1.0
"""How long a connection that closes waits until its last bytes have gone out, to a Redis that may read nothing any more."""

_MIN_REDIS: Final = (7, 0)
_MIN_VALKEY: Final = (7, 2)

_CONNECTIONS: Final = 16
_CONNECTIONS_A_SHARD: Final = 3
"""An owner works or waits on one, renews its lease on another, and looks at what waits on the third."""

_AT_ONCE_MAX: Final = 16_384
"""Bytes that fit into an empty socket, whatever the system."""

_HEAD_PARTS: Final = 2
_HEAD_MAX: Final = 96
"""Of what was sent last, parts and bytes that are remembered, so that a refusal can say of what."""

# Valkey gives its own number in valkey_version, and the Redis it is compatible with in redis_version.


class _ToPrimary(AbstractConnection):
    """A connection that is given up when its server turns out to be a replica, or when it has been reset.

    To the driver READONLY is an answer like any other, and it would keep asking the same server when the address has long
    moved to a new primary.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the driver's own
        super().__init__(**options)
        # It would tell the server its name and version (CLIENT SETINFO). Redis 7.0 does not know that, and so cannot allow it
        # to a user. What the driver calls them depends on its version.
        self.driver_info = self.lib_name = self.lib_version = None
        self._sent = b""
        self._replies: Replies | None = None

    def pack_command(self, *args: Any) -> list[bytes]:  # noqa: ANN401 - the driver's signature
        """Return a command in the protocol: in one go, where the driver would make a new text for every argument."""
        try:
            return [hiredis.pack_command((*args[0].encode().split(), *args[1:]))]
        except (AttributeError, TypeError):  # a name in bytes; what the driver alone can write, or refuses
            packed: list[bytes] = super().pack_command(*args)
            return packed

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: ANN401 - the driver's signature
        self._sent = (command if type(command) is bytes else b"".join(command[:_HEAD_PARTS]))[:_HEAD_MAX]
        if type(command) is bytes and not check_health and self._replies is None and self._writer is not None:
            # Of a connection that somebody keeps for himself (router/own_connection.py).
            self._replies = Replies(self._writer.transport, cast(float, self.socket_timeout))
        try:
            if self._replies is not None and self._writer is not None and len(command) <= _AT_ONCE_MAX:
                # It has nothing else under way, so this goes into the socket at once. The driver would time the write, which
                # costs as much as the write.
                self._writer.write(command)
            else:
                await super().send_packed_command(command, check_health=check_health)
        except RuntimeError as exc:
            # uvloop's answer to a write on a connection that was reset while nobody read from it. The driver has dropped the
            # connection by now, but takes this for a mistake of ours.
            raise RedisConnectionError(str(exc)) from exc

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the driver's signature
        try:
            if self._replies is None:
                return await super().read_response(*args, **kwargs)
            return await self._next(self._replies)
        except ReadOnlyError:
            await self.disconnect(nowait=True)
            raise
        except ResponseError as exc:
            if not is_refusal(exc):
                raise
            raise explained(exc, getattr(self, "username", None), asked_with(self._sent)) from None

    async def _next(self, replies: Replies) -> Any:  # noqa: ANN401 - a command's reply
        """Return the next reply; whatever comes in its place but an error of the command ends the connection."""
        try:
            reply = await replies.next()
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the driver's signature
        self._replies = None
        # The driver begins with closing. A limit around many of these could be over, on a busy machine, before the first began.
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await super().disconnect(*args, **kwargs)


class _Trusting(AbstractConnection):
    """A connection over TLS in a context of ours.

    The driver makes a context for each connection, which reads the machine's trust store every time, and trusts that beside
    whatever CA it is told to.
    """

    trust: ClassVar[SSLContext]

    def _connection_arguments(self) -> Any:  # noqa: ANN401 - the driver's signature
        return {**super()._connection_arguments(), "ssl": self.trust}  # type: ignore[misc]  # of the class beside this one


def open_redis(settings: Settings) -> Redis:
    """Return a client that has not connected yet: of a server, of a Cluster, or of the primary that sentinels tell of.

    Raises:
        SetupError: when a file of certificates cannot be used.
    """
    url = read_url(settings.redis_url)
    # The driver takes it for a mistake where there is no TCP.
    over_tcp = {} if settings.redis_url.startswith("unix:") else {"socket_keepalive": True}
    pool = WaitingPool.from_url(
        url.driver_url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=settings.redis_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        client_name="pushway",
        max_connections=_CONNECTIONS + _CONNECTIONS_A_SHARD * settings.shards,
        wait_timeout_s=settings.redis_timeout_s,
        **over_tcp,
    )
    trust = redis_trust(settings)
    over_tls: tuple[type, ...] = () if trust is None else (_Trusting,)
    pool.connection_class = type("ToPrimary", (_ToPrimary, *over_tls, pool.connection_class), {"trust": trust})
    if url.cluster:
        return open_cluster(url.addresses, pool, config_key(settings.prefix))
    return open_watched(url, pool) if url.sentinel else TimedRedis.from_pool(pool)


async def check_redis(redis: Redis, settings: Settings) -> None:
    """Refuse a server that is too old, that may evict, or that was set up for other shards.

    Raises:
        SetupError: with what to do about it.
        RedisError: when the server cannot be asked.
    """
    for server in await every_primary(redis):
        info: dict[str, Any] = await server.info()
        check_version(info)
        _check_policy(info, settings)
        if info.get("cluster_enabled") and not isinstance(redis, ClusterRedis):
            raise SetupError(f"{server_name(settings)} is a node of a Redis Cluster: add ?cluster=true to redis_url.")
    await _check_config(redis, settings)


def _check_policy(info: dict[str, Any], settings: Settings) -> None:
    # A managed Redis may forbid CONFIG GET, but INFO tells the policy too.
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise SetupError(
            f"maxmemory-policy of {server_name(settings)} is {policy}: it would evict routes, counters and messages. "
            "Set it to noeviction (CONFIG SET maxmemory-policy noeviction)."
        )


def check_version(info: dict[str, Any]) -> None:
    """Refuse a server that is too old, by what its INFO says.

    Raises:
        SetupError: with what is needed.
    """
    name, text, least = (
        ("Valkey", info["valkey_version"], _MIN_VALKEY)
        if "valkey_version" in info
        else ("Redis", info["redis_version"], _MIN_REDIS)
    )
    if tuple(int(part) for part in text.split(".")[:2]) < least:
        raise SetupError(f"{name} {text} is too old: {name} {least[0]}.{least[1]} or newer is needed (sharded pub/sub).")


async def _check_config(redis: Redis, settings: Settings) -> None:
    key = config_key(settings.prefix)
    # Only read where it stands: a Redis at maxmemory refuses writes, and needs the very services that ask here to drain it.
    shards, schema, resharding = await redis.hmget(key, ["shards", "schema", "resharding"])
    refuse_resharding(key, resharding)
    if shards is None or schema is None:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hsetnx(key, "shards", str(settings.shards))
            pipe.hsetnx(key, "schema", str(SCHEMA))
            pipe.hmget(key, ["shards", "schema"])
            *_, (shards, schema) = await pipe.execute()
    if int(shards) != settings.shards:
        raise SetupError(
            f"{key} says shards={int(shards)}, this process is set to shards={settings.shards}. Messages would go where "
            f"nobody looks: set shards={int(shards)}, or use another prefix."
        )
    if int(schema) not in {SCHEMA, SCHEMA - 1}:
        raise SetupError(f"{key} says schema={int(schema)}; this version works with {SCHEMA - 1} and {SCHEMA}.")


def refuse_resharding(key: str, resharding: bytes | str | None) -> None:
    """Refuse a system that is on its way to another number of shards.

    Args:
        key: of the prefix' `config`.
        resharding: what stands there under this name.

    Raises:
        SetupError: with what to do about it.
    """
    if resharding is not None:
        to = int(resharding)
        raise SetupError(
            f"{key} says that it is being taken to {to} shards: finish that (`pushway reshard --to {to}`), then start."
        )


def server_name(settings: Settings) -> str:
    """Return where Redis is, for people: without user, password and options."""
    url = urlsplit(settings.redis_url)
    return url.netloc.rpartition("@")[2] or url.path
