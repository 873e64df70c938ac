"""Keys that somebody publishes as a JWK Set: fetched, kept while the publisher is away, asked for anew.

Theory of operation. `run` reads the keys anew every `jwks_refresh_s`. In between, a token with an unknown key makes a verifier
ask the publisher, for the key may be a new one; at most one such question every `ASK_INTERVAL_S` and one at a time, because
anybody can send unknown keys. A refusal is final for a client (it stops reconnecting), so a token is refused only on the word
of an answer that was asked for after its unknown key was first seen; until there is one, it is "try again later".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Generic, TypeVar

import anyio
import httpx
import structlog

from router.auth.outward import NO_ANSWER, ask, open_client, shown, why
from router.retry import Backoff
from router.settings import Settings
from router.tls.trust import http_trust

ASK_INTERVAL_S: Final = 5.0
"""Least time between two questions that unknown keys give rise to."""

UNKNOWN_MAX: Final = 1_000
"""Most unknown keys remembered; the oldest goes first, and is asked for again when it comes back."""

log = structlog.get_logger(__name__)

KeyT = TypeVar("KeyT")


class PublishedKeys(Generic[KeyT]):
    """The keys at an address.

    Args:
        url: where they are.
        read: returns name → key of a document, or raises ValueError.
        settings: how often to read them, and how long to wait.
        transport: how the publisher is reached; default: the network.
        clock: seconds that only grow.

    Attributes:
        keys: name → key, as last read.
    """

    def __init__(
        self,
        url: str,
        read: Callable[[bytes], Mapping[str, KeyT]],
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._read = read
        self._refresh_s = settings.jwks_refresh_s
        self._backoff = Backoff(settings.backoff_min_ms, settings.backoff_max_ms)
        self._timeout_s = settings.auth_timeout_s
        self._transport = transport
        self._trust = http_trust(settings)
        self._clock = clock
        self._asking = anyio.Lock()
        self._asked_at = -ASK_INTERVAL_S
        self.keys: Mapping[str, KeyT] = {}
        self._keys_as_of = -1.0
        self._first_seen: dict[str, float] = {}
        self._reached: bool | None = None
        self._supplied = anyio.Event()

    async def supplied(self) -> None:
        """Return when there is any key, at once if there is."""
        await self._supplied.wait()

    def found(self, name: str) -> None:
        """What was unknown is known by now."""
        self._first_seen.pop(name, None)

    async def renew(self, unknown: str) -> bool:
        """Read the keys anew for the sake of one that is unknown, unless that was done just now; may be cancelled.

        Returns:
            Whether what `keys` says of it is the publisher's word, as of after it was first seen.
        """
        first_seen = self._note_unknown(unknown)
        async with self._asking:
            if self._clock() - self._asked_at >= ASK_INTERVAL_S:
                self._asked_at = self._clock()
                await self._fetch()
        return bool(self._reached) and self._keys_as_of >= first_seen

    async def run(self) -> None:
        """Keep the keys fresh until cancelled. Begins at once; while the publisher is away it tries with backoff."""
        while True:
            async with self._asking:  # so that an older answer never replaces a newer one
                await self._fetch()
            await anyio.sleep(self._refresh_s if self._reached else self._backoff.next_s())

    def _note_unknown(self, name: str) -> float:
        if len(self._first_seen) >= UNKNOWN_MAX and name not in self._first_seen:
            del self._first_seen[next(iter(self._first_seen))]
        return self._first_seen.setdefault(name, self._clock())

    async def _fetch(self) -> None:
        """Replace the keys by those that are published now; keep the old ones when they cannot be had."""
        began = self._clock()
        try:
            keys = self._read(await self._get())
        except NO_ANSWER as exc:
            self._say(reached=False, reason=why(exc))
            return
        self.keys, self._keys_as_of = keys, began
        if keys:
            self._supplied.set()
        self._backoff.reset()
        self._say(reached=True)

    async def _get(self) -> bytes:
        # A client for one request: the next is minutes away, when no connection would be open any more. No cache on the way may
        # answer with the keys of before.
        async with open_client(self._trust, self._transport) as http:
            request = http.build_request("GET", self._url, headers={"cache-control": "no-cache"})
            answer = await ask(http, request, self._timeout_s)
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"HTTP status {answer.status}")
        return answer.body

    def _say(self, *, reached: bool, reason: str = "") -> None:
        if reached == self._reached:
            return
        self._reached = reached
        if reached:
            log.info("auth_reached", url=shown(self._url), keys=len(self.keys))
        else:
            log.warning("auth_lost", url=shown(self._url), why=reason, keys_kept=len(self.keys))
