"""A client of a Redis Cluster in the place of one for a server: every call goes to the primary of its key's slot.

What Pushway does goes shard by shard, and all keys of a shard are in one slot. So a slot has a client of its own, which is the
driver's client for one server on a pool that follows the slot's primary (`router.primary_pool`); this one only chooses among
them. A command without a key goes where the prefix' `config` is.

The driver's own cluster client is not used. It repeats a command whose connection broke, which only the caller of a script may
decide; has no connection to keep for a loop that blocks; and takes the whole of its map for wrong where one node is away.

What is repeated here is what was certainly not done: a command that a server refused with MOVED or ASK. TRYAGAIN, while a slot
is moved key by key, is an outage of that shard to whoever asked, like everything else.

Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

from router.errors import SetupError
from router.primaries import ClusterPrimaries, Primaries, Slots
from router.primary_pool import Pools, PrimaryPool
from router.redis_url import Address
from router.shards import keyslot
from router.timed_redis import TimedPipeline, TimedRedis
from router.waiting_pool import WaitingPool

_REDIRECTIONS_MAX: Final = 5
"""How often a command is sent elsewhere: one is usual, two come when a slot moves twice."""

_KEYLESS: Final = frozenset(
    ("PING", "TIME", "INFO", "SCAN", "DBSIZE", "ECHO", "ROLE", "CLIENT", "CONFIG", "SCRIPT", "CLUSTER", "ACL", "FLUSHALL")
)
_SUBCOMMANDS: Final = frozenset({"XGROUP", "XINFO", "OBJECT", "MEMORY"})
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})


def key_of(command: Sequence[Any]) -> str | None:
    """Return the first key of a command, or its first sharded channel; None where it has neither."""
    name, _, subcommand = str(command[0]).upper().partition(" ")
    if name in _KEYLESS:
        return None
    if name in _SCRIPTS:
        at = 3 if int(command[2]) else len(command)
    elif name in {"XREAD", "XREADGROUP"}:
        at = 1 + next(n for n, word in enumerate(command) if str(_text(word)).upper() == "STREAMS")
    else:
        at = 2 if name in _SUBCOMMANDS and not subcommand else 1
        at += name == "PUBSUB" and not subcommand
    return _text(command[at]) if at < len(command) else None


def _text(word: Any) -> str:  # noqa: ANN401 - whatever the driver takes
    return word.decode(errors="surrogateescape") if isinstance(word, bytes) else str(word)


def slot_of(key: str) -> int:
    """Return the slot of a key: of what stands in its first braces, where there is anything."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return keyslot(tag if opened and closed and tag else key)


class SlotRedis(TimedRedis):
    """A client of one slot."""

    def __init__(self, pool: PrimaryPool) -> None:
        super().__init__(connection_pool=pool)
        self._pool = pool

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's signature
        """Execute a command where the slot is, and return its parsed reply."""
        execute: Callable[..., Awaitable[Any]] = super().execute_command
        for _ in range(_REDIRECTIONS_MAX):
            try:
                return await execute(*args, **options)
            except MovedError:
                # The connection has told where to.
                continue
            except AskError as exc:
                return await self._ask(Address(exc.host or (await self._pool.address()).host, exc.port), args, options)
        return await execute(*args, **options)

    async def _ask(self, address: Address, args: Sequence[Any], options: dict[str, Any]) -> Any:  # noqa: ANN401 - likewise
        """Execute a command at the server that a slot is being moved to."""
        async with TimedRedis(connection_pool=self._pool.pools.at(address)).pipeline(transaction=False) as pipe:
            pipe.execute_command("ASKING")
            pipe.execute_command(*args, **options)
            return (await pipe.execute(raise_on_error=True))[1]


class ClusterRedis(TimedRedis):
    """A client of a whole Cluster.

    Args:
        primaries: who they are.
        pools: of connections to them.
        pattern: as of `Pools`.
        anchor: a key; where it is, commands without a key go.

    Attributes:
        anchor: that one.
    """

    def __init__(self, primaries: Primaries, pools: Pools, pattern: WaitingPool, anchor: str) -> None:
        super().__init__(connection_pool=PrimaryPool(slot_of(anchor), primaries, pools, pattern))
        self.auto_close_connection_pool = True
        self._primaries = primaries
        self._pools = pools
        self._pattern = pattern
        self._slots: dict[int, SlotRedis] = {}
        self.anchor = anchor

    def at(self, key: str) -> SlotRedis:
        """Return the client of a key's slot."""
        slot = slot_of(key)
        if slot not in self._slots:
            client = SlotRedis(PrimaryPool(slot, self._primaries, self._pools, self._pattern))
            client.response_callbacks = self.response_callbacks
            self._slots[slot] = client
        return self._slots[slot]

    async def primaries(self) -> list[TimedRedis]:
        """Return a client of each primary, for what concerns servers and not keys.

        Raises:
            RedisError, OSError: when nobody knows them.
        """
        return [TimedRedis(connection_pool=self._pools.at(address)) for address in await self._primaries.all()]

    async def primary_of(self, key: str) -> Address:
        """Return where a key is.

        Raises:
            RedisError, OSError: when nobody knows.
        """
        return await self._primaries.of(slot_of(key))

    async def primary_ids(self) -> dict[Address, str]:
        """Return the primaries, each with its id in the Cluster.

        Raises:
            RedisError, OSError: when nobody can be asked.
        """
        asked = await self.primary_of(self.anchor)
        found: Any = await self.execute_command("CLUSTER", "SLOTS")
        return {Address(_text(host or b"") or asked.host, port): _text(node) for _, _, (host, port, node, *_), *_ in found}

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's signature
        """Execute a command where its key is, and return its parsed reply."""
        return await self.at(key_of(args) or self.anchor).execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ClusterPipeline:
        """Return a pipeline, which goes to every slot that it has a key of."""
        del shard_hint
        return ClusterPipeline(self, transaction)

    def register_script(self, script: Any) -> AsyncScript:  # type: ignore[override]  # noqa: ANN401 - the driver's own contradict each other
        """Return a script that is loaded where it is called."""
        return _Script(self, script)


class _Script(AsyncScript):
    async def __call__(
        self,
        keys: Sequence[Any] | None = None,
        args: Any = None,  # noqa: ANN401 - the driver's signature
        client: Any = None,  # noqa: ANN401 - likewise
    ) -> Any:  # noqa: ANN401 - likewise
        cluster: Any = self.registered_client
        return await super().__call__(keys, args, client or cluster.at(_text(keys[0]) if keys else cluster.anchor))


class ClusterPipeline(TimedPipeline):
    """Commands that go out together: one round trip a slot. A transaction has keys of one slot only."""

    def __init__(self, cluster: ClusterRedis, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands and return their replies, in the order of the commands.

        Without `raise_on_error` a slot that cannot be reached has its error in the place of each of its replies; where there
        is no other slot, it is raised.
        """
        stack, self.command_stack = self.command_stack, []
        slots = _by_slot([args for args, _ in stack], self._cluster.anchor)
        replies: list[Any] = [None] * len(stack)
        for key, places in slots.items():
            some = await self._execute_at(key, [stack[place] for place in places], alone=len(slots) == 1)
            for place, reply in zip(places, some, strict=True):
                replies[place] = reply
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def _execute_at(self, key: str, commands: Sequence[Any], *, alone: bool) -> list[Any]:
        replies: list[Any] = []
        for _ in range(_REDIRECTIONS_MAX):
            async with self._cluster.at(key).pipeline(self.is_transaction) as pipe:
                for args, options in commands:
                    pipe.execute_command(*args, **options)
                try:
                    replies = await pipe.execute(raise_on_error=False)
                except (RedisError, OSError) as exc:
                    if alone:
                        raise
                    return [exc] * len(commands)
            if not all(isinstance(reply, MovedError) for reply in replies):
                break
        return replies


def _by_slot(commands: Sequence[Sequence[Any]], anchor: str) -> dict[str, list[int]]:
    """Return a key of each slot → which commands go there. One without a key goes where the first is that has one."""
    keys = [key_of(args) for args in commands]
    first = next((key for key in keys if key is not None), anchor)
    of_slot: dict[int, str] = {}
    found: defaultdict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        some = first if key is None else key
        found[of_slot.setdefault(slot_of(some), some)].append(place)
    return found


def open_cluster(seeds: Sequence[Address], pattern: WaitingPool, anchor: str) -> ClusterRedis:
    """Return a client that has not connected yet.

    Args:
        seeds: some of the nodes.
        pattern: a pool whose connections are as those to each node are to be, but for the address.
        anchor: as of `ClusterRedis`.
    """

    async def ask(address: Address) -> Slots:
        return await _read_slots(TimedRedis(connection_pool=pools.at(address)), address)

    primaries = ClusterPrimaries(seeds, ask)
    pools = Pools(pattern, primaries)
    return ClusterRedis(primaries, pools, pattern, anchor)


async def _read_slots(node: TimedRedis, address: Address) -> Slots:
    """Return what a node knows of slots and primaries.

    Raises:
        SetupError: when it is no node of a Cluster.
        RedisError, OSError: when it cannot be asked.
    """
    try:
        # As two words: the driver makes something of its own of the reply to "CLUSTER SLOTS", and not in each version.
        found: Any = await node.execute_command("CLUSTER", "SLOTS")
    except ResponseError as exc:
        if "cluster support disabled" in str(exc):
            raise SetupError(f"{address} is no Redis Cluster: leave ?cluster=true out of redis_url.") from None
        raise
    # A node that does not know its own name leaves it out: it is the one that was asked.
    return {(first, last): Address(_text(host or b"") or address.host, port) for first, last, (host, port, *_), *_ in found}


def client_at(redis: Redis, key: str) -> Redis:
    """Return the client for what has no key and belongs to a key's server, such as pub/sub. On one server it is the same."""
    return redis.at(key) if isinstance(redis, ClusterRedis) else redis


def groups_of(redis: Redis, shards: int) -> list[range]:
    """Return the shards that are lost and found together: in a Cluster each by itself, otherwise all."""
    return [range(shard, shard + 1) for shard in range(shards)] if isinstance(redis, ClusterRedis) else [range(shards)]


async def every_primary(redis: Redis) -> Sequence[Redis]:
    """Return a client of each server that holds keys.

    Raises:
        RedisError, OSError: when it cannot be found out which those are.
    """
    return await redis.primaries() if isinstance(redis, ClusterRedis) else [redis]
