"""Every Redis key and channel name, one method each.

A docstring says what the key holds, when it expires, who writes it and who reads it. All keys of a shard carry the hash
tag `{s}`, so that one script touches one slot. Ids are checked before they get here (`router.targets`).
"""

from __future__ import annotations


class Keys:
    """The key and channel names of one shard under one prefix."""

    __slots__ = ("base", "shard")

    def __init__(self, prefix: str, shard: int) -> None:
        self.shard = shard
        self.base = f"{prefix}:{{{shard}}}:"

    def intake(self) -> str:
        """Stream: what producers append (`to`, `body` …). Read by collect, group `collect`; trimmed as it is accepted."""
        return f"{self.base}in"

    def out(self) -> str:
        """Stream: field `line`, finished payload lines separated by newlines, or a line of many alone.

        Collect appends, dispatch (group `dispatch`) reads and trims.
        """
        return f"{self.base}out"

    def fast(self) -> str:
        """Stream: transient messages of one target each, appended by producers. Dispatch (group `dispatch`) reads and trims."""
        return f"{self.base}fast"

    def route(self, user: str) -> str:
        """Sorted set: node → expiry, Unix ms. Edges write, dispatch reads; the key expires with the last of them."""
        return f"{self.base}route:{user}"

    def nodes(self) -> str:
        """Sorted set: node → expiry, Unix ms, of the node's own heartbeat. Edges write, dispatch and people read.

        A node that has died stays in it until dispatch has seen to those who were there (`on`).
        """
        return f"{self.base}nodes"

    def online(self) -> str:
        """Hash: user → Unix ms since when. Edges write it with the first route, dispatch removes it; see `events`."""
        return f"{self.base}online"

    def on(self, node: str) -> str:
        """Hash: user → the user's devices on that node, comma-separated. Edges write; dispatch removes a dead node's."""
        return f"{self.base}on:{node}"

    def leaving(self) -> str:
        """Sorted set: user → Unix ms at which dispatch looks whether the user is back. Edges write, dispatch removes."""
        return f"{self.base}leaving"

    def events(self) -> str:
        """Stream, capped: who comes and goes. Edges and dispatch write; groups of others read."""
        return f"{self.base}events"

    def info(self, node: str) -> str:
        """Hash: address, version, started, sessions, state. Written with the heartbeat, expires with it."""
        return f"{self.base}info:{node}"

    def node_channel(self, node: str) -> str:
        """Sharded channel: dispatch → that edge; the edge's own probes too."""
        return f"{self.base}node:{node}"

    def tap_channel(self, node: str) -> str:
        """Sharded channel on which nothing is published: its subscribers are the taps of that node, so they can be counted."""
        return f"{self.base}tap:{node}"

    def topic_channel(self, topic: str) -> str:
        """Sharded channel: dispatch → every edge with a subscriber of the topic."""
        return f"{self.base}topic:{topic}"

    def all_channel(self) -> str:
        """Sharded channel: dispatch → every edge."""
        return f"{self.base}all"

    def answer_channel(self, name: str) -> str:
        """Sharded channel: every edge with a subscriber of a topic → who has asked for its members (`router.members`)."""
        return f"{self.base}answer:{name}"

    def seq(self, target: str) -> str:
        """Hash: `given` (last seq given), `handed` (the head) and its `era`. Collect writes, edges read; expires when idle."""
        return f"{self.base}seq:{target}"

    def era(self) -> str:
        """Hash: `era` (a number), `server` (Redis' replication id), `recovered` (an era's number). Collect writes, edges read.

        Heads of another era count for nothing: Redis may have forgotten writes between two. Collect alone reads `taken`, the
        last entry of `in` whose messages were given seqs: whoever takes over finishes first what is left up to there.
        """
        return f"{self.base}era"

    def pending(self) -> str:
        """Hash: `<target> <id>` → seq given to the batch in hand. Collect's alone; gone when the batch is in `out`."""
        return f"{self.base}pending"

    def ack(self, user: str) -> str:
        """Hash: `<device> <target>` → seq, a copy of MongoDB's cursors. Edges write and read; expires `ack_idle_s` later."""
        return f"{self.base}ack:{user}"

    def dead(self) -> str:
        """Stream, capped: entries that could not be accepted, whole, behind `reason` and `source`."""
        return f"{self.base}dead"

    def offline(self) -> str:
        """Stream, capped: durable messages that found no live route. Dispatch writes; bridges to mobile push read."""
        return f"{self.base}offline"

    def trace(self) -> str:
        """Stream, capped: an event a stage of each message sent with `trace 1` (`router.trace`). Every service writes."""
        return f"{self.base}trace"

    def lease(self, role: str) -> str:
        """String: owner and its token, for role `collect` or `dispatch`; expires unless renewed."""
        return f"{self.base}lease:{role}"

    def workers(self, role: str) -> str:
        """Sorted set: worker → expiry, Unix ms, of those that share the shards of a role. Shard 0 alone has it, for all."""
        return f"{self.base}workers:{role}"

    def reshard(self) -> str:
        """Hash: `<stream>:<shard>` → id of the last entry moved here. Written and removed by `pushway reshard`."""
        return f"{self.base}reshard"


def shard_of_key(name: str) -> int:
    """Return the shard of one of the names above, which its hash tag says."""
    return int(name.partition(":{")[2].partition("}")[0])


def config_key(prefix: str) -> str:
    """Hash: `shards` and `schema` that this prefix is set up with. Every process checks it at start.

    `resharding` stands there while it is being taken to another number of shards (`router.reshard`).
    """
    return f"{prefix}:config"
