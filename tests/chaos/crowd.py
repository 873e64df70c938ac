"""The people and back ends of a chaos run: devices that come and go, and producers that never give up, all of it recorded.

    async with Crowd(links, CrowdSize(), history, seed=7) as crowd:
        ...  # faults
        settled = await crowd.settle(accepted)

One event loop runs all of it, so one clock stamps every event. Whatever is drawn at random is drawn from the seed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.chaos.history import Accepted, History


@dataclass(frozen=True, slots=True)
class Links:
    """Where the crowd reaches the system, through proxies or not.

    Attributes:
        edges: addresses of the edges, as in `ws://127.0.0.1:8002/v1/connect`.
        redis_url: where producers append.
        streams: the `in` streams; each producer keeps to one.
        token: gives a token for a user; raises OSError when auth is away.
    """

    edges: tuple[str, ...]
    redis_url: str
    token: Callable[[str], Awaitable[str]]
    streams: tuple[str, ...] = ("push:{0}:in",)


@dataclass(frozen=True, slots=True)
class CrowdSize:
    """How many, how busy and how unsteady.

    Attributes:
        users: each has `devices_a_user` devices.
        devices_a_user: at least one.
        producers: each appends one message after the other.
        rate_per_s: messages appended a second, by all producers together.
        stay_s: about how long a device stays before it goes.
        away_s: about how long it is gone.
        steady: share of devices, 0 to 1, that never go of their own will.
    """

    users: int = 60
    devices_a_user: int = 3
    producers: int = 4
    rate_per_s: float = 100.0
    stay_s: float = 12.0
    away_s: float = 2.0
    steady: float = 0.3


class Crowd:
    """Devices and producers, recorded in `history`.

    Args:
        links: where the system is.
        size: how large a crowd.
        history: takes every event.
        seed: of all that is drawn at random.
    """

    def __init__(self, links: Links, size: CrowdSize, history: History, seed: int) -> None:
        self._links = links
        self._size = size
        self._history = history
        self._seed = seed

    async def __aenter__(self) -> Self:
        """Return when every device has had its first welcome and the producers have begun.

        Raises:
            TimeoutError: when some device has none.
        """
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        raise NotImplementedError

    async def settle(
        self, accepted: Callable[[], Awaitable[Sequence[Accepted]]], *, timeout_s: float = 60.0, quiet_s: float = 1.0
    ) -> Sequence[Accepted]:
        """End the traffic and bring every device online, until it has all it is owed; call it when the faults are over.

        Args:
            accepted: reads MongoDB's inbox; called until it holds every message appended, or time is over.
            timeout_s: how long a device may lack something; then it is for the checker to say so.
            quiet_s: how long to listen on when all is there, for what comes twice.

        Returns:
            What was accepted, as read last.
        """
        raise NotImplementedError
