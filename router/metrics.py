"""The figures every service keeps, served at /metrics of its ops port; docs/metrics.md is made from this module.

Base units, `_total` for what only grows, and never a user, topic or id in a label: a label's values are a small set that is
known beforehand (`LABELS`). A help line says what is counted and then the question that it answers.

Where a figure that never came would leave an alert without anything to compare, its label values are there from the start, as
zeros. `OF` says which service shows which figures: one that a service can never move would only look like a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase

from router import __version__
from router.tallied import TalliedCounter, TalliedHistogram

# When each series was born is a series more for every one there is, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # of the library

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""From one call on one machine to what a failover takes. The whole path takes some 10 ms, so most bounds lie there."""

SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""`batch_max` is 2,048."""

LABELS: Final[Mapping[str, str]] = {
    "code": "the close code ([protocol.md](protocol.md)); `other` for one that only a back end chooses",
    "door": "`edge`, or `http` of auth and the API",
    "event": "`offline` or `gone` ([presence.md](presence.md))",
    "method": "of HTTP; `other` for what is none",
    "operation": "of Redis: the script in `lua/`, the command, or `pipeline`; of MongoDB: the collection's call",
    "reason": "`lost` (the connection ended), `probe` (the edge was deaf), `sunsubscribe` (Redis took a channel back)",
    "result": "of tokens: `accepted`, `expired`, `refused`, `revoked`, or `unavailable` where keys, a judgement or the list of "
    "what is revoked could not be had; of "
    "callbacks: `accepted`, `refused`, `remembered` (not asked again), `failed` (no answer, or 5xx), `unclear` (an answer that "
    "is no judgement), `withheld` (not asked, since it fails)",
    "role": "`collect` or `dispatch`",
    "route": "the template of the address, as in `/v1/users/{user}`; `other` for none of ours",
    "server": "`redis` or `mongo`",
    "shard": "its number",
    "source": "the stream that the entry was in: `in`, `out` or `fast`",
    "stage": "of latency: `appended_to_stored`, `out_wait` and `fast_wait` (in the stream), `appended_to_written` (to the "
    "socket); of batches: `collect`, `dispatch`, `edge`",
    "status": "the HTTP status of the answer",
    "stream": "the last part of its key: `in`, `out`, `fast`, `dead` or `offline`",
    "version": "of Pushway",
}
"""What the values of each label are."""

# -- every service ---------------------------------------------------------------------------------------------------

BUILD: Final = Gauge("pushway_build_info", "Always 1. Which version runs where?", ["version"])

# -- TLS -------------------------------------------------------------------------------------------------------------

CERTIFICATE_EXPIRES: Final = Gauge(
    "pushway_certificate_expires_seconds",
    "Unix time at which the certificate that new handshakes get is over. Is a new one due?",
    ["door"],
)
TLS_FAILED: Final = Counter(
    "pushway_tls_failed",
    "Connections whose TLS handshake failed: no TLS, none that we speak, or a certificate that the client does not believe. Do "
    "clients trust it?",
)

# -- the servers that all rest on ------------------------------------------------------------------------------------

OUTAGES: Final = Gauge(
    "pushway_outages",
    "Parts of the process that wait for a server to come back. Which server is away, and for whom?",
    ["server"],
)
REDIS_SECONDS: Final = TalliedHistogram(
    "pushway_redis_seconds",
    "Time of a call to Redis, failed ones too; waiting for news is left out, and what dispatch calls with that. Is Redis "
    "slow, or one of the scripts?",
    ["operation"],
    buckets=SECONDS,
)
MONGO_SECONDS: Final = Histogram(
    "pushway_mongo_seconds",
    "Time of a call to MongoDB, failed ones too. Is MongoDB slow, and at what?",
    ["operation"],
    buckets=SECONDS,
)

# -- collect and dispatch --------------------------------------------------------------------------------------------

LEASE_HELD: Final = Gauge(
    "pushway_lease_held",
    "1 where this process holds the lease, 0 where it stands by. Does anybody work on the shard?",
    ["role", "shard"],
)
WORKERS: Final = Gauge(
    "pushway_workers",
    "Workers of the role that live, as this one sees it; they share the shards evenly. Are there as many as were started?",
    ["role"],
)
HANDOVERS: Final = Counter(
    "pushway_handovers",
    "Shards given back behind a batch, so that another worker has as many. Do workers come and go too often?",
    ["role"],
)
STREAM_ENTRIES: Final = Gauge(
    "pushway_stream_entries",
    "Entries in a stream, told by the holder of the lease. How much waits (in, out, fast) or lies there (dead, offline)?",
    ["stream", "shard"],
)
STREAM_PENDING: Final = Gauge(
    "pushway_stream_pending",
    "Messages that have their seq and are not in out yet. Is a batch in hand, and does it end?",
    ["stream", "shard"],
)
STREAM_OLDEST_SECONDS: Final = Gauge(
    "pushway_stream_oldest_seconds",
    "Age of the oldest entry that is not done with, 0 where there is none. How far behind is the stream's reader?",
    ["stream", "shard"],
)
LATENCY_SECONDS: Final = TalliedHistogram(
    "pushway_latency_seconds",
    "How long messages had been on their way at a stage, one sample a batch. Where does the time go?",
    ["stage"],
    buckets=SECONDS,
)
BATCH_SIZE: Final = TalliedHistogram(
    "pushway_batch_size",
    "Entries a batch of collect, messages one of dispatch, frames a chunk of the edge. Does load fill the batches, as it "
    "should?",
    ["stage"],
    buckets=SIZES,
)
DEAD: Final = Counter(
    "pushway_dead",
    "Entries, of `out` lines, moved to the dead-letter stream. Does somebody append what breaks a rule?",
    ["source"],
)

ACCEPTED: Final = Counter("pushway_accepted", "Messages stored in MongoDB, one a target. How much is accepted?")
REPEATED: Final = Counter(
    "pushway_repeated", "Messages whose id had been accepted before. Do producers repeat themselves, or a shard its batches?"
)
RECOVERED: Final = Counter(
    "pushway_recovered", "Messages appended anew after Redis had restarted or failed over. How much was recovered?"
)
TRANSIENT: Final = Counter("pushway_transient", "Transient messages handed to dispatch by collect. How much goes unstored?")

DISPATCHED: Final = TalliedCounter(
    "pushway_dispatched",
    "Messages read by dispatch and published to the nodes that hold a route. How much leaves for the edges?",
)
FAST: Final = TalliedCounter("pushway_fast", "Messages of the fast lane among those dispatched. How much takes it?")
MOVED: Final = Counter(
    "pushway_moved", "Entries of the fast lane appended to the shard they belong to. Do producers choose the wrong one?"
)
OFFLINE: Final = Counter("pushway_offline", "Durable messages reported to the offline stream. How much finds nobody connected?")
PRESENCE_EVENTS: Final = Counter(
    "pushway_presence_events", "Events that dispatch has written to events. Who leaves, and which nodes have died?", ["event"]
)
LEAVING: Final = Gauge(
    "pushway_leaving",
    "Users without a live route whose grace is not over. Do many leave at once, or is nobody looking?",
    ["shard"],
)

# -- the edge --------------------------------------------------------------------------------------------------------

SESSIONS: Final = Gauge(
    "pushway_sessions", "Sessions that hear messages: authenticated and not closing. How many people are connected?"
)
CONNECTIONS: Final = Gauge(
    "pushway_connections", "Open TCP connections, those in the handshake included. Do connections come that never get in?"
)
SUBSCRIPTIONS: Final = Gauge(
    "pushway_subscriptions", "Topics that sessions hear or wait to hear, added up over the sessions. How much are topics used?"
)
FEEDS: Final = Gauge("pushway_feeds", "Topics that the edge hears for its sessions, and all. How many channels does it hold?")
DELIVERED: Final = TalliedCounter(
    "pushway_delivered", "Message frames written to sessions as they came. How much is delivered live?"
)
DUPLICATES: Final = Counter(
    "pushway_duplicates", "Messages dropped because the session had that seq already. Is something sent twice?"
)
EXPIRED: Final = Counter("pushway_expired", "Messages dropped because their time was over. Do messages come too late?")
REFUSED: Final = Counter(
    "pushway_refused",
    "Lines of the fast lane that the edge refused to send. Does somebody append what is not JSON, or not UTF-8?",
)
GAPS: Final = Counter("pushway_gaps", "Messages whose prev the session had not seen. Is something lost on the way to the edge?")
HANDSHAKES_FAILED: Final = Counter(
    "pushway_handshakes_failed",
    "Sockets that never became a WebSocket. Does somebody try the door, or speak TLS where there is none?",
    ["reason"],
)
CLOSES: Final = Counter("pushway_closes", "Sessions closed by the edge. Why are clients sent away?", ["code"])
LAPSED: Final = Counter(
    "pushway_lapsed_routes", "Renewals that found the route gone: messages may have been missed. Do routes lapse?"
)
BEHIND: Final = Counter(
    "pushway_sessions_behind",
    "Sessions found behind the head after a loss; some of it may be on its way still. Whom did the loss concern?",
)
REPLAYED: Final = Counter(
    "pushway_replayed", "Messages read from MongoDB for sessions that were behind. How much is delivered late?"
)
CURSORS_WRITTEN: Final = Counter(
    "pushway_cursors_written", "Device cursors written to MongoDB, behind the acks that moved them. Do acks get through?"
)
CURSORS_WAITING: Final = Gauge(
    "pushway_cursors_waiting", "Device cursors that wait to be written. Does MongoDB keep up with acks?"
)
CURSORS_DROPPED: Final = Counter(
    "pushway_cursors_dropped", "Device cursors never written, because too many waited. Will devices get messages once more?"
)
RESUBSCRIBED: Final = Counter(
    "pushway_resubscribed", "Times the edge subscribed anew. Does the edge lose its ears, and how?", ["reason"]
)
PROBE_AGE_SECONDS: Final = Gauge(
    "pushway_probe_age_seconds", "Since the edge was last sure that it hears each of its channels. Is it deaf?"
)
ANSWERS_DROPPED: Final = Counter(
    "pushway_answers_dropped", "Questions who of a topic is here that the edge did not answer. Does somebody ask too much?"
)
WATCHED_TOPICS: Final = Gauge(
    "pushway_watched_topics", "Topics whose members the edge tells to its clients. How much is presence of topics used?"
)
EVENTS_DROPPED: Final = Counter(
    "pushway_events_dropped",
    "Events subscribed and unsubscribed never written, because too many waited. Does whoever reads them miss some?",
)
TRACE_LOST: Final = Counter(
    "pushway_trace_lost", "Trace events that could not be written; the messages themselves went on. Is a trace incomplete?"
)

# -- tokens and HTTP -------------------------------------------------------------------------------------------------

TOKENS_ISSUED: Final = Counter("pushway_tokens_issued", "Tokens issued by auth. Do back ends get their tokens?")
TOKENS_CHECKED: Final = Counter(
    "pushway_tokens_checked", "Tokens looked at, by auth or at an edge's door. Why do clients not get in?", ["result"]
)
TOKENS_REVOKED: Final = Counter(
    "pushway_tokens_revoked", "Revocations that auth has written and told. Does somebody call tokens back?"
)
REVOCATIONS: Final = Gauge("pushway_revocations", "Revocations that the edge holds new connects against. How long is the list?")
REVOCATIONS_AGE_SECONDS: Final = Gauge(
    "pushway_revocations_age_seconds", "Since the edge last read what is revoked. Does it still know?"
)
SESSIONS_REVOKED: Final = Counter(
    "pushway_sessions_revoked", "Sessions ended because their token was revoked. Whom did it concern?"
)
AUTH_CALLBACKS: Final = Counter(
    "pushway_auth_callbacks",
    "Judgements of auth_callback_url that an edge needed. Does your service let people in?",
    ["result"],
)
AUTH_CALLBACK_SECONDS: Final = Histogram(
    "pushway_auth_callback_seconds", "Time to ask auth_callback_url. Does your service hold connects up?", buckets=SECONDS
)
HTTP_REQUESTS: Final = Counter(
    "pushway_http_requests", "Requests answered. Who asks for what, and what fails?", ["method", "route", "status"]
)
HTTP_SECONDS: Final = Histogram(
    "pushway_http_seconds", "Time to answer a request. Is the API slow, and where?", ["method", "route"], buckets=SECONDS
)

_LEASES: Final = (LEASE_HELD, WORKERS, HANDOVERS)
_STREAMS: Final = (STREAM_ENTRIES, STREAM_PENDING, STREAM_OLDEST_SECONDS)
_TLS: Final = (CERTIFICATE_EXPIRES, TLS_FAILED)
_STAGES: Final = (LATENCY_SECONDS, BATCH_SIZE)
_HTTP: Final = (HTTP_REQUESTS, HTTP_SECONDS)
_STORES: Final = (OUTAGES, REDIS_SECONDS, MONGO_SECONDS)

OF: Final[Mapping[str, tuple[MetricWrapperBase, ...]]] = {
    "auth": (BUILD, *_TLS, REDIS_SECONDS, MONGO_SECONDS, TOKENS_ISSUED, TOKENS_CHECKED, TOKENS_REVOKED, *_HTTP),
    "collect": (
        *(BUILD, *_TLS, *_STORES, *_LEASES, *_STREAMS, *_STAGES, *_HTTP),
        *(ACCEPTED, REPEATED, RECOVERED, TRANSIENT, DEAD, TRACE_LOST),
    ),
    "dispatch": (
        BUILD,
        OUTAGES,
        REDIS_SECONDS,
        *_LEASES,
        *_STREAMS,
        *_STAGES,
        DISPATCHED,
        FAST,
        MOVED,
        EXPIRED,
        OFFLINE,
        PRESENCE_EVENTS,
        LEAVING,
        DEAD,
    ),
    "edge": (
        *(BUILD, *_TLS, *_STORES, *_STAGES),
        *(SESSIONS, CONNECTIONS, SUBSCRIPTIONS, FEEDS, HANDSHAKES_FAILED, CLOSES, TOKENS_CHECKED),
        *(DELIVERED, DUPLICATES, EXPIRED, REFUSED, GAPS),
        *(LAPSED, BEHIND, REPLAYED, RESUBSCRIBED, PROBE_AGE_SECONDS),
        *(CURSORS_WRITTEN, CURSORS_WAITING, CURSORS_DROPPED, TRACE_LOST),
        *(ANSWERS_DROPPED, WATCHED_TOPICS, EVENTS_DROPPED),
        *(AUTH_CALLBACKS, AUTH_CALLBACK_SECONDS),
        *(REVOCATIONS, REVOCATIONS_AGE_SECONDS, SESSIONS_REVOKED),
    ),
}
"""Service → the figures that it shows. The process' own (`process_…`, `python_…`) come with each."""

BUILD.labels(version=__version__).set(1)
for _source in ("in", "out", "fast"):
    DEAD.labels(source=_source)
for _event in ("offline", "gone"):
    PRESENCE_EVENTS.labels(event=_event)
for _server in ("redis", "mongo"):
    OUTAGES.labels(server=_server)
for _reason in ("left", "slow", "malformed", "refused", "too_large", "unannounced"):
    HANDSHAKES_FAILED.labels(reason=_reason)
for _result in ("accepted", "expired", "refused", "revoked", "unavailable"):
    TOKENS_CHECKED.labels(result=_result)
for _result in ("accepted", "refused", "remembered", "failed", "unclear", "withheld"):
    AUTH_CALLBACKS.labels(result=_result)


def registry_of(service: str) -> CollectorRegistry:
    """Return what /metrics of a service shows."""
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR, *OF.get(service, (BUILD,))):
        registry.register(collector)
    return registry


@dataclass(frozen=True, slots=True)
class Facts:
    """What a metric is, as an operator sees it: `_total` belongs to a counter's name."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def describe(metric: MetricWrapperBase) -> Facts:
    """Return what a metric is."""
    family = next(iter(metric.describe()))
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Facts(name, family.type, tuple(metric._labelnames), family.documentation)  # noqa: SLF001 - nothing public tells
