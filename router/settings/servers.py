"""Settings of the servers, and of what producers may send: nearly every service goes by these."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from router.settings.kinds import Count, Ms, Seconds


class ServerSettings(BaseModel):
    """Where Redis and MongoDB are, and the rules for entries."""

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
