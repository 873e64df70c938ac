"""A Redis or Valkey with the users of deploy/redis/users.acl, whose passwords are their names, and a system that is them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import redis

from router.redis_users import USERS, acl_lines
from router.up.embedded import redis_command, redis_options
from tests.servers import EmbeddedValkey
from tests.stack import Stack

Kind = Literal["valkey", "redis-server"]
KINDS: Final[tuple[Kind, ...]] = ("valkey", "redis-server")

ROOT: Final = "root"
"""May do everything: it is the test."""


class GuardedRedis(EmbeddedValkey):
    """A server of either kind with ACL users.

    Args:
        folder: for its data, and its ACL file.
        kind: the embedded Valkey, or the machine's redis-server.
        prefix: of the keys that the users may touch.
    """

    def __init__(self, folder: Path, kind: Kind, prefix: str = "push") -> None:
        super().__init__(folder)
        self.kind = kind
        self.acl_file = folder / "users.acl"
        digests = {user.name: sha256(user.name.encode()).hexdigest() for user in USERS}
        root = f"user {ROOT} on >{ROOT} ~* &* +@all"
        self.acl_file.write_text("\n".join([*acl_lines(prefix, digests), root, ""]), encoding="utf-8")

    def command(self) -> list[str]:
        """Return the command line."""
        own = redis_command(self.port, self.folder)
        if self.kind == "redis-server":
            own = ["redis-server", *redis_options(self.port, self.folder)]
        return [*own, "--aclfile", str(self.acl_file)]

    @property
    def url(self) -> str:
        """How a driver reaches it as the test."""
        return self.url_of(ROOT)

    def url_of(self, user: str) -> str:
        """Return how a driver reaches it as this user."""
        return f"redis://{user}:{user}@127.0.0.1:{self.port}/0"

    def client_of(self, user: str) -> redis.Redis:
        """Return a blocking client of a user; use it in a `with`."""
        return redis.Redis.from_url(self.url_of(user), protocol=2)

    def refused(self) -> list[str]:
        """Return what was refused so far: user, why, and what it was."""
        with self.client() as client:
            told: Any = client.acl_log()
        return [" ".join(str(one[name]) for name in ("username", "context", "reason", "object")) for one in told]


@contextmanager
def guarded_stack(
    folder: Path, kind: Kind, edges: int = 2, settings: Mapping[str, Any] | None = None
) -> Iterator[tuple[Stack, GuardedRedis]]:
    """Yield a system whose services are the users made for them, and its Redis; commands are the administrator."""
    with GuardedRedis(folder / "redis", kind, str((settings or {}).get("prefix", "push"))) as server:
        stack = Stack(folder, redis_url=server.url_of("pushway-admin"), edges=edges, settings=settings)
        for name in ("auth", "collect", "dispatch", *(f"edge-{n + 1}" for n in range(edges))):
            user = f"pushway-{name.partition('-')[0]}"
            stack.set(name, redis_url=server.url_of(user))
        with stack:
            yield stack, server
