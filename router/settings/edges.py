"""Settings of the edge."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from router.settings.kinds import Bytes, Count, Ms, Port, Seconds, Texts


class EdgeSettings(BaseModel):
    """Its door, its limits, and how long it waits for what."""

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

    @field_validator("cursor_idle_s")
    @classmethod
    def _outlives_messages(cls, idle_s: float, info: ValidationInfo) -> float:
        # A name that is missing was not accepted itself, which is told instead.
        if idle_s <= info.data.get("retention_s", 0.0) + info.data.get("ack_idle_s", 0.0):
            raise ValueError("not longer than retention_s and ack_idle_s together")
        return idle_s
