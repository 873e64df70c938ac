"""The auth service: issues tokens to back ends, says whether a token is good, and publishes its public key.

It keeps nothing but the key, so any number of copies run side by side on one key file. What is revoked stands in MongoDB
(`auth.revoking`); a MongoDB or Redis that is away keeps nobody from having tokens issued.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Coroutine
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import anyio
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router import metrics
from router.api_keys.file import ApiKeys
from router.api_keys.ring import Keyring
from router.auth.client import Issued
from router.auth.jwk import to_key_set
from router.auth.keyfile import SigningKey, load_or_make
from router.auth.openapi import (
    ABOUT,
    GET_JWKS,
    POST_REVOKE,
    POST_TOKENS,
    POST_VERIFY,
    Introspection,
    TokenRequest,
    VerifyRequest,
)
from router.auth.requests import decode, form_token
from router.auth.revoking import Revoking
from router.auth.tokens import Claims, TokenRules, issue, kid_of, verify
from router.errors import RuleBroken, TokenExpired, TokenRefused
from router.http.app import http_app
from router.http.media import check_json
from router.http.operations import JSON
from router.http.problems import read_body
from router.http.server import listen, serve_on
from router.mongo_client import open_mongo
from router.ops import Health
from router.redis_client import open_redis
from router.revoked import Revoked
from router.settings import Settings
from router.targets import check_id
from router.tls.certificate import http_certificate

NO_STORE: Final = {"cache-control": "no-store"}
"""An answer with a token in it, or about one, is nobody's to keep (RFC 6749, section 5.1)."""

log = structlog.get_logger(__name__)


class Auth:
    """The routes of the service, and what they answer from.

    Args:
        settings: rules and limits.
        key: what signs tokens.
        keyring: the API keys of back ends.
        redis: by which edges are told what is revoked.
        revoked: where that stands.
    """

    def __init__(self, settings: Settings, key: SigningKey, keyring: Keyring, redis: Redis, revoked: Revoked) -> None:
        self._keyring = keyring
        self._settings = settings
        self._key = key
        self._public = key.private.public_key()
        self._rules = TokenRules.of(settings)
        self._revoking = Revoking(redis, revoked, settings, self._verify)

    def app(self) -> Starlette:
        """Return the application."""
        handlers = {
            POST_TOKENS: self.post_token,
            POST_VERIFY: self.post_verify,
            POST_REVOKE: self._revoking.post,
            GET_JWKS: self.get_jwks,
        }
        limits = {
            "TokenRequest": {
                "ttl_s": {"maximum": self._settings.token_ttl_max_s},
                "topics": {"maxItems": self._settings.token_topics_max},
                "subscribe": {"maxItems": self._settings.token_topics_max},
            }
        }
        return http_app(ABOUT, handlers, keyring=self._keyring, limits=limits)

    async def post_token(self, request: Request) -> Response:
        """Issue a token."""
        check_json(request)
        asked = decode(await self._body(request), TokenRequest)
        now = int(time.time())
        claims = self._claims(asked, now)
        token = issue(claims, self._key.private, self._key.kid, self._rules, now)
        metrics.TOKENS_ISSUED.inc()
        return _answer(Issued(token, claims.user, claims.jti, claims.expires_at), HTTPStatus.CREATED)

    async def post_verify(self, request: Request) -> Response:
        """Say whether a token is good, and if so what it says (RFC 7662)."""
        body = await self._body(request)
        token = form_token(request, body)
        return _answer(await self._introspect(decode(body, VerifyRequest).token if token is None else token), HTTPStatus.OK)

    async def get_jwks(self, _request: Request) -> Response:
        """Publish the public key."""
        max_age_s = int(self._settings.jwks_refresh_s)
        return JSONResponse(to_key_set(self._public), headers={"cache-control": f"public, max-age={max_age_s}"})

    def _claims(self, asked: TokenRequest, now: int) -> Claims:
        """Return what the token will say.

        Raises:
            RuleBroken: naming the field that asks for something else than a back end may have.
        """
        limits = self._settings
        ttl_s = limits.token_ttl_s if asked.ttl_s is None else asked.ttl_s
        if ttl_s > limits.token_ttl_max_s:
            raise RuleBroken("ttl_s", f"a token lives at most {limits.token_ttl_max_s} seconds (token_ttl_max_s)")
        if len(asked.topics) + len(asked.subscribe) > limits.token_topics_max:
            field = "topics" if len(asked.topics) > limits.token_topics_max else "subscribe"
            raise RuleBroken(field, f"a token has at most {limits.token_topics_max} topics (token_topics_max)")
        return Claims(
            user=check_id(asked.user, "user"),
            expires_at=now + int(ttl_s),
            topics=tuple(check_id(topic, "topics") for topic in asked.topics),
            jti=str(uuid.uuid4()),
            subscribe=tuple(check_id(topic, "subscribe") for topic in asked.subscribe),
        )

    async def _introspect(self, token: str) -> Introspection:
        # RFC 7662, section 2.2: an inactive token's answer tells nothing else.
        inactive = Introspection(active=False)
        try:
            claims = self._verify(token)
        except TokenRefused as exc:
            metrics.TOKENS_CHECKED.labels("expired" if isinstance(exc, TokenExpired) else "refused").inc()
            log.debug("token_refused", reason=exc.reason)
            return inactive
        if await self._revoking.is_revoked(claims):
            metrics.TOKENS_CHECKED.labels("revoked").inc()
            return inactive
        metrics.TOKENS_CHECKED.labels("accepted").inc()
        return Introspection(
            active=True,
            sub=claims.user,
            exp=claims.expires_at,
            iss=self._rules.issuer,
            aud=self._rules.audience,
            jti=claims.jti,
            topics=claims.topics,
            subscribe=claims.subscribe,
        )

    def _verify(self, token: str) -> Claims:
        return verify(token, self._key_named(kid_of(token)), self._rules)

    def _key_named(self, kid: str) -> Ed25519PublicKey:
        if kid != self._key.kid:
            raise TokenRefused("the token is signed with another key")
        return self._public

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._settings.auth_body_max_bytes)


async def serve(settings: Settings, health: Health, stop: anyio.Event) -> None:
    """Run the auth service until `stop` is set.

    Raises:
        SetupError: without API keys, with an unfit key file, or when its port is taken.
    """
    keys = ApiKeys(settings)
    with listen(settings.auth_host, settings.auth_port) as listener:
        # Not before: a start that fails leaves no key behind where nobody will look for it.
        certificate, key = http_certificate(settings), load_or_make(settings.auth_key_file)
        async with open_redis(settings) as redis, open_mongo(settings) as mongo:
            app = Auth(settings, key, keys.ring, redis, Revoked(mongo, settings)).app()
            await _serve(partial(serve_on, listener, app, stop, certificate=certificate), keys, settings, health, stop)


async def _serve(
    serve_app: Callable[..., Coroutine[Any, Any, None]], keys: ApiKeys, settings: Settings, health: Health, stop: anyio.Event
) -> None:
    async with anyio.create_task_group() as tg:
        tg.start_soon(keys.follow, stop)
        await tg.start(serve_app)
        health.set("http", ok=True)
        log.info("auth_opened", host=settings.auth_host, port=settings.auth_port)
        await stop.wait()
        health.set("http", ok=False, why="stopping")


def _answer(answer: Issued | Introspection, status: HTTPStatus) -> Response:
    return Response(msgspec.json.encode(answer), status, headers=NO_STORE, media_type=JSON)
