"""The checklist of docs/security.md, looked at on the running system: who can reach what, over which wire, as whom.

What serves this machine alone needs none of it, and is told so in one line. Whether anything stands in front of an address (a
balancer that ends TLS, a firewall) is not to be seen from here: a private address is therefore a note, and one that may face
the internet a warning.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from router.doctor.configuration import mode_of
from router.doctor.findings import Finding, error, note, ok, warning
from router.hosts import is_loopback
from router.keys import Keys
from router.redis_client import OUTAGE, open_redis
from router.redis_users import AUTH, COLLECT, DISPATCH, EDGE, OPERATOR, PRODUCER, USERS, RedisUser
from router.settings import ENV_PREFIX, FILE_SUFFIX, SECRETS, Settings

_CHECKLIST: Final = "docs/security.md#checklist"
_OPEN_TO_OTHERS: Final = 0o077
_UNKNOWN: Final = "an unknown user"
_TLS: Final = re.compile(r"[?&](tls|ssl)=true")

Act = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """Who may do what in Redis.

    Attributes:
        user: who we are there; "" where that is not known.
        open: somebody without a password may read; None where it is not known.
        too_much: user → what it may do, and is made not to; None where that may not be asked.
    """

    user: str
    open: bool | None
    too_much: Mapping[str, Sequence[str]] | None


def judge(settings: Settings, access: RedisAccess | None, modes: Mapping[str, int]) -> list[Finding]:
    """Return what is to be thought of how a system is kept from others.

    Args:
        settings: those in force.
        access: None where Redis does not answer.
        modes: file with a secret → its permission bits.
    """
    found = [*_judge_addresses(settings), *_judge_wires(settings), *_judge_origins(settings), *_judge_files(modes)]
    if access is not None:
        found += _judge_redis(settings, access)
    return found or [ok(f"nothing is open to others that need not be ({_CHECKLIST})")]


# -- addresses and wires -----------------------------------------------------------------------------------------------


def _reach(host: str) -> str:
    """Return who reaches an address: `machine`, `network`, or `all`, which may be the internet."""
    if is_loopback(host):
        return "machine"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "network"
    return "network" if address.is_private and not address.is_unspecified else "all"


def _judge_addresses(settings: Settings) -> Iterator[Finding]:
    reach = _reach(settings.ops_host)
    if reach == "all":
        yield warning(
            f"ops_host is {settings.ops_host}: whoever reaches it reads /metrics and /readyz",
            "set ops_host to an address that only your balancer and your monitoring reach",
        )
    elif reach == "network":
        yield note(f"/metrics and /readyz are served on {settings.ops_host}; nobody is asked who he is there")


def _judge_wires(settings: Settings) -> Iterator[Finding]:
    edge, http = settings.edge_tls_cert_file, settings.http_tls_cert_file
    yield from _judge_wire("an edge", "edge_host", settings.edge_host, "edge_tls_cert_file", edge)
    yield from _judge_wire("the API", "api_host", settings.api_host, "http_tls_cert_file", http)
    yield from _judge_wire("auth", "auth_host", settings.auth_host, "http_tls_cert_file", http)
    redis, mongo = urlsplit(settings.redis_url.partition(",")[0]), urlsplit(settings.mongo_url.partition(",")[0])
    if redis.scheme == "redis" and not is_loopback(redis.hostname or ""):
        yield _plain_server("redis_url", redis.hostname or "", "rediss:// in its place, and a TLS port of Redis")
    if mongo.scheme == "mongodb" and not _TLS.search(settings.mongo_url) and not is_loopback(mongo.hostname or ""):
        yield _plain_server("mongo_url", mongo.hostname or "", "tls=true behind its ?, and TLS at MongoDB")


def _judge_wire(what: str, name: str, host: str, setting: str, certificate: str) -> Iterator[Finding]:
    reach = _reach(host)
    if reach == "machine" or certificate:
        return
    seen = f"{what} listens on {host} without TLS"
    if reach == "all":
        yield warning(
            f"{seen}: tokens and messages can be read on the way",
            f"set {setting}, or {name} to an address that only a balancer with TLS reaches",
        )
    else:
        yield note(f"{seen}: what stands in front of it has to speak it")


def _plain_server(name: str, host: str, remedy: str) -> Finding:
    seen = f"{name} leads to {host} without TLS: password and messages can be read on the way"
    return warning(seen, remedy) if _reach(host) == "all" else note(seen, remedy)


def _judge_origins(settings: Settings) -> Iterator[Finding]:
    if "*" in settings.edge_origins:
        yield warning(
            "edge_origins is *: every web page may connect with a token that it has got hold of",
            "name the origins of your pages; unless it is set, pages of the edge's own host may",
        )


def _judge_files(modes: Mapping[str, int]) -> Iterator[Finding]:
    for file, mode in modes.items():
        if mode & _OPEN_TO_OTHERS:
            yield warning(f"{file} holds a secret and others may read it (mode {mode:04o})", f"chmod 600 {file}")


# -- Redis ---------------------------------------------------------------------------------------------------------------


def _judge_redis(settings: Settings, access: RedisAccess) -> Iterator[Finding]:
    local = is_loopback(urlsplit(settings.redis_url.partition(",")[0]).hostname or "localhost")
    if access.open:
        seen = "Redis asks nobody for a password: whoever reaches it reads and sends all"
        remedy = "give each service a user of its own (`pushway acl`), and switch `default` off"
        yield note(seen + ", which is this machine", remedy) if local else error(seen, remedy)
    elif access.user == "default":
        yield note(
            "these settings use Redis' user `default`, who may do everything", "give each service its own: `pushway acl`"
        )
    if access.too_much is None:
        yield note(f"what Redis users may do could not be looked at as {access.user or _UNKNOWN}", f"ask as {OPERATOR.name}")
        return
    for user, acts in access.too_much.items():
        yield warning(
            f"the Redis user {user} may do what it need not: {', '.join(acts)}",
            "load what `pushway acl` prints (deploy/redis/users.acl), then ACL LOAD",
        )


def acts_refused(user: RedisUser, prefix: str) -> Iterator[Act]:
    """Yield what a user of ours must not be able to do."""
    keys = Keys(prefix, 0)
    yield from (("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "0"), ("ACL", "LIST"), ("KEYS", "*"), ("DEBUG", "SLEEP", "0"))
    yield ("SET", "of-nobody", "1")
    if user in {AUTH, DISPATCH, EDGE}:
        yield ("XADD", keys.intake(), "*", "to", "all")
    if user in {AUTH, EDGE, PRODUCER, OPERATOR}:
        yield ("XADD", keys.out(), "*", "line", "")
    if user in {AUTH, DISPATCH, EDGE, PRODUCER}:
        yield ("XRANGE", keys.intake(), "-", "+")
    if user in {COLLECT, EDGE, PRODUCER, OPERATOR}:
        yield ("SPUBLISH", keys.all_channel(), "")


async def examine(redis: Redis | None, settings: Settings) -> list[Finding]:
    """Return what is to be thought of how the system is kept from others.

    Args:
        redis: None where it does not answer.
        settings: those in force.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    access = None if redis is None else await _access(redis, settings)
    return judge(settings, access, _modes(settings))


async def _access(redis: Any, settings: Settings) -> RedisAccess:  # noqa: ANN401 - its types name the replies of every protocol
    try:
        user = _text(await redis.execute_command("ACL WHOAMI"))
    except NoPermissionError:
        user = urlsplit(settings.redis_url).username or ""
    return RedisAccess(user, await _is_open(settings), await _too_much(redis, settings.prefix))


async def _is_open(settings: Settings) -> bool | None:
    """Tell whether a connection that says nothing of who it is may do anything; None where that is not known."""
    parts = urlsplit(settings.redis_url)
    stranger = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    async with open_redis(settings.model_copy(update={"redis_url": stranger})) as redis:
        try:
            await redis.time()
        except (AuthenticationError, ResponseError):
            return False
        except OUTAGE:
            return None
    return True


async def _too_much(redis: Any, prefix: str) -> dict[str, list[str]] | None:  # noqa: ANN401 - see above
    """Return what the users that we know may do and should not; None where that may not be asked."""
    try:
        there = {_text(name) for name in await redis.execute_command("ACL USERS")}
        found = {user.name: await _may(redis, user, prefix) for user in USERS if user.name in there}
    except NoPermissionError:
        return None
    return {user: acts for user, acts in found.items() if acts}


async def _may(redis: Any, user: RedisUser, prefix: str) -> list[str]:  # noqa: ANN401 - see above
    acts = []
    for act in acts_refused(user, prefix):
        try:
            answer = await redis.execute_command("ACL DRYRUN", user.name, *act)
        except NoPermissionError:
            raise
        except ResponseError:  # such as a command that this server does not have
            continue
        if _text(answer) == "OK":
            acts.append(" ".join(act[:2]))
    return acts


def _text(reply: Any) -> str:  # noqa: ANN401 - the driver decodes some replies, and which depends on its version
    return reply.decode() if isinstance(reply, bytes) else str(reply)


# -- files ---------------------------------------------------------------------------------------------------------------


def _modes(settings: Settings) -> dict[str, int]:
    """Return the permission bits of the files with secrets that this machine has, beside those that `settings` is told of."""
    named = [os.environ.get(f"{ENV_PREFIX}{secret.upper()}{FILE_SUFFIX}") for secret in sorted(SECRETS)]
    named.append(settings.api_keys_file)
    modes = {name: mode_of(Path(name)) for name in named if name}
    return {name: mode for name, mode in modes.items() if mode is not None}
