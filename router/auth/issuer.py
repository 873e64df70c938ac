"""The way `jwt`: tokens of any issuer, checked with its published keys, with those in a file, or with a shared secret.

Keys change with an overlap: a set, a file or a list of secrets has the old one and the new one for as long as tokens of the old
one live. A set and a file are read anew every `jwks_refresh_s`; a secret is a setting, and takes a restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import structlog

from router.auth.bearer import NOBODY, Bearer
from router.auth.foreign import ForeignRules, Head, head_of, verify
from router.auth.published import PublishedKeys
from router.auth.tokens import Claims
from router.auth.trusted import algorithms_of, from_issuer_set, from_pem, from_secrets
from router.errors import KeysUnavailable, SetupError, TokenRefused
from router.settings import Settings

log = structlog.get_logger(__name__)


class IssuerVerifier:
    """Checks tokens against the JWK Set at `jwt_jwks_url`.

    A token that names its key is checked with the keys of that name, or where there are none with those that have no name; one
    that names none with every key that fits its algorithm.

    Args:
        settings: where the keys are, and what tokens must say.
        transport: how the issuer is reached; default: the network.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = ForeignRules.of(settings)
        self._published = PublishedKeys(settings.jwt_jwks_url, from_issuer_set, settings, transport=transport, clock=clock)

    async def supplied(self) -> None:
        """Return when there is any key, at once if there is."""
        await self._published.supplied()

    def verify_at_once(self, token: str) -> Claims | None:
        """Return what a token says; None when no key at hand has signed it: then `verify` asks for others.

        Raises:
            TokenRefused: with a reason that the bearer may read.
        """
        return self._judge(token, head_of(token, self._rules))

    async def verify(self, token: str, bearer: Bearer = NOBODY) -> Claims:
        """Return what a token says. May ask the issuer for its keys, so it takes up to `auth_timeout_s`; may be cancelled.

        Raises:
            TokenRefused: with a reason that the bearer may read.
            KeysUnavailable: when the key is not at hand and the issuer could not be asked: the bearer tries again later.
        """
        del bearer  # the token says it all
        head = head_of(token, self._rules)
        claims = self._judge(token, head)
        if claims is not None:
            return claims
        name = head.kid or sha256(token.encode()).hexdigest()
        final = await self._published.renew(name)
        claims = self._judge(token, head)
        if claims is not None:
            self._published.found(name)
            return claims
        if final:
            raise TokenRefused("the token is signed with a key that its issuer does not publish")
        raise KeysUnavailable("the key of this token cannot be had right now")

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        await self._published.run()

    def _judge(self, token: str, head: Head) -> Claims | None:
        keys = self._published.keys
        if not head.kid:
            return verify(token, head, [key for named in keys.values() for key in named], self._rules)
        claims = verify(token, head, keys.get(head.kid) or keys.get("", ()), self._rules)
        if claims is None and head.kid in keys:
            raise TokenRefused("the token's signature is wrong")
        return claims


class HeldVerifier:
    """Checks tokens against the keys in `jwt_key_file` or the secrets in `jwt_secret`: all that fit, whatever `kid` says.

    Raises:
        SetupError: when the file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._rules = ForeignRules.of(settings)
        self._file = Path(settings.jwt_key_file) if settings.jwt_key_file else None
        self._refresh_s = settings.jwks_refresh_s
        try:
            self._keys = from_secrets(settings.jwt_secret) if self._file is None else from_pem(self._file.read_bytes())
        except (OSError, ValueError) as exc:
            raise SetupError(f"jwt_key_file {self._file} cannot be used: {exc}") from exc
        if not algorithms_of(self._keys) & self._rules.algorithms:
            raise SetupError(f"jwt_algorithms: no key in {self._file} fits any of {', '.join(sorted(self._rules.algorithms))}")
        self._readable = True

    async def supplied(self) -> None:
        """Return: there are keys from the start."""

    def verify_at_once(self, token: str) -> Claims:
        """Return what a token says.

        Raises:
            TokenRefused: with a reason that the bearer may read.
        """
        claims = verify(token, head_of(token, self._rules), self._keys, self._rules)
        if claims is None:
            raise TokenRefused("the token's signature is wrong")
        return claims

    async def verify(self, token: str, bearer: Bearer = NOBODY) -> Claims:
        """Return what a token says.

        Raises:
            TokenRefused: with a reason that the bearer may read.
        """
        del bearer  # the token says it all
        return self.verify_at_once(token)

    async def run(self) -> None:
        """Read the file anew every `jwks_refresh_s`, until cancelled; secrets stay as they are."""
        while self._file is not None:
            await anyio.sleep(self._refresh_s)
            await self._read_anew(self._file)

    async def _read_anew(self, file: Path) -> None:
        """Replace the keys by those in the file; keep the old ones when it cannot be used."""
        try:
            keys = from_pem(await anyio.to_thread.run_sync(file.read_bytes))
        except (OSError, ValueError) as exc:
            if self._readable:
                log.warning("key_file_unusable", file=str(file), why=str(exc), keys_kept=len(self._keys))
            self._readable = False
            return
        if not self._readable or [key.key for key in keys] != [key.key for key in self._keys]:
            log.info("key_file_read", file=str(file), keys=len(keys))
        self._readable, self._keys = True, keys
