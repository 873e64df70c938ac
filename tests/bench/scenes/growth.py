"""What a message on the fast lane costs as things grow: registered users, shards, edges, the rate, bodies.

A cost that does not grow is a flat line. At a higher rate it falls, since batches fill by themselves: nothing waits for a
timer, so a message that comes alone goes alone. Registered users beyond those who are connected are routes written straight to
Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from redis import Redis

from router.keys import Keys
from tests.bench.bench import Bench
from tests.bench.dialect import user_name
from tests.bench.results import Figures, Measure
from tests.bench.stand import Stand
from tests.bench.way import Way
from tests.servers import wait_until

USERS: Final = (1_000, 100_000, 1_000_000)
SHARDS: Final = (1, 4, 16, 64)
EDGES: Final = (1, 2, 4, 8)
EDGES_RATE_PER_S: Final = 8_000
"""Batches of a few: each message is a publish of its own to an edge, which at saturation hundreds share."""
RATES_PER_S: Final = (500, 2_000, 8_000, 16_000, 32_000)
BODIES_BYTES: Final = (128, 1_024, 4_096, 16_384, 65_536)

USERS_TITLE: Final = "registered users"
SHARDS_TITLE: Final = "shards"
EDGES_TITLE: Final = "edges"
EDGES_AT_RATE_TITLE: Final = f"edges, at {EDGES_RATE_PER_S:,} messages a second"
RATES_TITLE: Final = "messages a second"
BODIES_TITLE: Final = "bytes a body"

TITLES: Final = (USERS_TITLE, SHARDS_TITLE, EDGES_TITLE, RATES_TITLE, BODIES_TITLE)

RUN_MAX_S: Final = 2.0
"""There are many points: a longer run would make it a long wait."""

BODY_USERS: Final = 200
"""Who get the bodies: of the longest, one message to each of 1,000 users would be more than may lie in Redis."""

ROUTE_TTL_MS: Final = 3_600_000

SETTLE_S: Final = 1.0
SETTLE_TIMEOUT_S: Final = 60.0

_AT_ONCE: Final = 10_000

_REGISTER: Final = """
for number = ARGV[2], ARGV[3] do
  local route = string.format('%su%07d', ARGV[1], number)
  redis.call('ZADD', route, ARGV[4], 'elsewhere.000000')
  redis.call('PEXPIREAT', route, ARGV[4])
end
"""


def run(bench: Bench) -> None:
    """Measure every axis."""
    with bench.stand() as stand, bench.seated(stand) as generator:
        way = Way("fast", "fast lane", stand, generator, "fast")
        bench.warm_up((way,))
        for _ in bench.rounds:
            _rates(bench, way)
            _bodies(bench, way)
        _users(bench, way, stand)
    for shards in SHARDS:
        with _systems(bench, settings={"shards": shards}) as way:
            _saturate(bench, way, SHARDS_TITLE, shards)
    for edges in EDGES:
        with _systems(bench, edges=edges) as way:
            _saturate(bench, way, EDGES_TITLE, edges)
            _drip_to_edges(bench, way, edges)


def _point(bench: Bench, title: str, at: float, name: str = "") -> Measure:
    return bench.measure(f"growth_{name or title.replace(' ', '_')}_{at:g}", title, "growth", at)


def _seconds(bench: Bench) -> float:
    return min(bench.wishes.seconds, RUN_MAX_S)


@contextmanager
def _systems(bench: Bench, **more: Any) -> Iterator[Way]:  # noqa: ANN401 - as Stand has them
    with bench.stand(**more) as stand, bench.seated(stand) as generator:
        way = Way("fast", "fast lane", stand, generator, "fast")
        bench.warm_up((way,))
        yield way


def _saturate(bench: Bench, way: Way, title: str, at: float) -> None:
    for _ in bench.rounds:
        measure = _point(bench, title, at)
        measure.add(_with_batches(way, partial(way.saturate, 1, _seconds(bench), measure)))


def _drip_to_edges(bench: Bench, way: Way, edges: int) -> None:
    for _ in bench.rounds:
        measure = _point(bench, EDGES_AT_RATE_TITLE, edges, "edges_at_rate")
        measure.add(_with_batches(way, partial(way.drip, EDGES_RATE_PER_S, _seconds(bench), measure)))


def _rates(bench: Bench, way: Way) -> None:
    """Raise the load, and see what dispatch makes of it."""
    for rate in RATES_PER_S:
        measure = _point(bench, RATES_TITLE, rate)
        measure.add(_with_batches(way, partial(way.drip, rate, _seconds(bench), measure)))


def _bodies(bench: Bench, way: Way) -> None:
    for size in BODIES_BYTES:
        measure = _point(bench, BODIES_TITLE, size)
        measure.add(way.saturate(1, _seconds(bench), measure, body=size, users=min(BODY_USERS, bench.wishes.users)))


def _users(bench: Bench, way: Way, stand: Stand) -> None:
    registered = bench.wishes.users
    for users in USERS:
        before = stand.redis_bytes()
        with stand.stack.redis_client() as redis:
            register(redis, Keys(stand.settings.prefix, 0), registered, users)
            _settle(redis)
        more, registered = users - registered, max(users, registered)
        routes = {"redis_bytes_a_route": (stand.redis_bytes() - before) / more} if more > 0 else {}
        for _ in bench.rounds:
            measure = _point(bench, USERS_TITLE, users)
            measure.add({**way.saturate(1, _seconds(bench), measure), **routes})


def _settle(redis: Redis) -> None:
    """Wait until Redis is done with what so many writes have it do: a rewrite of its file is not what a message costs."""

    def calm() -> bool:
        now = redis.info("persistence")
        return not (now["aof_rewrite_in_progress"] or now.get("aof_rewrite_scheduled", 0) or now["rdb_bgsave_in_progress"])

    time.sleep(SETTLE_S)  # it is begun by a timer of Redis
    wait_until(calm, "Redis has rewritten its file", SETTLE_TIMEOUT_S)


def register(redis: Redis, keys: Keys, first: int, last: int) -> None:
    """Write the routes of users `first` to `last` - 1, all to a node that nobody has heard of."""
    script = redis.register_script(_REGISTER)
    prefix = keys.route(user_name(0)).removesuffix(user_name(0))
    expiry_ms = time.time_ns() // 1_000_000 + ROUTE_TTL_MS
    for number in range(first, last, _AT_ONCE):
        script(args=[prefix, number, min(number + _AT_ONCE, last) - 1, expiry_ms])


def _with_batches(way: Way, run: Callable[[], Figures]) -> Figures:
    """Return the figures of a run, and how many messages dispatch took at a time meanwhile."""
    assert isinstance(way.system, Stand)
    before = _batches(way.system)
    return {**run(), **_batch_size(before, _batches(way.system))}


def _batches(stand: Stand) -> tuple[float, float]:
    """Return how many batches dispatch has had, and how many entries."""
    dispatch = stand.stack["dispatch"]
    return dispatch.metric('pushway_batch_size_count{stage="dispatch"}'), dispatch.metric(
        'pushway_batch_size_sum{stage="dispatch"}'
    )


def _batch_size(before: tuple[float, float], after: tuple[float, float]) -> Figures:
    batches = after[0] - before[0]
    return {"batch_size": (after[1] - before[1]) / batches} if batches else {}
