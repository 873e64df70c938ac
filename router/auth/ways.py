"""The three ways to authenticate, and which of them the settings name (`auth_by`)."""

from __future__ import annotations

from typing import Protocol

from router.auth.callback import CallbackVerifier
from router.auth.issuer import HeldVerifier, IssuerVerifier
from router.auth.jwks import JwksVerifier
from router.auth.verifier import Verifier
from router.settings import Settings


class Way(Verifier, Protocol):
    """Tells who the bearer of a token is, and is run beside whoever asks."""

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
