"""What the prefix was set up for (`push:config`), and streams beside it that nobody reads.

A client with a key prefix of its own turns `push:{0}:in` into `app:push:{0}:in`: the producer sees its XADD succeed, and
nothing ever comes of it. So does a producer that has another number of shards in mind, or that has lost the braces, as in a
format string of Python or C#: `push:0:in`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from redis.asyncio import Redis

from router.cluster_redis import every_primary
from router.doctor.findings import Finding, counted, error, note, ok, warning
from router.keys import Keys, config_key
from router.redis_client import SCHEMA
from router.settings import Settings

KEYS_MAX: Final = 200_000
"""How many keys are gone through: about a second of a Redis that does other things as well."""

_KEYS_A_STEP: Final = 1_000
_NAMED_MAX: Final = 5

Tell = Callable[[str], None]
"""Is told what goes on, in words."""


async def examine_config(redis: Redis, settings: Settings) -> list[Finding]:
    """Return what is to be thought of the prefix' set-up.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    # The driver's types name the replies of every protocol at once.
    found: Any = await redis.hgetall(config_key(settings.prefix))
    return judge_config({name.decode(): value.decode() for name, value in found.items()}, settings)


def judge_config(config: Mapping[str, str], settings: Settings) -> list[Finding]:
    """Return what is to be thought of `push:config`."""
    key = config_key(settings.prefix)
    shards, schema = config.get("shards"), config.get("schema")
    if shards is None or schema is None:
        return [
            warning(
                f"{key} is not there: no service has ever started with this Redis, database and prefix",
                "look at redis_url (the number at its end is the database) and prefix; the first service makes it",
            )
        ]
    found = []
    if to := config.get("resharding"):
        found.append(
            error(
                f"{key} says that it is being taken to {to} shards, and until it is nothing starts",
                f"pushway reshard --to {to}",
            )
        )
    if shards != str(settings.shards):
        found.append(
            error(
                f"{key} says shards={shards}, these settings shards={settings.shards}: messages would go where nobody looks",
                f"set shards={shards}; `pushway reshard` changes the number",
            )
        )
    if schema not in {str(SCHEMA), str(SCHEMA - 1)}:
        found.append(
            error(
                f"{key} says schema={schema}, and this version works with {SCHEMA - 1} and {SCHEMA}",
                "use the version of Pushway that the services run",
            )
        )
    return found or [ok(f"{key}: {counted(settings.shards, 'shard', 'shards')}, schema {schema}")]


async def examine_strays(redis: Redis, settings: Settings, tell: Tell) -> list[Finding]:
    """Return what is to be thought of streams whose names end like ours.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    names, seen, whole = await _look_alikes(redis, settings, tell)
    ours = {Keys(settings.prefix, shard).intake() for shard in range(settings.shards)}
    lengths = {}
    for name in names - ours:
        # Where another prefix is set up, it is a tenant's.
        if not await redis.exists(config_key(name.rpartition(":{")[0])) or name.startswith(f"{settings.prefix}:{{"):
            lengths[name] = await redis.xlen(name)
    return judge_strays(lengths, settings, seen=seen, whole=whole)


async def _look_alikes(redis: Any, settings: Settings, tell: Tell) -> tuple[set[str], int, bool]:  # noqa: ANN401 - its types name the replies of every protocol
    """Return the streams that are named like ours, how many keys were gone through, and whether those are all."""
    names: set[str] = set()
    servers: Any = await every_primary(redis)
    seen, whole = 0, True
    total = sum([await server.dbsize() for server in servers])
    for server in servers:
        cursor = None
        while cursor != 0 and seen < KEYS_MAX:
            pattern = f"*{settings.prefix}*:in"
            cursor, found = await server.scan(cursor or 0, match=pattern, count=_KEYS_A_STEP, _type="STREAM")
            names |= {name for raw in found if _is_alike(name := raw.decode(errors="backslashreplace"), settings.prefix)}
            seen = min(seen + _KEYS_A_STEP, total)
            tell(f"{seen:,} of {total:,} keys")
        whole = whole and cursor == 0
    return names, seen, whole


def _is_alike(name: str, prefix: str) -> bool:
    """Tell whether a name ends like that of an intake, or lacks a part of one."""
    return re.search(rf"{re.escape(prefix)}:\{{.*\}}:in\Z", name) is not None or _is_misspelt(name, prefix)


def _is_misspelt(name: str, prefix: str) -> bool:
    return re.fullmatch(rf"{re.escape(prefix)}(\{{\d*\}}|:\d+)?:in", name) is not None


def judge_strays(lengths: Mapping[str, int], settings: Settings, *, seen: int, whole: bool) -> list[Finding]:
    """Return what is to be thought of streams that look like ours and are not.

    Args:
        lengths: stream → how many entries it has.
        settings: prefix and shards.
        seen: how many keys were gone through.
        whole: whether those were all.
    """
    found = [_stray(name, length, settings) for name, length in sorted(lengths.items())[:_NAMED_MAX]]
    if len(lengths) > _NAMED_MAX:
        found.append(warning(f"{len(lengths) - _NAMED_MAX} more streams like these", "the same"))
    if not whole:
        found.append(note(f"only the first {seen:,} keys were gone through; streams beyond them are not known"))
    return found or [ok(f"no stream that looks like ours and is not, among {seen:,} keys")]


def _stray(name: str, length: int, settings: Settings) -> Finding:
    held = counted(length, "entry", "entries")
    if name.startswith(f"{settings.prefix}:{{"):
        return warning(
            f"{name} has {held}, and there is no such shard: nobody reads that",
            f"producers append to {Keys(settings.prefix, 0).intake()}, or any shard below {settings.shards}",
        )
    if _is_misspelt(name, settings.prefix):
        return warning(
            f"{name} has {held} that nobody reads: the name lacks a part of {Keys(settings.prefix, 0).intake()}",
            "mend the producer (in a format string of Python or C# each brace stands twice), append the entries again where "
            "they belong, and delete the key",
        )
    return warning(
        f"{name} has {held} that nobody reads: a producer's client puts a prefix of its own before every key",
        "switch that prefix off in the producer, append the entries again where they belong, and delete the key",
    )
