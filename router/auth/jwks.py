"""The public keys, as every edge keeps them: fetched from auth, kept while auth is away.

Theory of operation. `run` reads the keys anew every `jwks_refresh_s`. In between, a token with an unknown kid makes the
verifier ask auth, for the key may be a new one; at most one such question every `ASK_INTERVAL_S` and one at a time,
because anybody can send unknown kids. A refusal is final for a client (it stops reconnecting), so a kid is refused only
on the word of an answer that was asked for after the kid was first seen; until there is one, it is "try again later".
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Final

import anyio
import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from router.auth.jwk import from_key_set
from router.auth.tokens import Claims, TokenRules, kid_of, verify
from router.errors import KeysUnavailable, TokenRefused
from router.retry import Backoff
from router.settings import Settings

JWKS_PATH: Final = "/.well-known/jwks.json"

ASK_INTERVAL_S: Final = 5.0
"""Least time between two questions to auth that unknown kids give rise to."""

UNKNOWN_MAX: Final = 1_000
"""Most unknown kids remembered; the oldest goes first, and is asked for again when it comes back."""

log = structlog.get_logger(__name__)


class JwksVerifier:
    """Checks tokens against the keys that auth publishes.

    Args:
        settings: where auth is, what tokens must say, how often to read the keys.
        transport: how auth is reached; default: the network.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = TokenRules.of(settings)
        self._url = settings.auth_url.rstrip("/") + JWKS_PATH
        self._refresh_s = settings.jwks_refresh_s
        self._backoff = Backoff(settings.backoff_min_ms, settings.backoff_max_ms)
        self._timeout_s = settings.auth_timeout_s
        self._transport = transport
        self._trusted = ssl.create_default_context()  # the machine's own trust store instead of a bundled one
        self._clock = clock
        self._asking = anyio.Lock()
        self._asked_at = -ASK_INTERVAL_S
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._keys_as_of = -1.0
        self._first_seen: dict[str, float] = {}
        self._reached: bool | None = None
        self._supplied = anyio.Event()

    @property
    def keys_at_hand(self) -> bool:
        """Whether there is any key to check tokens with."""
        return bool(self._keys)

    async def supplied(self) -> None:
        """Return when there is any key, at once if there is."""
        await self._supplied.wait()

    def verify_at_once(self, token: str) -> Claims | None:
        """Return what a token says; None when its key is not at hand: then `verify` asks for it.

        Raises:
            TokenRefused: with a reason that the bearer may read.
        """
        kid = kid_of(token)
        if kid not in self._keys:
            return None
        self._first_seen.pop(kid, None)
        return verify(token, self._keys[kid], self._rules)

    async def verify(self, token: str) -> Claims:
        """Return what a token says. May ask auth for a key, so it takes up to `auth_timeout_s`; may be cancelled.

        Raises:
            TokenRefused: with a reason that the bearer may read.
            KeysUnavailable: when the key is not at hand and auth could not be asked: the bearer tries again later.
        """
        return verify(token, await self._key(kid_of(token)), self._rules)

    async def run(self) -> None:
        """Keep the keys fresh until cancelled. Begins at once; while auth is away it tries with backoff."""
        while True:
            async with self._asking:  # so that an older answer never replaces a newer one
                await self._fetch()
            await anyio.sleep(self._refresh_s if self._reached else self._backoff.next_s())

    async def _key(self, kid: str) -> Ed25519PublicKey:
        if kid not in self._keys:
            first_seen = self._note_unknown(kid)
            await self._ask()
            if kid not in self._keys:
                raise self._missing(first_seen)
        self._first_seen.pop(kid, None)
        return self._keys[kid]

    def _note_unknown(self, kid: str) -> float:
        if len(self._first_seen) >= UNKNOWN_MAX and kid not in self._first_seen:
            del self._first_seen[next(iter(self._first_seen))]
        return self._first_seen.setdefault(kid, self._clock())

    def _missing(self, first_seen: float) -> TokenRefused | KeysUnavailable:
        if self._reached and self._keys_as_of >= first_seen:
            return TokenRefused("the token is signed with a key that auth does not know")
        return KeysUnavailable("the key of this token cannot be had right now")

    async def _ask(self) -> None:
        async with self._asking:
            if self._clock() - self._asked_at >= ASK_INTERVAL_S:
                self._asked_at = self._clock()
                await self._fetch()

    async def _fetch(self) -> None:
        """Replace the keys by those that auth publishes now; keep the old ones when it cannot be asked."""
        began = self._clock()
        try:
            keys = from_key_set(await self._get())
        except (httpx.HTTPError, ValueError) as exc:
            self._say(reached=False, why=str(exc) or type(exc).__name__)
            return
        self._keys, self._keys_as_of = keys, began
        if keys:
            self._supplied.set()
        self._backoff.reset()
        self._say(reached=True)

    async def _get(self) -> bytes:
        # A client for one request: the next is minutes away, when no connection would be open any more. No proxy from the
        # environment, for auth is a neighbour; and no cache on the way may answer with the keys of before.
        async with httpx.AsyncClient(
            timeout=self._timeout_s, transport=self._transport, trust_env=False, verify=self._trusted
        ) as http:
            answer = await http.get(self._url, headers={"cache-control": "no-cache"})
        return answer.raise_for_status().content

    def _say(self, *, reached: bool, why: str = "") -> None:
        if reached == self._reached:
            return
        self._reached = reached
        if reached:
            log.info("auth_reached", url=self._url, keys=len(self._keys))
        else:
            log.warning("auth_lost", url=self._url, why=why, keys_kept=len(self._keys))
