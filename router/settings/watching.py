"""Settings of what people and programs ask: the API, the ops ports, the logs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from router.settings.kinds import Bytes, Count, OpsPort, Seconds, Texts


class WatchingSettings(BaseModel):
    """What is served beside the messages."""

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
