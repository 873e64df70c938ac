"""Every setting: its name, its default, what it accepts and why it is what it is.

Sources, the later winning: the defaults here, a TOML file, `PUSHWAY_*` variables (`PUSHWAY_<NAME>_FILE` names a file that
holds a secret), flags. A wrong value names itself, where it came from and what it accepts, and nothing starts.
docs/settings.md is made from this module, and a test holds the two together.
"""

from __future__ import annotations

import difflib
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from router.combined import problems
from router.errors import SettingError

ENV_PREFIX = "PUSHWAY_"
CONFIG_VARIABLE = "PUSHWAY_CONFIG"
FILE_SUFFIX = "_FILE"

SECRETS = frozenset({"api_key", "redis_url", "mongo_url", "jwt_secret", "auth_callback_secret"})
"""Settings that `PUSHWAY_<NAME>_FILE` may give, and that are never printed or logged."""


def _split_commas(value: object) -> object:
    """Let a variable or a flag give a list as `a,b`."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]


def _split_lines(value: object) -> object:
    """Let a variable or a file give a list as `a,b`, or one a line."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


Secrets = Annotated[tuple[str, ...], BeforeValidator(_split_lines)]

Port = Annotated[int, Field(ge=1, le=65535)]
OpsPort = Annotated[int, Field(ge=0, le=65535)]
Ms = Annotated[int, Field(ge=1, le=10**12)]
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """The settings in force, frozen. Each field's description is the manual's text for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # -- the servers -------------------------------------------------------------------------------------------------
    redis_url: str = Field(
        "redis://127.0.0.1:6390/0",
        pattern=r"^(redis|rediss|unix)://",
        description="Redis or Valkey, as redis:// or rediss://. User and password may stand in it. A Redis Cluster is "
        "redis://a:7000,b:7001,c/?cluster=true, by any of its nodes; a primary that sentinels watch is "
        "redis://s1:26379,s2,s3/0?sentinel=NAME, by any of them. "
        "What switches the verification of certificates off is refused unless the host is this machine.",
    )
    mongo_url: str = Field(
        "mongodb://127.0.0.1:27090/?directConnection=true",
        pattern=r"^mongodb(\+srv)?://",
        description="MongoDB, as a connection string; over TLS with tls=true. What switches the verification of certificates "
        "off is refused unless the host is this machine.",
    )
    mongo_database: str = Field("pushway", pattern=r"^[A-Za-z0-9_-]{1,63}$", description="The database in it.")
    redis_ca_file: str = Field(
        "",
        description="PEM file of the CA certificates that Redis' certificate is verified with, of a rediss:// address. Unless "
        "set, the machine's trust store.",
    )
    mongo_ca_file: str = Field("", description="The same for MongoDB, of an address with tls=true.")
    prefix: str = Field(
        "push",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="What every key begins with. A tenant is a prefix, a database name and a Redis ACL user.",
    )
    shards: int = Field(
        1,
        ge=1,
        le=1024,
        description="Into how many shards users and topics are divided. Fixed in push:config by the first start.",
    )
    redis_timeout_s: Seconds = Field(
        5.0, description="How long a Redis command or connect may take before it counts as an outage."
    )
    mongo_timeout_s: Seconds = Field(10.0, description="How long a MongoDB operation may take before it counts as an outage.")

    # -- what producers may send -------------------------------------------------------------------------------------
    body_max_bytes: Annotated[int, Field(ge=1, le=8_388_608)] = Field(
        65_536, description="Longest body or text, in bytes. Centrifugo's message_size_limit is the same."
    )
    targets_max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        10_000, description="Most targets in one entry. Each is a document and a seq of its own."
    )
    targets_inline_max: Count = Field(
        8, description="Above this many targets a message's body is stored once, and each target's document refers to it."
    )
    at_max_s: Seconds = Field(31_536_000.0, description="How far ahead a message may be appended with `at` (a year).")
    retention_s: Annotated[float, Field(ge=60, le=1e9)] = Field(
        2_592_000.0, description="How long a stored message is kept for replay (30 days) unless its ttl ends sooner."
    )
    idempotency_s: Seconds = Field(
        86_400.0,
        description="How long after its expiry a message's id still refuses a second one of that id (24 hours).",
    )
    transient_max_age_ms: Ms = Field(10_000, description="A transient message older than this is dropped.")

    # -- collect and dispatch ----------------------------------------------------------------------------------------
    worker: str = Field(
        default_factory=socket.gethostname,
        pattern=r'^[^\s,{}"\\]{1,128}$',
        description="The name under which this process holds leases, for people to read: <name>.<incarnation>, new at every "
        "start. Default: the host's name.",
    )
    lease_ms: Annotated[int, Field(ge=500)] = Field(
        5_000,
        description="How long a collect or dispatch lease lasts unless renewed (every third of it). A dead owner's work "
        "stands still this long; a shorter lease passes more easily from an owner that only stumbled.",
    )
    batch_max: Annotated[int, Field(ge=1, le=3_500)] = Field(
        2_048,
        description="Most entries one call takes from a stream, and about how many lines and targets. Batches fill by "
        "themselves under load; a single message never waits for one. Lua's unpack fails at 8,000 values, hence the limit.",
    )
    read_max_bytes: Bytes = Field(16_777_216, description="Most bytes one call takes from a stream (16 MiB).")
    publish_max_bytes: Bytes = Field(
        4_194_304,
        description="Most bytes one dispatch call publishes to one node (4 MiB). Redis cuts a subscriber off at 32 MB.",
    )
    wait_ms: Annotated[int, Field(ge=10, le=60_000)] = Field(
        1_000, description="How long a worker waits for news on a stream before it looks anyway."
    )
    recover_window_s: Seconds = Field(
        60.0,
        description="After Redis restarted or failed over, what was stored this recently is handed to dispatch once more. "
        "Longer than any replica lags behind its primary.",
    )
    out_high_water: Count = Field(
        10_000,
        description="Collect pauses while this many entries wait in out: dispatch is behind or away. One has up to 32 lines, "
        "of 32 KiB together.",
    )
    dead_max: Count = Field(10_000, description="About how many dead letters are kept; the oldest go first.")
    dead_max_bytes: Bytes = Field(
        67_108_864,
        description="About how much memory of Redis the dead letters of a shard may take (64 MiB); the older half goes first. "
        "An entry that is larger by itself is not kept.",
    )
    offline_max: Count = Field(10_000, description="About how many offline reports are kept; the oldest go first.")
    offline_max_bytes: Bytes = Field(
        268_435_456,
        description="About how much memory of Redis the offline reports of a shard may take (256 MiB); the older half goes "
        "first.",
    )
    events_max: Count = Field(
        100_000, description="About how many events of presence a shard keeps (online, offline …); the oldest go first."
    )
    offline_grace_ms: Ms = Field(
        5_000,
        description="How long a user has had no live route before it counts: who is back by then was never offline. "
        "Dispatch waits as long before it takes a node whose heartbeat has lapsed for dead, and at first after an outage.",
    )
    trace_max: Count = Field(10_000, description="About how many trace events a shard keeps; the oldest go first.")
    seq_idle_s: Seconds = Field(
        604_800.0,
        description="How long a target's counters outlive its last message (7 days). Later its head is read from MongoDB.",
    )
    backoff_min_ms: Ms = Field(
        50,
        description="Longest first pause after a failed try; it doubles with each further one. A pause is drawn from the "
        "upper half of what it may be (equal jitter).",
    )
    backoff_max_ms: Ms = Field(2_000, description="Longest pause between two tries.")

    # -- the edge ----------------------------------------------------------------------------------------------------
    node: str = Field(
        "edge",
        pattern=r'^[^\s,{}"\\]{1,100}$',
        description="This edge's name. Its node id is <name>.<incarnation>, new at every start.",
    )
    edge_host: str = Field("127.0.0.1", description="Address the edge listens on.")
    edge_port: Port = Field(8002, description="Port the edge listens on, for GET /v1/connect.")
    edge_port_shared: bool = Field(
        default=False,
        description="Whether other edges on this host may listen on the same port (SO_REUSEPORT): the kernel shares out new "
        "connections among them. `pushway edge --workers` sets it.",
    )
    edge_address: str = Field(
        "", description="How clients reach this edge, as in wss://host:port. Default: from edge_host and edge_port."
    )
    edge_tls_cert_file: str = Field(
        "",
        description="PEM file of the edge's certificate, and behind it those that lead to its CA: the edge then speaks wss:// "
        "(TLS 1.2 or 1.3) and nothing else. Unless set, ws://.",
    )
    edge_tls_key_file: str = Field("", description="PEM file of its private key, without a password.")
    edge_origins: Texts = Field(
        (),
        description="Origins of the pages that may connect, as in https://app.example.com or https://*.example.com; * lets all "
        "in. None given lets in pages of the edge's own host, as Centrifugo does. What is no browser sends no origin.",
    )
    route_ttl_ms: Annotated[int, Field(ge=1_000)] = Field(
        60_000,
        description="How long a route lives unless renewed (at a third of it). Centrifugo's presence TTL is the same.",
    )
    node_ttl_ms: Annotated[int, Field(ge=500)] = Field(
        7_000,
        description="How long a node counts as alive after its last heartbeat (each third of it). As Centrifugo's.",
    )
    probe_quiet_ms: Ms = Field(2_000, description="A node channel quiet for this long is probed: the edge publishes to itself.")
    probe_timeout_ms: Ms = Field(3_000, description="A probe not back by then means the edge is deaf: it subscribes anew.")
    connect_timeout_s: Seconds = Field(
        5.0,
        description="How long a client has for the handshake, that of TLS included, and then for its connect frame. Centrifugo "
        "gives 10.",
    )
    handshake_max_bytes: Bytes = Field(
        16_384,
        description="Longest request of a handshake, token and cookies included; a longer one is answered with 431. As in "
        "Node.js.",
    )
    heartbeat_s: Seconds = Field(25.0, description="A connection quiet for this long is pinged. As Centrifugo's.")
    heartbeat_timeout_s: Seconds = Field(
        8.0, description="A ping not answered by then closes with 4004. As Centrifugo's pong timeout."
    )
    token_notice_s: Annotated[float, Field(ge=0, le=1e9)] = Field(
        30.0, description="How long before its token ends a session is told, to send a newer one; 0 tells nobody."
    )
    close_timeout_s: Seconds = Field(
        5.0, description="How long a closing handshake may take before the socket is cut. websockets gives 10."
    )
    frame_max_bytes: Bytes = Field(
        65_536, description="Longest frame from a client; a longer one closes with 4505. Centrifugo's message_size_limit."
    )
    send_buffer_max_bytes: Bytes = Field(
        5_242_880,
        description="Most bytes waiting for one connection; more closes it with 4002 at once. One publish "
        "(`publish_max_bytes`) may come on top of `send_buffer_soft_bytes`.",
    )
    send_buffer_soft_bytes: Bytes = Field(
        1_048_576,
        description="So many may wait for `send_buffer_soft_s`: a burst passes, one that does not read is closed with 4002. "
        "Centrifugo's queue_max_size.",
    )
    send_buffer_soft_s: Seconds = Field(
        5.0, description="How long more than `send_buffer_soft_bytes` may wait for a connection; Redis gives a subscriber 60."
    )
    connections_max: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Most connections of one edge; one more closes with 4001. 0 is as many as the process may have files open, "
        "but for a few; nginx's worker_connections is bounded likewise.",
    )
    connections_address_max: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Most connections of one address on one edge (of IPv6: of a network of 64 bits); one more closes with "
        "4007. 0 is no limit, as in nginx: behind a balancer that edge_proxies does not name all have one address.",
    )
    handshakes_s_max: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Most connections a second that one edge takes, two seconds' worth at once; beyond it they close with 4001 "
        "and come back with backoff. 0 is no limit, as Centrifugo's connection_rate_limit.",
    )
    handshakes_address_s_max: Annotated[int, Field(ge=0)] = Field(
        0, description="The same of one address; beyond it they close with 4005. 0 is no limit."
    )
    edge_proxies: Texts = Field(
        (),
        description="Addresses and networks of balancers in front of the edge, as in 10.0.3.0/28. Of a connection from one of "
        "these the client's address is what it tells: in X-Forwarded-For the rightmost that is not among them. None given "
        "believes nobody. As nginx's set_real_ip_from.",
    )
    edge_proxy_protocol: bool = Field(
        default=False,
        description="Whether these balancers begin each connection with the PROXY protocol (version 1 or 2), ahead of TLS. A "
        "connection of theirs that does not is cut off; whoever else connects must not. As HAProxy's send-proxy-v2.",
    )
    frames_s_max: Annotated[int, Field(ge=0)] = Field(
        200,
        description="Most frames a second from one client, ten seconds' worth at once; beyond it the session closes with 4005. "
        "0 is no limit. Ably takes 50 messages a second.",
    )
    bytes_s_max: Annotated[int, Field(ge=0)] = Field(
        262_144,
        description="Most bytes a second from one client (four of the longest frames), ten seconds' worth at once; beyond it "
        "the session closes with 4005. 0 is no limit.",
    )
    sessions_user_max: Count = Field(
        100,
        description="Most sessions of one user on one edge; one more closes with 4007. Those of one device count as one while "
        "the newer one replaces the older. Centrifugo's user_connection_limit is none.",
    )
    subscriptions_session_max: Count = Field(128, description="Most topics that one session hears at a time, as in Centrifugo.")
    subscriptions_user_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        128, description="Most topics that back ends have one user subscribed to; all of the user's sessions hear them."
    )
    members_max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1_000,
        description="Most users of a topic whose members are told to clients that subscribe with presence. Each of them is "
        "told of each that comes or goes, so the work grows with the square.",
    )
    events_topics: Texts = Field(
        (),
        description="Patterns of the topics whose subscribed and unsubscribed are written to push:{s}:events, as room-*. "
        "Unless set, none.",
    )
    cursor_flush_s: Annotated[float, Field(gt=0, le=5)] = Field(
        2.0,
        description="How often acks are written to MongoDB. An edge that is killed forgets what came since; those messages "
        "are then sent once more to the device.",
    )
    cursor_waiting_max: Count = Field(
        100_000,
        description="Most cursors waiting to be written, as while MongoDB is away. The oldest go first, and what they "
        "stand for is sent once more.",
    )
    ack_idle_s: Seconds = Field(
        86_400.0,
        description="How long Redis keeps a copy of a device's cursors after their last change (a day). Later they are read "
        "from MongoDB.",
    )
    cursor_idle_s: Annotated[float, Field(gt=0, le=2e9, validate_default=True)] = Field(
        31_536_000.0,
        description="How long a device that is not seen is remembered (a year). Must be longer than retention_s and "
        "ack_idle_s together, so that a device which comes back late is told what it lost, not taken for a new one.",
    )
    drain_timeout_s: Seconds = Field(
        10.0,
        description="Over how long a stopping edge sends its sessions away, so that they do not all return at once.",
    )

    # -- auth --------------------------------------------------------------------------------------------------------
    auth_by: Literal["pushway", "jwt", "http"] = Field(
        "pushway",
        description="How edges tell who a client is: by tokens of the auth service here; by JSON Web Tokens of any issuer; or "
        "by asking a service over HTTP (docs/auth.md).",
    )
    auth_host: str = Field("127.0.0.1", description="Address the auth service listens on.")
    auth_port: Port = Field(8001, description="Port the auth service listens on.")
    auth_url: str = Field(
        "http://127.0.0.1:8001", pattern=r"^https?://", description="Where commands and edges find the auth service."
    )
    auth_key_file: Path = Field(
        Path("auth-key.pem"),
        description="The private Ed25519 key (PEM) that signs tokens; made at the first start, mode 0600. Copies of "
        "auth share the file.",
    )
    api_key: str = Field(
        "",
        description="What back ends show in Authorization: Bearer; it has every scope. At least 32 visible ASCII "
        "characters, as `openssl rand -base64 32` prints. Auth and the API start with it, with api_keys_file, or not at all.",
    )
    api_keys_file: str = Field(
        "",
        description="A file of API keys with names, scopes and expiry, as `pushway keys` makes it (docs/http.md). What has "
        "changed in it counts without a restart.",
    )
    api_keys_reload_s: Seconds = Field(2.0, description="How often auth and collect look whether api_keys_file has changed.")
    token_issuer: str = Field(
        "pushway",
        description="iss of tokens issued and accepted. Empty, which only auth_by jwt takes: it is not looked at.",
    )
    token_audience: str = Field(
        "pushway",
        description="aud of tokens issued and accepted; a token may have others beside it. Empty, which only auth_by jwt "
        "takes: it is not looked at, so that a token which the issuer gave for another service gets in.",
    )
    token_ttl_s: Annotated[int, Field(ge=1)] = Field(3_600, description="Life of a token unless asked otherwise.")
    token_leeway_s: Annotated[int, Field(ge=0)] = Field(5, description="Clock difference allowed at exp and nbf.")
    token_ttl_max_s: Annotated[int, Field(ge=1)] = Field(
        86_400, description="Longest life a back end may ask for (a day). A token that got out is good until its end."
    )
    token_topics_max: Count = Field(
        100, description="Most topic patterns and topics to subscribe in one token; a token is sent with every connect."
    )
    revocation_refresh_s: Seconds = Field(
        5.0,
        description="How often an edge reads what has been revoked, beside being told at once. So long a revocation may stay "
        "unknown to an edge that cannot be told: when who revoked died before telling, or it is cut off from Redis alone.",
    )
    revocation_grace_s: Seconds = Field(
        60.0,
        description="An edge that has neither heard of Redis nor read the list of what is revoked for so long closes everyone "
        "with 4001, and lets nobody in until it can read it. Longer than a failover of both takes.",
    )
    revocation_keep_s: Annotated[int, Field(ge=60, le=1_000_000_000)] = Field(
        2_592_000,
        description="How long a revocation is kept where tokens are not of auth here (30 days): longer than any token of "
        "yours lives. Those of auth live for token_ttl_max_s at most.",
    )
    auth_body_max_bytes: Bytes = Field(16_384, description="Longest request body that auth reads, in bytes.")
    auth_timeout_s: Seconds = Field(
        5.0, description="How long a request to the auth service, to jwt_jwks_url or to auth_callback_url may take."
    )
    jwks_refresh_s: Seconds = Field(
        300.0, description="How often an edge reads the public keys anew, of auth, of jwt_jwks_url or in jwt_key_file."
    )
    jwt_jwks_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Where the issuer publishes its keys as a JWK Set: Ed25519, RSA from 2,048 bits, P-256, P-384 and P-521. "
        "By https, or http to this machine and auth_plain_hosts. Of auth_by jwt.",
    )
    jwt_key_file: str = Field(
        "",
        description="A PEM file with the issuer's public key, or several while it changes keys; read anew every "
        "jwks_refresh_s. Of auth_by jwt.",
    )
    jwt_secret: Secrets = Field(
        (),
        description="The secret that the issuer signs with (HMAC), as it stands here, at least 32 bytes of it; or several "
        "while it is changed, one a line or a,b. Who has it can make tokens: public keys are better. Of auth_by jwt.",
    )
    jwt_algorithms: Texts = Field(
        (),
        description="Algorithms that tokens may be signed with: EdDSA, ES256, ES384, ES512, RS256 … RS512, PS256 … PS512 with "
        "public keys, HS256, HS384, HS512 with a secret. Unless set, all that fit the public keys, or HS256. Of auth_by jwt.",
    )
    jwt_user_claim: str = Field("sub", min_length=1, description="The claim that says who the user is. Of auth_by jwt.")
    auth_callback_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="The service that an edge asks about each token, by POST. By https, or http to this machine and "
        "auth_plain_hosts. Of auth_by http.",
    )
    auth_callback_secret: str = Field(
        "",
        description="What edges show that service in Authorization: Bearer, at least 32 visible ASCII characters; nothing "
        "unless set. Of auth_by http.",
    )
    auth_callback_headers: Texts = Field(
        (),
        description="Headers of the request to connect that are told to that service, as user-agent or x-forwarded-for. Edges "
        "keep them while the connection stands. Of auth_by http.",
    )
    auth_callback_calls_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        64, description="Most questions to that service at a time from one edge; others wait their turn. Of auth_by http."
    )
    auth_callback_failures_max: Count = Field(
        10,
        description="After so many failures in a row (no answer in time, none at all, 5xx) an edge asks no more, but for one "
        "try in a while, with backoff; clients are told to come again. Of auth_by http.",
    )
    auth_cache_s: Annotated[float, Field(ge=0, le=300)] = Field(
        10.0,
        description="How long an edge remembers that a service let a token in from the same address with the same headers; so "
        "long it lets a token in that was called back there. A refusal is remembered for a second. 0 remembers nothing. Of "
        "auth_by http.",
    )
    auth_cache_max: Count = Field(
        10_000, description="Most of those answers that an edge remembers; the oldest go first. Of auth_by http."
    )
    auth_plain_hosts: Texts = Field(
        (),
        description="Hosts that jwt_jwks_url and auth_callback_url may name with plain http, as a service in the same private "
        "network. Who can change what goes between can let anybody in.",
    )

    # -- watching ----------------------------------------------------------------------------------------------------
    api_host: str = Field("127.0.0.1", description="Address collect serves its API on.")
    api_port: OpsPort = Field(8000, description="Port collect serves its API on; 0 serves none.")
    api_request_max_bytes: Bytes = Field(
        16_777_216, description="Longest body of a request to the API, in bytes (16 MiB); read whole before it is taken apart."
    )
    api_messages_max: Annotated[int, Field(ge=1, le=100_000)] = Field(
        10_000, description="Most messages in one request to append."
    )
    api_targets_max: Annotated[int, Field(ge=1, le=100_000)] = Field(
        20_000,
        description="Most targets of all messages in one request to append: each of a message with an id is looked up.",
    )
    api_in_max: Count = Field(
        100_000,
        description="The API takes no message for a shard while this many entries wait in its in, or fast for a transient one: "
        "collect or dispatch is behind or away. It answers 503 with Retry-After; who appends to the stream is not held back.",
    )
    api_in_hand_max_bytes: Bytes = Field(
        134_217_728,
        description="Most bytes of requests to append that the API has in hand at once, read in part, worked on or waiting "
        "(128 MiB); they take several times the memory. What comes beyond is answered 503 with Retry-After, unless alone.",
    )
    api_forgets_max: Count = Field(
        16,
        description="Most requests to erase a person that the API has in hand at once; two are worked on, and the others wait. "
        "What comes beyond is answered 503 with Retry-After.",
    )
    api_wait_max_s: Annotated[int, Field(ge=0, le=3_600)] = Field(
        30, description="Longest wait that a request may prefer (Prefer: wait=N), in seconds. A longer one is cut to it."
    )
    members_timeout_ms: Annotated[int, Field(ge=10, le=60_000)] = Field(
        2_000,
        description="How long the edges' answers are waited for when somebody asks who has subscribed to a topic. Then what "
        "has come counts.",
    )
    api_page: bool = Field(
        default=False,
        description="Whether the API serves the page for development at its root. Whoever reaches it gets a token for "
        "anybody and may append messages: `up` sets it, nothing else should.",
    )
    api_ready_urls: Texts = Field(
        (), description="readyz addresses of other processes that /readyz of the API answers for; `up` sets them."
    )
    ops_host: str = Field("127.0.0.1", description="Address of /livez, /readyz and /metrics.")
    ops_port: OpsPort = Field(0, description="Port of /livez, /readyz and /metrics; 0 serves none.")
    edge_urls: Texts = Field(
        ("ws://127.0.0.1:8002/v1/connect",), description="Edges that `pushway listen` connects to, in turn."
    )
    http_tls_cert_file: str = Field(
        "",
        description="PEM file of the certificate of the API and of auth, and behind it those that lead to its CA: both then "
        "speak https and nothing else; auth_url is to say so. The ops ports stay plain.",
    )
    http_tls_key_file: str = Field("", description="PEM file of its private key, without a password.")
    http_ca_file: str = Field(
        "",
        description="PEM file of CA certificates to trust beside those of the machine, where auth_url, jwt_jwks_url, "
        "auth_callback_url, edge_urls or api_ready_urls say https or wss.",
    )
    tls_reload_s: Seconds = Field(
        10.0,
        description="How often the files of a certificate and its key are looked at. A fit new pair serves new handshakes; "
        "connections that stand go on. SIGHUP has them looked at at once.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least a log line must be.")
    log_format: Literal["console", "json"] = Field("console", description="For people, or a JSON object a line.")
    log_repeats_max: Count = Field(
        10, description="Most lines of one kind written within log_repeats_s; how many more there were is told after it."
    )
    log_repeats_s: Seconds = Field(10.0, description="How long a kind of line is counted, in seconds, from its first on.")

    @field_validator("cursor_idle_s")
    @classmethod
    def _outlives_messages(cls, idle_s: float, info: ValidationInfo) -> float:
        # A name that is missing was not accepted itself, which is told instead.
        if idle_s <= info.data.get("retention_s", 0.0) + info.data.get("ack_idle_s", 0.0):
            raise ValueError("not longer than retention_s and ack_idle_s together")
        return idle_s


def load_settings(
    *,
    config: Path | None = None,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Return the settings in force.

    Args:
        config: the TOML file; None takes the one that `PUSHWAY_CONFIG` names, if any.
        environ: the environment, where `PUSHWAY_*` variables are looked for.
        flags: settings given on the command line; None values count as not given.

    Raises:
        SettingError: for names that do not exist and values that are not accepted, all in one; or a file that cannot be read.
    """
    layers: list[tuple[dict[str, object], str]] = []
    path = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if path is not None:
        layers.append((_read_toml(path), str(path)))
    layers.extend(_read_environ(environ))
    layers.extend(({name: value}, "flag") for name, value in (flags or {}).items() if value is not None)

    found = {name: (value, source) for layer, source in layers for name, value in layer.items()}
    unknown = [
        SettingError(name, source, f"there is no such setting{_suggest(name)}")
        for name, (_, source) in found.items()
        if name not in Settings.model_fields
    ]
    known = {name: value for name, (value, _) in found.items() if name in Settings.model_fields}
    try:
        settings = Settings.model_validate(known)
    except ValidationError as exc:
        raise _together(unknown + _not_accepted(exc, {name: source for name, (_, source) in found.items()})) from None
    wrong = [SettingError(name, found[name][1] if name in found else "default", text) for name, text in problems(settings)]
    if unknown or wrong:
        raise _together(unknown + wrong)
    return settings


def _not_accepted(exc: ValidationError, sources: Mapping[str, str]) -> list[SettingError]:
    """Return an error for each setting that has a value it does not accept."""
    errors: dict[str, SettingError] = {}
    for error in exc.errors(include_url=False):
        name = str(error["loc"][0])
        got = "that value" if name in SECRETS else repr(error["input"])
        errors[name] = SettingError(name, sources.get(name, "default"), f"{got} is not accepted; {_accepts(name)}")
    return list(errors.values())


def _together(errors: list[SettingError]) -> SettingError:
    first, *others = errors
    return SettingError(first.name, first.source, first.problem, tuple(others))


def _read_toml(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise SettingError("config", str(path), f"the file cannot be read ({exc.strerror})") from None
    except (ValueError, RecursionError) as exc:  # also for bytes that are no UTF-8, and for numbers of thousands of digits
        raise SettingError("config", str(path), f"the file is not TOML ({exc})") from None


def _read_environ(environ: Mapping[str, str]) -> list[tuple[dict[str, object], str]]:
    layers: list[tuple[dict[str, object], str]] = []
    for variable, value in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        secret = name.removesuffix(FILE_SUFFIX.lower())
        if name not in Settings.model_fields and name.endswith(FILE_SUFFIX.lower()) and secret in SECRETS:
            try:
                layers.append(({secret: Path(value).read_text(encoding="utf-8").strip()}, variable))
            except OSError as exc:
                raise SettingError(secret, variable, f"{value} cannot be read ({exc.strerror})") from None
            except ValueError as exc:
                raise SettingError(secret, variable, f"{value!r} cannot be read as text ({exc})") from None
        else:
            layers.append(({name: value}, variable))
    return layers


def _suggest(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else "; docs/settings.md lists them all"


def accepted_values(name: str) -> str:
    """Return what a setting accepts, in words, for the manual and for errors."""
    schema: dict[str, Any] = Settings.model_json_schema()["properties"][name]
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    words = {"integer": "a whole number", "number": "a number", "array": "a list (a,b in a variable)"}
    kind = words.get(schema.get("type", ""), "a text")
    bounds = {
        "minimum": "at least {:,}",
        "exclusiveMinimum": "above {:,}",
        "maximum": "at most {:,}",
        "minLength": "at least {:,} character",
        "pattern": "matching {}",
    }
    limits = [text.format(schema[key]) for key, text in bounds.items() if key in schema]
    return ", ".join([kind, *limits])


def _accepts(name: str) -> str:
    field = Settings.model_fields[name]
    return f"it takes {accepted_values(name)}. {field.description}"
