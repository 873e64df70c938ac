"""The usual way to authenticate: tokens of our own auth service, checked with the keys that it publishes (`auth.published`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import httpx

from router.auth.bearer import NOBODY, Bearer
from router.auth.jwk import from_key_set
from router.auth.published import PublishedKeys
from router.auth.tokens import Claims, TokenRules, kid_of, verify
from router.errors import KeysUnavailable, TokenRefused
from router.settings import Settings

JWKS_PATH: Final = "/.well-known/jwks.json"


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
        url = settings.auth_url.rstrip("/") + JWKS_PATH
        self._published = PublishedKeys(url, from_key_set, settings, transport=transport, clock=clock)

    @property
    def keys_at_hand(self) -> bool:
        """Whether there is any key to check tokens with."""
        return bool(self._published.keys)

    async def supplied(self) -> None:
        """Return when there is any key, at once if there is."""
        await self._published.supplied()

    def verify_at_once(self, token: str) -> Claims | None:
        """Return what a token says; None when its key is not at hand: then `verify` asks for it.

        Raises:
            TokenRefused: with a reason that the bearer may read.
        """
        kid = kid_of(token)
        key = self._published.keys.get(kid)
        if key is None:
            return None
        self._published.found(kid)
        return verify(token, key, self._rules)

    async def verify(self, token: str, bearer: Bearer = NOBODY) -> Claims:
        """Return what a token says. May ask auth for a key, so it takes up to `auth_timeout_s`; may be cancelled.

        Raises:
            TokenRefused: with a reason that the bearer may read.
            KeysUnavailable: when the key is not at hand and auth could not be asked: the bearer tries again later.
        """
        del bearer  # the token says it all
        kid = kid_of(token)
        final = kid in self._published.keys or await self._published.renew(kid)
        claims = self.verify_at_once(token)
        if claims is not None:
            return claims
        if final:
            raise TokenRefused("the token is signed with a key that auth does not know")
        raise KeysUnavailable("the key of this token cannot be had right now")

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        await self._published.run()
