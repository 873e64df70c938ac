"""What a load takes: cores, processes, hosts, shards, Redis primaries, bytes and bandwidth, from what things cost. Pure.

Every part of the system is asked the same: how much work is there a second, and how much of it does one unit do? A unit is
loaded up to `Limits.share` of a core: what is full has a queue, and one that fails leaves its work to the others.

One Redis primary has one core for commands, and so have an owner of collect and one of dispatch; edges are processes of one
core, any number on a host. The cost of a message at a stage depends on how many a second one unit has (`costs.at`), and that
on how many units there are: so a number of units is right when it is enough at the cost that comes of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.bench.capacity.costs import MICRO, Costs, at, publishes_a_message
from tests.bench.scenes.heartbeats import DRAWN

PING_S: Final = 25.0
RENEWAL_S: Final = 20.0 * DRAWN
"""`heartbeat_s`, and on average what is drawn of a third of `route_ttl_ms`, unless set."""

WIRE_BYTES: Final = 4 + 52 + 38 + 90
"""Of a frame beside itself: its header, TCP and IP with timestamps, Ethernet, and the client's ACK."""

FRAME_BYTES: Final = 110
"""What the frame of a message holds beside its body: type, target, seq, id, ts."""

ENTRY_BYTES: Final = 180
"""What an entry in a stream, its line and its place in the append-only file hold beside the body, each about."""

DOCUMENT_BYTES: Final = 420
"""What a document of the inbox holds beside the body, about: its fields, and what stands of it in three indexes."""

UNITS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the system.

    Attributes:
        users: connected at the same time, one connection each.
        messages_per_s: each to one user.
        durable: share of them that is stored; the others take the fast lane.
        body_bytes: of a message.
        stay_s: how long a connection lasts: what comes and goes is users / stay_s a second.
        retention_days: how long a stored message is kept.
    """

    users: int
    messages_per_s: float
    durable: float = 0.5
    body_bytes: int = 256
    stay_s: float = 1_800.0
    retention_days: float = 30.0

    @property
    def connects_per_s(self) -> float:
        """How many connect."""
        return self.users / self.stay_s

    def lane(self, name: str) -> float:
        """Return the messages a second of a lane."""
        return self.messages_per_s * (self.durable if name == "durable" else 1 - self.durable)


@dataclass(frozen=True, slots=True)
class Limits:
    """What there is.

    Attributes:
        share: of a core that is planned with.
        host_cores, host_bytes, host_bits_per_s: of a host for edges.
        redis_bytes: memory of a primary.
        store_inserts_per_s: of one primary of MongoDB, journaled, in batches. An assumption: measure yours.
    """

    share: float = 0.6
    host_cores: int = 8
    host_bytes: float = 32e9
    host_bits_per_s: float = 10e9
    redis_bytes: float = 16e9
    store_inserts_per_s: float = 20_000.0


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of unit.

    Attributes:
        count: how many it takes.
        binding: what it is that takes so many.
        used: the share of one unit that is used then, of what binds.
    """

    name: str
    count: int
    binding: str
    used: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load takes."""

    load: Load
    edges: Part
    edge_hosts: Part
    dispatch: Part
    collect: Part
    primaries: Part
    shards: int
    stores: Part
    cores: dict[str, float]
    edge_bytes: float
    redis_bytes: float
    stored_bytes: float
    client_bits_per_s: float
    inner_bits_per_s: float

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return every kind of unit."""
        return (self.edges, self.edge_hosts, self.dispatch, self.collect, self.primaries, self.stores)

    @property
    def cpu_us_a_message(self) -> float:
        """Return the CPU µs of all processes for a message, everything that is not a message included."""
        return MICRO * sum(self.cores.values()) / max(self.load.messages_per_s, 1.0)


def plan(load: Load, costs: Costs, limits: Limits | None = None) -> Plan:
    """Return what a load takes."""
    limits = limits or Limits()
    edges = _edges(load, costs, limits)
    dispatch = _part("dispatch owners", limits.share, "CPU", lambda count: dispatch_cores(load, costs, count))
    collect = _part("collect owners", limits.share, "CPU", lambda count: collect_cores(load, costs, count))
    redis_memory = redis_bytes(load, costs)
    by_cpu = _part("Redis primaries", limits.share, "CPU", lambda count: redis_cores(load, costs, count, edges.count))
    by_memory = _part("Redis primaries", limits.share, "memory", lambda _count: redis_memory / limits.redis_bytes)
    primaries = max(by_cpu, by_memory, key=lambda part: part.count)
    shards = max(dispatch.count, collect.count, primaries.count)
    cores = {
        "edges": edge_cores(load, costs, edges.count),
        "dispatch": dispatch_cores(load, costs, shards),
        "collect": collect_cores(load, costs, shards),
        "redis": redis_cores(load, costs, shards, edges.count),
    }
    memory, bits = edge_bytes(load, costs, edges.count), client_bits_per_s(load)
    hosts = _most(
        "edge hosts",
        {
            "CPU": edges.count / limits.host_cores,
            "memory": memory / limits.host_bytes / limits.share,
            "bandwidth": bits / limits.host_bits_per_s / limits.share,
        },
    )
    stores = _most("MongoDB primaries", {"inserts": load.lane("durable") / limits.store_inserts_per_s})
    stored = load.lane("durable") * 86_400 * load.retention_days * (load.body_bytes + DOCUMENT_BYTES)
    inner = inner_bits_per_s(load)
    return Plan(
        load, edges, hosts, dispatch, collect, primaries, shards, stores, cores, memory, redis_memory, stored, bits, inner
    )


def edge_cores(load: Load, costs: Costs, edges: int) -> float:
    """Return the cores that all edges use: messages, pings, renewals, connects."""
    us = sum(load.lane(lane) * at(stages["edge"], load.messages_per_s / edges) for lane, stages in costs.stages.items())
    us += load.users * (costs.ping_us / PING_S + costs.renewal_us["edge"] / RENEWAL_S)
    return (us + load.connects_per_s * costs.connect_us["edge"]) / MICRO


def edge_bytes(load: Load, costs: Costs, edges: int) -> float:
    """Return the memory of all edges."""
    return edges * costs.edge_bytes + load.users * costs.edge_connection_bytes


def dispatch_cores(load: Load, costs: Costs, shards: int) -> float:
    """Return the cores that all owners of dispatch use. A batch's parts for the edges are Redis' work."""
    us = sum(load.lane(lane) * at(stages["dispatch"], load.messages_per_s / shards) for lane, stages in costs.stages.items())
    return us / MICRO


def collect_cores(load: Load, costs: Costs, shards: int) -> float:
    """Return the cores that all owners of collect use."""
    return load.lane("durable") * at(costs.stages["durable"]["collect"], load.lane("durable") / shards) / MICRO


def redis_cores(load: Load, costs: Costs, shards: int, edges: int) -> float:
    """Return the cores that all primaries use: messages, their parts for each edge, renewals, connects."""
    rate = load.messages_per_s / shards
    us = sum(load.lane(lane) * at(stages["redis"], rate) for lane, stages in costs.stages.items())
    us += load.messages_per_s * more_publishes_a_message(costs, rate, edges) * costs.publish_us
    us += load.users * costs.renewal_us["redis"] / RENEWAL_S
    return (us + load.connects_per_s * costs.connect_us["redis"]) / MICRO


def more_publishes_a_message(costs: Costs, per_s: float, edges: int) -> float:
    """Return how many publishes more a message costs with these edges than with one, of a shard that has so many a second."""
    batch = max(1.0, at(costs.batches, per_s))
    return publishes_a_message(batch, edges) - publishes_a_message(batch, 1)


def redis_bytes(load: Load, costs: Costs) -> float:
    """Return the memory of all primaries: routes, presence, and ten seconds of the streams, so that somebody may stumble."""
    return load.users * costs.redis_connection_bytes + 10 * load.messages_per_s * (load.body_bytes + ENTRY_BYTES)


def client_bits_per_s(load: Load) -> float:
    """Return what goes to and from clients: messages, pings with their answers, connects of some 6 KiB."""
    messages = load.messages_per_s * (load.body_bytes + FRAME_BYTES + WIRE_BYTES)
    return 8 * (messages + load.users / PING_S * 2 * WIRE_BYTES + load.connects_per_s * 6_144)


def inner_bits_per_s(load: Load) -> float:
    """Return what goes between the services: into Redis, to collect, to the store, back to Redis, to the edges."""
    hops = {"fast": 2, "durable": 5}
    return 8 * sum(load.lane(lane) * count * (load.body_bytes + ENTRY_BYTES) for lane, count in hops.items())


def _part(name: str, share: float, binding: str, cores: Callable[[int], float]) -> Part:
    """Return the fewest units, of which each has no more to do than its share.

    What all of them do together grows with their number, since batches shrink, but slower than the number: so the first that is
    enough is found by going up.
    """
    count = 1
    while count < UNITS_MAX:
        needed = max(1, math.ceil(cores(count) / share))
        if needed <= count:
            return Part(name, count, binding, cores(count) / count)
        count = max(count + 1, needed)
    raise ValueError(f"{name}: no number of them is enough")


def _edges(load: Load, costs: Costs, limits: Limits) -> Part:
    return _part("edges", limits.share, "CPU", lambda count: edge_cores(load, costs, count))


def _most(name: str, needed: dict[str, float]) -> Part:
    binding = max(needed, key=lambda reason: needed[reason])
    count = max(1, math.ceil(needed[binding]))
    return Part(name, count, binding, needed[binding] / count)
