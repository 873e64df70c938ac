"""Redis: that it keeps what it is given, refuses nothing it should take, and cuts nobody off.

Sources: https://redis.io/docs/latest/commands/info/, the comments of redis.conf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from router.cluster_redis import every_primary
from router.doctor.findings import Finding, error, note, ok, warning
from router.errors import SetupError
from router.redis_client import check_version
from router.settings import Settings

Info = Mapping[str, Any]
Config = Mapping[str, str]

_ASKED: Final = (
    "appendfsync",
    "timeout",
    "client-output-buffer-limit",
    "min-replicas-to-write",
    "busy-reply-threshold",
    "protected-mode",
    "bind",
    "requirepass",
    "stop-writes-on-bgsave-error",
)

_MEMORY_HIGH: Final = 0.75
_MEMORY_FULL: Final = 0.9
_CLIENTS_HIGH: Final = 0.8
_PUBLISHES_A_LIMIT: Final = 4
"""How many of dispatch's largest publishes must fit into what Redis keeps for a subscriber that is behind."""

_SCRIPT_MIN_MS: Final = 1_000
_SCRIPTS_MAX: Final = 1_000
_IDLE_MIN_S: Final = 60


async def examine(redis: Redis, settings: Settings) -> list[Finding]:
    """Return what is to be thought of a Redis.

    Raises:
        RedisError, OSError: when it cannot be asked.
    """
    servers = await every_primary(redis)
    if len(servers) == 1:
        return await _examine(servers[0], settings)
    return [replace(one, seen=f"{_name(server)}: {one.seen}") for server in servers for one in await _examine(server, settings)]


def _name(server: Redis) -> str:
    known = server.connection_pool.connection_kwargs
    return f"{known['host']}:{known['port']}"


async def _examine(redis: Redis, settings: Settings) -> list[Finding]:
    info: dict[str, Any] = await redis.info()
    try:
        found = await redis.config_get(*_ASKED)
    except ResponseError:
        return judge(info, None, settings)
    return judge(info, {str(name): str(value) for name, value in found.items()}, settings)


def judge(info: Info, config: Config | None, settings: Settings) -> list[Finding]:
    """Return what is to be thought of a Redis, given its INFO and CONFIG; None where that may not be read."""
    found = [_version(info), *_keeps(info), *_memory(info), *_clients(info), *_replicas(info, config or {})]
    if config is None:
        # An ACL user made for Pushway need not be allowed it, and a managed Redis seldom allows it.
        return [*found, note("CONFIG GET is not allowed here, so that limits and timeouts could not be looked at")]
    return [*found, *_keeps_by_config(info, config), *_cuts_off(config, settings), *_is_open(config)]


def _version(info: Info) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    try:
        check_version(dict(info))
    except SetupError as exc:
        return error(str(exc), "upgrade it")
    return ok(f"{name} {info.get('valkey_version', info['redis_version'])}")


def _keeps(info: Info) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield error(
            f"maxmemory-policy is {policy}: it would evict routes, counters and messages, and services do not start",
            "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
        )
    if info.get("evicted_keys", 0):
        yield warning(
            f"{info['evicted_keys']:,} keys have been evicted since it started", "set maxmemory-policy noeviction for good"
        )
    if not info.get("aof_enabled", 0):
        yield warning(
            "there is no append-only file: what was appended and not accepted yet is lost when it ends",
            "CONFIG SET appendonly yes, and the same in redis.conf",
        )
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield error("it cannot write its append-only file, and refuses writes", "look at its log; its disk may be full")
    if info.get("loading", 0):
        yield warning("it is still loading its data", "wait; the services do too")


def _keeps_by_config(info: Info, config: Config) -> Iterator[Finding]:
    if info.get("aof_enabled", 0) and config.get("appendfsync") == "no":
        yield warning(
            "appendfsync is no: a power cut may lose half a minute of what was appended", "CONFIG SET appendfsync everysec"
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        if config.get("stop-writes-on-bgsave-error") == "yes":
            yield error("its last snapshot failed, and it refuses writes until one works", "look at its log, then BGSAVE")
        else:
            yield warning("its last snapshot failed", "look at its log, then BGSAVE")


def _memory(info: Info) -> Iterator[Finding]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        yield note(f"it uses {_mib(used)} of memory and has no limit (maxmemory 0): the machine's memory is one")
    elif used > most * _MEMORY_FULL:
        yield error(f"{_mib(used)} of {_mib(most)} memory are used", "raise maxmemory, or find out what waits (see streams)")
    elif used > most * _MEMORY_HIGH:
        yield warning(f"{_mib(used)} of {_mib(most)} memory are used", "raise maxmemory before producers are refused")
    else:
        yield ok(f"{_mib(used)} of {_mib(most)} memory are used")


def _clients(info: Info) -> Iterator[Finding]:
    connected, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if most and connected > most * _CLIENTS_HIGH:
        yield warning(f"{connected:,} of {most:,} connections are taken", "raise maxclients, and its limit of open files")
    if info.get("rejected_connections", 0):
        yield note(f"{info['rejected_connections']:,} connections have been rejected since it started (maxclients)")
    if info.get("number_of_cached_scripts", 0) > _SCRIPTS_MAX:
        yield note(
            f"{info['number_of_cached_scripts']:,} scripts are cached: somebody evaluates ever new ones",
            "pass what differs as ARGV; SCRIPT FLUSH empties the cache, and ours come back by themselves",
        )


def _replicas(info: Info, config: Config) -> Iterator[Finding]:
    if info.get("role") != "master":
        yield error(
            f"this is a replica of {info.get('master_host', 'another server')}: it takes no writes",
            "let redis_url lead to the primary",
        )
        return
    replicas, least = int(info.get("connected_slaves", 0)), int(config.get("min-replicas-to-write", 0))
    if replicas < least:
        yield error(
            f"it refuses writes: {replicas} replicas are connected, and min-replicas-to-write is {least}",
            "mend the replicas, or lower min-replicas-to-write",
        )
    elif replicas and not least:
        yield note(
            f"{replicas} replicas follow, and none is waited for: a primary that is cut off goes on taking what will be lost",
            "min-replicas-to-write 1 with min-replicas-max-lag 10 has it stop",
        )


def _cuts_off(config: Config, settings: Settings) -> Iterator[Finding]:
    hard, soft, soft_s = pubsub_limits(config.get("client-output-buffer-limit", ""))
    needed = _PUBLISHES_A_LIMIT * settings.publish_max_bytes
    if 0 < hard < needed:
        yield warning(
            f"a subscriber that is {_mib(hard)} behind is cut off, and dispatch may publish "
            f"{_mib(settings.publish_max_bytes)} at once: edges will lose their subscription under load",
            f'CONFIG SET client-output-buffer-limit "pubsub 33554432 8388608 60", or publish_max_bytes below {_mib(hard // 4)}',
        )
    elif 0 < soft < settings.publish_max_bytes:
        yield warning(
            f"a subscriber that is {_mib(soft)} behind for {soft_s} s is cut off: less than one publish may be",
            'CONFIG SET client-output-buffer-limit "pubsub 33554432 8388608 60"',
        )
    idle_s = int(config.get("timeout", 0))
    if idle_s:
        told = f"connections that are idle for {idle_s} s are closed (timeout); ours are made again by themselves"
        yield warning(told, "CONFIG SET timeout 0") if idle_s < _IDLE_MIN_S else note(told)
    script_ms = int(config.get("busy-reply-threshold", _SCRIPT_MIN_MS))
    if 0 < script_ms < _SCRIPT_MIN_MS:
        yield note(f"while a script runs longer than {script_ms} ms, others are answered BUSY", "busy-reply-threshold 5000")


def _is_open(config: Config) -> Iterator[Finding]:
    bound = config.get("bind", "").replace("-", "").split()
    beyond = not bound or any(address not in {"127.0.0.1", "::1"} for address in bound)
    if beyond and config.get("protected-mode") == "no" and not config.get("requirepass"):
        yield warning(
            "it listens beyond this machine without a password (protected-mode no): whoever reaches it reads and sends all",
            "give its default user a password, or bind it to addresses that only yours reach",
        )


def pubsub_limits(text: str) -> tuple[int, int, int]:
    """Return hard limit, soft limit (bytes) and soft seconds of subscribers; 0 is none.

    Args:
        text: `client-output-buffer-limit` as CONFIG GET gives it: class, hard, soft, seconds, class …
    """
    words = text.split()
    at = words.index("pubsub") if "pubsub" in words else -1
    hard, soft, soft_s = words[at + 1 : at + 4] if at >= 0 else ("0", "0", "0")
    return int(hard), int(soft), int(soft_s)


def _mib(count: int) -> str:
    return f"{count / 1_048_576:,.1f} MiB"
