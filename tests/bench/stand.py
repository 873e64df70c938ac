"""What is measured: a whole system of real processes, as `pushway up` would run it, and what each of them uses.

The embedded Valkey unless a Redis is given; the embedded store, or one that keeps nothing; one edge unless more are wanted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import psutil
from redis import Redis

from router.auth.keyfile import load_or_make
from router.auth.tokens import Claims, TokenRules, issue
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id, shard_of_target
from tests.bench.dialect import PUSHWAY, Lane, redis_command, user_name
from tests.bench.generator import Generator
from tests.bench.stores import NullStore
from tests.servers import Store, free_ports
from tests.stack import Stack

TOKEN_TTL_S: Final = 3 * 3_600

REDIS_PORT: Final = 6379

TOPIC: Final = "bench"
"""What every user's token grants."""

TO_USER: Final = f"user:{user_name(0)}"

_SUBSCRIBED: Final = '{"type":"subscribed"'

_DELETED_AT_ONCE: Final = 1_000

_INSERTING: Final = 'pushway_mongo_seconds_sum{operation="insert"}'


class Stand:
    """A running system, the way in for the generator, and the readings.

    Args:
        folder: for all data and logs.
        store: what stores the messages.
        redis_url: a Redis to use instead of the embedded Valkey; what was written to it is deleted at the end.
        edges: how many.
        settings: that shall not have their defaults.

    Attributes:
        stack: the processes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: type[Store] = Store,
        redis_url: str | None = None,
        edges: int = 1,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._foreign = redis_url is not None
        self._null = store is NullStore
        own = {"prefix": f"bench-{secrets.token_hex(4)}"} if self._foreign else {}
        server = store(folder / "store", port=free_ports())
        self.stack = Stack(folder, redis_url=redis_url, store=server, edges=edges, settings={**own, **(settings or {})})

    @property
    def settings(self) -> Settings:
        """What all services share."""
        return self.stack.settings

    def stream(self, lane: str) -> Lane:
        """Return how messages are appended to `in` or `fast` of the user's shard, or to another target: `in all`."""
        stream, _, target = lane.partition(" ")
        name = {"in": Keys.intake, "fast": Keys.fast}[stream]
        shards = range(self.settings.shards)
        ways = [shard_of_target(target, len(shards))] * len(shards) if target else shards
        streams = [name(Keys(self.settings.prefix, shard)) for shard in ways]
        return lambda body, transient: [_append(one, target or TO_USER, body, transient=transient) for one in streams]

    def generator(self, users: int, topic: str = "") -> Generator:
        """Return a generator for that many users, not started yet; each is let in once it is subscribed to the topic."""
        edges = [urlsplit(url).netloc for url in self.stack.edge_urls]
        names = [user_name(number) for number in range(users)]
        shards = [shard_of_id(name, self.settings.shards) for name in names]
        password = urlsplit(self.settings.redis_url).password
        hello = redis_command("AUTH", unquote(password)) if password else b""
        dialect = replace(PUSHWAY, path=f"/v1/connect?topics={topic}", welcome=_SUBSCRIBED) if topic else PUSHWAY
        return Generator(replace(dialect, hello=hello), self._redis_address(), edges, self._tokens(names), shards)

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds that each process has used: redis, dispatch, collect, edge (all of them), auth, store."""
        spent = {name: _cpu_s(process.pid) for name, process in self.stack.processes.items() if name != "redis"}
        edges = [name for name in spent if name.startswith("edge-")]
        with self.stack.redis_client() as redis:
            info = redis.info("cpu")
        return {
            "redis": info["used_cpu_sys"] + info["used_cpu_user"],
            "dispatch": spent["dispatch"],
            "collect": spent["collect"],
            "edge": sum(spent[name] for name in edges),
            "auth": spent["auth"],
            self.store_name: spent["store"],
        }

    @property
    def store_name(self) -> str:
        """What the store is called in the figures."""
        return "null store" if self._null else "store"

    def store_wait_s(self) -> float:
        """Return how long collect has waited for its store to take messages; it does nothing else then."""
        return self.stack["collect"].metric(_INSERTING)

    def edge_bytes(self) -> int:
        """Return the memory of all edges that is theirs alone or their part of what is shared (Pss)."""
        names = [name for name in self.stack.processes if name.startswith("edge-")]
        return sum(psutil.Process(self.stack[name].pid).memory_full_info().pss for name in names)

    def redis_bytes(self) -> int:
        """Return the memory that Redis says it uses."""
        with self.stack.redis_client() as redis:
            return int(redis.info("memory")["used_memory"])

    def _redis_address(self) -> str:
        parts = urlsplit(self.settings.redis_url)
        if parts.scheme == "unix":
            return parts.path
        if parts.scheme != "redis":
            raise SystemExit(f"the load generator speaks redis:// and unix://, and no {parts.scheme}://")
        return f"{parts.hostname}:{parts.port or REDIS_PORT}"

    def _tokens(self, names: Sequence[str]) -> list[str]:
        """Return tokens made with auth's own key: asking auth for 10,000 of them is not what is measured."""
        key = load_or_make(self.settings.auth_key_file)
        rules = TokenRules(self.settings.token_issuer, self.settings.token_audience, 0)
        now = int(time.time())
        return [issue(Claims(name, now + TOKEN_TTL_S, (TOPIC,), name), key.private, key.kid, rules, now) for name in names]

    def _forget(self) -> None:
        """Delete what was written to a Redis that is not ours."""
        with Redis.from_url(self.settings.redis_url, protocol=2) as redis:
            names = list(redis.scan_iter(f"{self.settings.prefix}:*", count=_DELETED_AT_ONCE))
            for first in range(0, len(names), _DELETED_AT_ONCE):
                redis.delete(*names[first : first + _DELETED_AT_ONCE])

    def __enter__(self) -> Self:
        self.stack.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.__exit__(kind, exc, trace)
        if self._foreign:
            self._forget()


def _append(stream: str, target: str, body: str, *, transient: bool) -> bytes:
    fields = ("transient", "1") if transient else ()
    return redis_command("XADD", stream, "*", "to", target, "body", body, *fields)


def _cpu_s(pid: int) -> float:
    user, system, *_ = psutil.Process(pid).cpu_times()
    return float(user + system)
