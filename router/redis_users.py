"""Redis users: what each service may do in Redis, and nothing besides; the source of deploy/redis/users.acl.

A grant is a few commands on a few keys or channels, and becomes one selector of an ACL user, so that who may read one key and
write another can do neither to both. What a script calls counts as called by whoever runs it: EVALSHA is granted on every key
of the prefix and gives nothing by itself.

No user can log in before it is given a password, and `default` is off.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Grant:
    """Commands, and what they may be used on; each field is names between spaces.

    Attributes:
        commands: as ACLs name them, `xgroup|create` for a subcommand.
        reads: keys of a shard that may be read, without their base (`push:{0}:`), as patterns.
        writes: those that may be written.
        channels: those that may be heard or published to.
        whole: patterns of whole key names to read; `writes_whole` to write.
    """

    commands: str
    reads: str = ""
    writes: str = ""
    channels: str = ""
    whole: str = ""
    writes_whole: str = ""

    def rule(self, prefix: str) -> str:
        """Return the selector."""
        base = f"{prefix}:{{*}}:"
        words = [f"+{command}" for command in self.commands.split()]
        words += [f"%R~{base}{key}" for key in self.reads.split()] + [f"%W~{base}{key}" for key in self.writes.split()]
        words += [f"%R~{key.format(prefix=prefix)}" for key in self.whole.split()]
        words += [f"%W~{key.format(prefix=prefix)}" for key in self.writes_whole.split()]
        words += [f"&{base}{channel}" for channel in self.channels.split()]
        return f"({' '.join(words)})"


@dataclass(frozen=True, slots=True)
class RedisUser:
    """An ACL user.

    Attributes:
        name: as in `redis_url`.
        free: commands that touch no key, between spaces.
        grants: the others.
    """

    name: str
    free: str
    grants: tuple[Grant, ...]

    def line(self, prefix: str, *passwords: str) -> str:
        """Return its line of an ACL file.

        Args:
            prefix: of all keys.
            passwords: SHA-256 digests, in hex; without any, nobody can log in.
        """
        hashes = [f"#{digest}" for digest in passwords]
        free = [f"+{command}" for command in self.free.split()]
        rules = [grant.rule(prefix) for grant in self.grants]
        return " ".join(["user", self.name, "on", *hashes, "resetchannels", "-@all", *free, *rules])


# What drivers send when they connect, to a Cluster too. CLIENT SETINFO, which Redis 7.0 does not know, they can do without.
_CLIENT: Final = "ping select client|setname command cluster|slots cluster|shards cluster|nodes asking"

_SERVICE: Final = f"{_CLIENT} info time script|load multi exec"

_SCRIPTS: Final = Grant("evalsha", reads="*", writes="*")

_SET_UP: Final = (
    Grant("hget hmget", whole="{prefix}:config"),
    # Only where there is nothing yet.
    Grant("hsetnx", writes_whole="{prefix}:config"),
)


def _lease(role: str) -> tuple[Grant, ...]:
    key = f"lease:{role}"
    workers = f"workers:{role}"
    return (
        Grant("get", reads=key),
        Grant("set del persist pexpire", writes=key),
        # Who shares the shards.
        Grant("zrange", reads=workers),
        Grant("zadd zrem zremrangebyscore", writes=workers),
    )


def _held_to_bytes(streams: str) -> tuple[Grant, ...]:
    """Return what it takes to hold streams to so many bytes."""
    return Grant("memory|usage xlen", reads=streams), Grant("xtrim", writes=streams)


_NOTICES: Final = (
    # `kick.lua` and the like: the nodes that hold a user, and a line for each.
    Grant("zrange zrangebyscore", reads="nodes route:*"),
    Grant("spublish", channels="node:*"),
)

_REVOKED: Final = (
    # `revoke.lua`: every node, those too that are not listed yet.
    Grant("zrange", reads="nodes"),
    Grant("spublish", channels="node:* all"),
)

_PEOPLE: Final = (
    # Routes, nodes and presence, as people and back ends are told of them.
    Grant("zrange zrevrange zrangebyscore zscore", reads="nodes route:*"),
    Grant("hgetall", reads="info:*"),
    Grant("hmget hscan hget", reads="online on:*"),
    Grant("hget hmget", reads="seq:* era ack:*"),
    Grant("pubsub|shardnumsub"),
)

_LETTERS: Final = (Grant("xrange xrevrange xpending xlen", reads="dead trace"),)

_MEMBERS: Final = (
    # A question on the topic's channel, and answers on one's own.
    Grant("spublish", channels="topic:*"),
    Grant("ssubscribe", channels="answer:*"),
    Grant("sunsubscribe"),
)

_FORGET: Final = (
    Grant("xrange xrevrange xpending xinfo|groups xinfo|stream", reads="in fast out dead offline trace events"),
    Grant("xdel xadd", writes="in fast out dead offline trace events"),
    Grant("exists", reads="lease:*"),
    Grant("hkeys", reads="pending"),
    Grant("hdel", writes="pending online on:*"),
    Grant("del", writes="seq:* ack:*"),
    Grant("zrem", writes="route:* leaving"),
)

COLLECT: Final = RedisUser(
    "pushway-collect",
    _SERVICE,
    (
        _SCRIPTS,
        *_SET_UP,
        *_lease("collect"),
        Grant("xread xrange xpending xlen", reads="in"),
        Grant("xlen", reads="out fast"),
        Grant("xgroup|create xgroup|setid xautoclaim xack xdel xtrim", writes="in"),
        # What belongs to another shard, and what comes over HTTP.
        Grant("xadd", writes="in fast out dead trace"),
        *_held_to_bytes("dead"),
        Grant("hmget hlen hget", reads="pending era seq:*"),
        Grant("hset hdel del", writes="pending"),
        Grant("hset hdel", writes="era"),
        Grant("hset pexpire", writes="seq:*"),
        # The API.
        *_PEOPLE,
        *_LETTERS,
        *_NOTICES,
        *_MEMBERS,
        *_FORGET,
    ),
)

DISPATCH: Final = RedisUser(
    "pushway-dispatch",
    _SERVICE,
    (
        _SCRIPTS,
        *_SET_UP,
        *_lease("dispatch"),
        Grant("xread xrange xpending xlen", reads="out fast"),
        # How many reports wait there, and since when, is a metric.
        Grant("xrange xpending xlen", reads="offline"),
        Grant("xgroup|create xgroup|setid xautoclaim xack xdel xtrim", writes="out fast"),
        # What belongs to another shard is appended there behind a write to `pending`, which Redis allows when memory is full.
        Grant("xadd", writes="fast dead offline trace events"),
        *_held_to_bytes("dead offline"),
        Grant("hdel", writes="pending"),
        Grant("xlen", reads="events"),
        Grant("zscore zrange zrangebyscore zcard", reads="nodes route:* leaving"),
        Grant("zrem", writes="nodes route:* leaving"),
        Grant("zadd", writes="leaving"),
        Grant("hmget hscan", reads="online"),
        Grant("hdel persist", writes="online"),
        Grant("hrandfield exists", reads="on:*"),
        Grant("hdel del", writes="on:*"),
        Grant("spublish", channels="node:* topic:* all"),
    ),
)

EDGE: Final = RedisUser(
    "pushway-edge",
    _SERVICE,
    (
        _SCRIPTS,
        *_SET_UP,
        Grant("ssubscribe", channels="node:* topic:* all"),
        Grant("sunsubscribe"),
        # Probes, and what nodes tell one another: of devices that have moved, and of a topic's members.
        Grant("spublish", channels="node:* topic:* answer:*"),
        Grant("zscore zrange", reads="nodes"),
        Grant("zadd zrem persist", writes="nodes"),
        Grant("hset pexpire del", writes="info:*"),
        Grant("zrange zrevrange", reads="route:*"),
        Grant("zadd zrem zremrangebyscore pexpireat", writes="route:*"),
        Grant("hmget hlen exists", reads="on:*"),
        Grant("hset hdel", writes="on:*"),
        Grant("hmget hlen", reads="online"),
        Grant("hset", writes="online"),
        Grant("zadd zrem", writes="leaving"),
        Grant("xadd xtrim", writes="events"),
        Grant("xadd", writes="trace"),
        Grant("hget hmget", reads="era seq:* ack:*"),
        Grant("hset pexpire", writes="ack:*"),
    ),
)

AUTH: Final = RedisUser("pushway-auth", _SERVICE, (_SCRIPTS, *_SET_UP, *_REVOKED))

PRODUCER: Final = RedisUser("pushway-producer", _CLIENT, (Grant("xadd", writes="in fast"),))

_READING: Final = (
    _SCRIPTS,
    *_PEOPLE,
    Grant("xlen xrange xrevrange xread xpending xinfo|groups", reads="in out fast dead offline trace events"),
    Grant("get pttl", reads="lease:*"),
    Grant("zrange", reads="workers:*"),
    Grant("type zcard hlen exists", reads="*", whole="{prefix}:config"),
    Grant("hget hgetall hmget", whole="{prefix}:config"),
    # `pushway tap`.
    Grant("ssubscribe", channels="node:* tap:*"),
    Grant("sunsubscribe"),
    # Doctor looks for streams of ours under names that nobody reads: whether they are there, and how long they are.
    Grant("exists xlen", whole="*"),
)

_LOOKING: Final = f"{_SERVICE} dbsize scan acl|whoami acl|users acl|dryrun"

OPERATOR: Final = RedisUser("pushway-operator", _LOOKING, _READING)

_RESHARD: Final = (
    # Keys that go to another shard, and the notes of how far it has come.
    Grant("hset hdel", writes_whole="{prefix}:config"),
    Grant("hget hgetall", reads="reshard ack:*"),
    Grant("hset", writes="reshard online ack:*"),
    Grant("hdel", writes="online"),
    Grant("pexpire", writes="ack:*"),
    Grant("hlen", reads="pending"),
    Grant("unlink", writes="in out fast dead offline events trace reshard nodes leaving online era pending"),
    Grant("unlink", writes="workers:* lease:* seq:* route:* on:* info:* ack:*"),
)

_MENDING: Final = (*_RESHARD, *_SET_UP, *_NOTICES, *_REVOKED, *_MEMBERS, *_FORGET)

ADMIN: Final = RedisUser("pushway-admin", f"{_LOOKING} acl|log", (*_READING, *_MENDING))

USERS: Final = (AUTH, COLLECT, DISPATCH, EDGE, PRODUCER, OPERATOR, ADMIN)

NOBODY: Final = "user default off resetchannels -@all"
"""The user that a connection has before it says who it is."""


def acl_lines(prefix: str, digests: dict[str, str] | None = None) -> Iterator[str]:
    """Yield an ACL file, line by line.

    Args:
        prefix: of all keys.
        digests: user → SHA-256 of its password, in hex. Nobody else can log in.
    """
    yield NOBODY
    for user in USERS:
        digest = (digests or {}).get(user.name)
        yield user.line(prefix, *([digest] if digest else []))
