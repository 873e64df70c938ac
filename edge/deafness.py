"""Noticing that the edge hears nothing although all looks well.

A subscription can be dead while its connection looks alive: a firewall that forgot it, a proxy that kept one half, a Redis
that was replaced behind the same address. Nothing then comes in, which is what a quiet night looks like too. So a channel
that has been quiet for `probe_quiet_ms` is probed: the edge publishes a line to itself by the same path that dispatch
uses. Anything heard on the channel since then proves the ear; silence for `probe_timeout_ms` means it is deaf, and the
edge subscribes anew. An edge that cannot subscribe (an ACL took its channels, say) hears nothing either.

Only a Redis that answers can prove deafness. While it does not, nothing is judged: a Redis that is away must not make the
edge unready, for a balancer would then drop every socket over it.
"""

from __future__ import annotations

import itertools
import time
from enum import Enum, auto
from typing import Final

import anyio
import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from edge.subscriber import PROBE, Subscriber
from router.ops import Health
from router.redis_client import OUTAGE
from router.settings import Settings

log = structlog.get_logger(__name__)

CONDITION: Final = "probes"
"""The readiness condition: probes come back."""

_LOOKS_A_WAIT: Final = 4
"""How often is judged in the shorter of the two times: each ends at most a quarter late."""

_SOON_S: Final = 0.05
"""How soon to judge again while a channel is not known to be heard."""


class Verdict(Enum):
    """What is to be thought of a channel."""

    HEARING = auto()
    QUIET = auto()
    """Probe it."""
    WAITING = auto()
    """A probe is on its way."""
    DEAF = auto()
    """The probe did not come back."""


class Ear:
    """Judges one channel. Pure: times come in, a verdict goes out."""

    def __init__(self, quiet_s: float, timeout_s: float) -> None:
        self._quiet_s = quiet_s
        self._timeout_s = timeout_s
        self._probed_at_s: float | None = None
        self._doubted = True

    def judge(self, heard_at_s: float, now_s: float) -> Verdict:
        """Return the verdict; after QUIET publish a probe and call `probed`.

        Args:
            heard_at_s: when anything last came on the channel, or when it was subscribed.
            now_s: the same clock.
        """
        if self._probed_at_s is not None and heard_at_s < self._probed_at_s:
            return Verdict.WAITING if now_s - self._probed_at_s < self._timeout_s else self._deaf()
        if self._probed_at_s is not None:
            self._probed_at_s, self._doubted = None, False
        # At the start, and once it has been deaf, a subscription alone proves nothing: probe at once.
        return Verdict.QUIET if self._doubted or now_s - heard_at_s >= self._quiet_s else Verdict.HEARING

    def probed(self, now_s: float) -> None:
        """Note that a probe is about to be published."""
        self._probed_at_s = now_s

    def forget(self) -> None:
        """Note that Redis is away or the subscription is new: the probe on its way proves nothing any more."""
        self._probed_at_s = None

    def _deaf(self) -> Verdict:
        self._probed_at_s, self._doubted = None, True
        return Verdict.DEAF


class Deafness:
    """Probes the node's channels and has the subscriber begin anew when they are not heard.

    Args:
        redis: publishes the probes; another connection than the subscriber's, as dispatch's is.
        settings: `probe_quiet_ms`, `probe_timeout_ms`.
        channels: the channels of the subscriber.
        subscriber: whose ears are tried.
        health: gets the condition `probes`.
        of: what the condition's name says besides, where there are several of these.

    Attributes:
        sure_at_s: when all channels were last known to be heard (monotonic clock).
    """

    def __init__(
        self, redis: Redis, settings: Settings, channels: list[str], subscriber: Subscriber, health: Health, of: str = ""
    ) -> None:
        quiet_s, timeout_s = settings.probe_quiet_ms / 1000, settings.probe_timeout_ms / 1000
        self._redis = redis
        self._timeout_s = timeout_s
        self._look_every_s = min(quiet_s, timeout_s) / _LOOKS_A_WAIT
        self._ears = {channel: Ear(quiet_s, timeout_s) for channel in channels}
        self._subscriber = subscriber
        self._health = health
        self._condition = CONDITION + of
        health.set(self._condition, ok=False, why="no probe has come back yet")
        self._nonces = itertools.count(1)
        self._shut_out = False
        self.sure_at_s = time.monotonic()

    async def run(self) -> None:
        """Listen and probe until cancelled."""
        while True:
            try:
                certain = await self._look() if await self._subscribed() else False
            except NoPermissionError as exc:
                certain = False
                self._forget()
                self._unready(str(exc))
            except OUTAGE:
                certain = False
                self._forget()
            await anyio.sleep(self._look_every_s if certain else min(self._look_every_s, _SOON_S))

    async def _subscribed(self) -> bool:
        """Wait for the subscription, but not for ever; tell whether it is there.

        Raises:
            RedisError, OSError: when it is not, and Redis does not answer either.
        """
        with anyio.move_on_after(self._timeout_s):
            await self._subscriber.subscribed()
            self._shut_out = False
            return True
        await self._redis.ping()
        if self._shut_out:
            self._unready("Redis answers, but the node's channels cannot be subscribed")
        # Not at the first answer: the subscriber may be in a pause between tries, which Redis' return does not end.
        self._shut_out = True
        return False

    async def _look(self) -> bool:
        """Judge every channel and probe the quiet ones; tell whether all are heard.

        Raises:
            RedisError, OSError: when Redis does not answer, so that nothing can be told.
        """
        verdicts = {channel: self._judge(channel) for channel in self._ears}
        if Verdict.DEAF in verdicts.values():
            await self._redis.ping()  # an outage ends it here: no answer, no verdict
            self._now_deaf()
        if set(verdicts.values()) == {Verdict.HEARING}:
            self._health.set(self._condition, ok=True)
            self.sure_at_s = time.monotonic()
            return True
        for channel, verdict in verdicts.items():
            if verdict is Verdict.QUIET:
                self._ears[channel].probed(time.monotonic())
                await self._redis.spublish(channel, f"probe - - - {next(self._nonces)}")
        return False

    def _judge(self, channel: str) -> Verdict:
        heard_at_s = (self._subscriber.heard_at_s or {}).get(channel.encode())
        if heard_at_s is None:  # it is subscribing anew at this moment
            self._forget()
            return Verdict.WAITING
        return self._ears[channel].judge(heard_at_s, time.monotonic())

    def _now_deaf(self) -> None:
        log.warning("probe_missed")
        self._unready("Redis answers, but nothing comes on the node's channels")
        self._forget()
        self._subscriber.resubscribe(PROBE, "a probe did not come back")

    def _unready(self, why: str) -> None:
        self._health.set(self._condition, ok=False, why=why)

    def _forget(self) -> None:
        self._shut_out = False
        for ear in self._ears.values():
            ear.forget()
