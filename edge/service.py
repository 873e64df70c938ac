"""The edge as a service: its parts, in the order in which they start and stop.

Redis fit? ─▶ keys, subscriber, heartbeat, routes (once subscribed), probes, cursors, catch-up, sweep ─▶ listen
stop ─▶ listen no more ─▶ drain (deliver to the rest) ─▶ cursors written ─▶ routes removed ─▶ leave ─▶ end
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, cast

import anyio
import structlog
from anyio.abc import TaskGroup
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from edge import kicked, replaced
from edge.admission import Admission
from edge.announced import Announced
from edge.answers import Answers
from edge.catch_up import CatchUp
from edge.connection import Connection
from edge.cursors import DeviceCursors
from edge.deafness import CONDITION as PROBES
from edge.delivery import Delivery
from edge.drain import drain
from edge.ears import Ears, Hearers
from edge.feed import Feed, Rolls
from edge.feeds import Feeds
from edge.gate import Gate
from edge.heads import READERS, Heads
from edge.members import MEMBERS, WATCHED
from edge.node import Node
from edge.open_files import raise_limit
from edge.position import Outlet
from edge.resync import Resync
from edge.revocations import KnownRevocations
from edge.routes import Routes
from edge.sessions import Sessions
from edge.standing import Standing
from edge.sweep import sweep
from edge.topic_events import TopicEvents
from edge.tracing import Hearer, Tracing
from edge.watching import Watching
from router.auth.ways import Way, make_way
from router.cluster_redis import groups_of
from router.cursor_cache import CursorCache
from router.cursors import Cursors
from router.errors import SetupError
from router.fitness import await_redis
from router.inbox import Inbox
from router.members import WORD as ASKED
from router.mongo_client import open_mongo
from router.ops import Health
from router.outage import Outages
from router.redis_client import OUTAGE, open_redis
from router.revoked import Revoked
from router.settings import Settings
from router.stored import Document
from router.subscriptions import END, READ_ANEW, Subscriptions
from router.targets import ALL
from router.tls.certificate import Certificate, edge_certificate
from router.tls.sealed import Sealed
from router.trace import Tracer

log = structlog.get_logger(__name__)

BACKLOG: Final = 2048
"""Connections that the kernel keeps waiting: a restart elsewhere sends thousands at once."""

UNSENT_MAX_BYTES: Final = 131_072
"""What the kernel takes for a client that does not read, beside what is on its way. Accepted sockets have it from the one that
listens. Otherwise it takes 4 MiB of each (tcp_wmem) before `send_buffer_soft_bytes` begins to count."""

KEYS: Final = "keys"
"""The readiness condition: there are keys to check tokens with. Once met, it stays so: keys are kept while auth is away."""

DRAINING: Final = "draining"


async def serve(settings: Settings, health: Health, stop: anyio.Event) -> None:
    """Hold connections until `stop` is set, then drain. Cancellation cuts them; what stands in Redis then lapses.

    Raises:
        SetupError: when Redis or the certificate is not fit, or the address cannot be listened on.
    """
    health.set(PROBES, ok=False, why="no probe has come back yet")
    health.set(KEYS, ok=False, why="no key to check tokens with yet")
    certificate = edge_certificate(settings)
    redis, mongo = open_redis(settings), open_mongo(settings)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_unstarted, stop, tasks)
            await await_redis(redis, settings, health)
            tasks.cancel_scope.cancel()
        if not stop.is_set():
            await _serve(settings, health, stop, certificate, redis, mongo)
    finally:
        with anyio.move_on_after(settings.redis_timeout_s, shield=True):
            await redis.aclose()
            await mongo.close()


async def _end_unstarted(stop: anyio.Event, tasks: TaskGroup) -> None:
    await stop.wait()
    tasks.cancel_scope.cancel()


async def _serve(
    settings: Settings,
    health: Health,
    stop: anyio.Event,
    certificate: Certificate | None,
    redis: Redis,
    mongo: AsyncMongoClient[Document],
) -> None:
    # Its own Health: what these outages say of Redis is for the log. An edge stays ready without Redis.
    # One a part, since each tells by its own calls that an outage is over.
    outages = partial(_outages, settings)
    inbox, stored, cache = Inbox(mongo, settings), Cursors(mongo, settings), CursorCache(redis, settings)
    cursors = DeviceCursors(stored, cache, settings, outages("cursors"))
    sessions, groups = Sessions[Connection](settings.sessions_user_max), groups_of(redis, settings.shards)

    def on_forgotten(shard: int) -> None:
        _begin_anew(routes, events, revocations, shard)

    node = Node(redis, settings, sessions.__len__, outages("node"), on_forgotten, groups)

    def on_subscribed(shards: range) -> None:
        node.beat_soon({*shards})
        if ears.concern_all(shards):
            revocations.subscribed()
        else:
            _look_anew(routes, feeds, watching, standing, shards)

    def on_heard(channel: str) -> None:
        feeds.heard(channel)

    def on_open() -> None:
        _look_anew(routes, feeds, watching, standing, range(settings.shards))

    revocations = _revocations(mongo, settings, health, sessions, lambda: ears.sure_at_s, on_open)
    reading = anyio.CapacityLimiter(READERS)
    heads = Heads(inbox, reading, outages("heads"))
    standing = Standing(Subscriptions(mongo, settings), sessions, reading, outages("standing"))
    tracing = Tracing(Tracer(redis, settings), node.id, _hearer_of)
    # By name, for the feeds come later: they tell these who joins.
    answers, watching, events = _tellers(redis, settings, node.id, lambda topic: map(_user_of, feeds.outlets(topic)))
    catch_up = CatchUp(inbox, reading, settings, outages("catch_up"), tracing, allowed=revocations.current)
    notices: dict[bytes, Callable[[bytes], None]] = {
        replaced.WORD: partial(replaced.hear, sessions.find),
        kicked.WORD: partial(kicked.hear, sessions),
        READ_ANEW.encode(): standing.hear_changed,
        END.encode(): standing.hear_ended,
        ASKED: answers.hear,
        WATCHED: watching.hear_watched,
        MEMBERS: watching.hear_members,
    }
    delivery = Delivery(sessions.audiences, catch_up.ask, tracing, notices)
    hearers = Hearers(partial(revocations.receive, delivery.receive), on_subscribed, on_heard, revocations.begin)
    ears = Ears(redis, settings, node.id, health, hearers)
    feeds = Feeds(
        *(redis, settings, ears, sessions.feeds, heads.ask, catch_up.ask, outages("feeds")),
        *(Rolls(watching, events), groups),
    )
    feeds.keep(ALL)
    resync = Resync(sessions.positions, heads.ask, catch_up.ask)
    routes = Routes(
        *(redis, settings, node.id, sessions.users, sessions.devices),
        *(partial(_may_be_routed, ears, revocations, node), resync.check, outages("routes"), groups),
    )
    verifier = make_way(settings)

    async with anyio.create_task_group() as tasks:
        admission = Admission(
            settings,
            node.id,
            sessions,
            routes,
            verifier,
            revocations,
            heads,
            feeds,
            cursors,
            standing,
            catch_up,
            watching,
            tasks,
            _gate(settings),
        )
        for part in (
            *(verifier.run, revocations.run, ears.run, node.run, routes.run, heads.run, cursors.run),
            *(catch_up.run, feeds.run, standing.run, answers.run, watching.run, events.run, tracing.run),
            *(partial(_note_keys, verifier, health), partial(sweep, admission.connections, settings)),
        ):
            tasks.start_soon(part)
        try:
            async with _listening(admission, settings, certificate, tasks):
                log.info("edge_started", node=node.id, host=settings.edge_host, port=settings.edge_port)
                await stop.wait()
            health.set(DRAINING, ok=False, why="draining")
            node.drain()
            await drain(admission, settings)
            for flush in (cursors.flush, tracing.flush, watching.flush, events.flush):
                await flush()
            await _leave(routes, node, settings)
        finally:
            admission.cut_all()
        tasks.cancel_scope.cancel()
    log.info("edge_ended", node=node.id)


def _outages(settings: Settings, part: str) -> Outages:
    return Outages(Health(), settings, service="edge", part=part)


async def _may_be_routed(ears: Ears, revocations: KnownRevocations, node: Node, shard: int) -> None:
    """Return when a route in a shard would lead to a node that delivers what is sent there, and counts as alive."""
    await ears.subscribed(shard)
    await revocations.opened()
    await node.tried(shard)


def _begin_anew(routes: Routes, events: TopicEvents, revocations: KnownRevocations, shard: int) -> None:
    """Say who is here once more: a shard has forgotten this node, or told others that it is gone."""
    revocations.read_soon()
    routes.write_anew({shard})
    events.say_anew(shard)


def _look_anew(routes: Routes, feeds: Feeds, watching: Watching, standing: Standing, shards: range) -> None:
    """Find out what was missed: payloads of some shards were lost, or dropped."""
    routes.write_anew(shards)
    feeds.subscribed(shards)
    watching.subscribed()
    standing.look_at_all()


def _gate(settings: Settings) -> Gate:
    return Gate(settings, raise_limit(), time.monotonic())


def _accept(admission: Admission, certificate: Certificate | None) -> asyncio.Protocol:
    """Return the protocol of a new socket, which is counted and has its time from the first byte on, also below TLS."""
    connection = admission.accept()
    turns, told = admission.turns, connection.enciphered
    above = connection if certificate is None else Sealed(connection, certificate.context, turns, told)
    return Announced(above, connection) if admission.settings.edge_proxy_protocol else above


@asynccontextmanager
async def _listening(
    admission: Admission, settings: Settings, certificate: Certificate | None, tasks: TaskGroup
) -> AsyncIterator[None]:
    """Accept connections within the block; those accepted live on behind it.

    Raises:
        SetupError: when the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    accept = partial(_accept, admission, certificate)
    if certificate is not None:
        tasks.start_soon(certificate.run)
    try:
        where_to = (settings.edge_host, settings.edge_port)
        server = await loop.create_server(accept, *where_to, backlog=BACKLOG, reuse_port=settings.edge_port_shared)
        for listening in server.sockets:
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MAX_BYTES)
    except OSError as exc:
        where = f"{settings.edge_host}:{settings.edge_port}"
        raise SetupError(f"cannot listen on {where} ({exc.strerror or exc}): free it or set edge_port.") from exc
    try:
        yield
    finally:
        server.close()


def _tellers(
    redis: Redis, settings: Settings, node: str, users_of: Callable[[str], Iterable[str]]
) -> tuple[Answers, Watching, TopicEvents]:
    """Return those who tell others of a topic's users here."""
    watching = Outages(Health(), settings, part="watching")
    return (
        Answers(redis, settings, node, users_of),
        Watching(redis, settings, node, lambda topic: {*users_of(topic)}, watching),
        TopicEvents(redis, settings, node, _user_of, Outages(Health(), settings, part="topic_events")),
    )


def _revocations(
    mongo: AsyncMongoClient[Document],
    settings: Settings,
    health: Health,
    sessions: Sessions[Connection],
    heard_at_s: Callable[[], float],
    on_open: Callable[[], None],
) -> KnownRevocations:
    outages = Outages(Health(), settings, part="revocations")
    return KnownRevocations(Revoked(mongo, settings), sessions, settings, health, outages, heard_at_s, on_open)


def _user_of(outlet: Outlet) -> str:
    return cast(Connection, outlet).session.user


def _hearer_of(outlet: Outlet) -> Hearer | None:
    if isinstance(outlet, Feed):
        return None
    session = cast(Connection, outlet).session
    return Hearer(session.id, session.cursor.device if session.cursor else None, session.acked)


async def _note_keys(verifier: Way, health: Health) -> None:
    await verifier.supplied()
    health.set(KEYS, ok=True)


async def _leave(routes: Routes, node: Node, settings: Settings) -> None:
    """Take the routes and the node out of Redis; what cannot be taken out lapses."""
    try:
        with anyio.fail_after(settings.redis_timeout_s):
            await routes.settled()
            await node.leave()
    except OUTAGE as exc:
        log.warning("leave_failed", error=str(exc))
