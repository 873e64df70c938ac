"""The three ways to authenticate, and which of them the settings name (`auth_by`)."""

from __future__ import annotations

from typing import Protocol

from router.auth.bearer import NOBODY, Bearer
from router.auth.callback import CallbackVerifier
from router.auth.issuer import HeldVerifier, IssuerVerifier
from router.auth.jwks import JwksVerifier
from router.auth.tokens import Claims
from router.settings import Settings


class Way(Protocol):
    """Tells who the bearer of a token is."""

    def verify_at_once(self, token: str) -> Claims | None:
        """Return what the token says; None when it takes a while to tell.

        Raises:
            TokenExpired: when it did once.
            TokenRefused: when it proves nothing.
        """
        ...

    async def verify(self, token: str, bearer: Bearer = NOBODY) -> Claims:
        """Return what the token says, or what somebody else says of it.

        Raises:
            TokenExpired: when it did once.
            TokenRefused: when it proves nothing.
            KeysUnavailable: when that cannot be told now.
        """
        ...

    async def supplied(self) -> None:
        """Return when somebody can be let in, as far as this process can tell."""

    async def run(self) -> None:
        """Do what it takes until cancelled."""


def make_way(settings: Settings) -> Way:
    """Return the way that the settings name.

    Raises:
        SetupError: when a file of it cannot be used.
    """
    match settings.auth_by:
        case "jwt":
            return IssuerVerifier(settings) if settings.jwt_jwks_url else HeldVerifier(settings)
        case "http":
            return CallbackVerifier(settings)
        case "pushway":
            return JwksVerifier(settings)
