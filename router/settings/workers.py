"""Settings of collect and dispatch."""

from __future__ import annotations

import socket
from typing import Annotated

from pydantic import BaseModel, Field

from router.settings.kinds import Bytes, Count, Ms, Seconds


class WorkerSettings(BaseModel):
    """How shards are held, read and kept within bounds."""

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
