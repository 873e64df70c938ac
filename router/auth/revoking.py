"""POST /v1/revoke (RFC 7009): tokens called back, one of them, a user's, or everybody's; and whether one has been.

Auth remembers nothing itself: what is revoked stands in MongoDB, where every copy of auth and every edge looks. While that, or
the Redis by which edges are told, is away, no revocation is said to be done, and without MongoDB no token to be good. Tokens
are issued all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
import structlog
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.away import away, unavailable
from router.auth.openapi import Revoked as Answer
from router.auth.openapi import RevokeRequest
from router.auth.requests import decode_revoke
from router.auth.tokens import Claims
from router.errors import RuleBroken, TokenRefused
from router.http.operations import JSON
from router.http.problems import Problem, read_body
from router.metrics import TOKENS_REVOKED
from router.mongo_client import STORE_OUTAGE
from router.revocation import Revocation, ids_of, is_revoked, of_all, of_jti, of_token, of_user
from router.revoke import NotTold, revoke
from router.revoked import Revoked
from router.settings import Settings
from router.targets import check_id

log = structlog.get_logger(__name__)

_WHICH = ("token", "jti", "user", "all")


class Revoking:
    """Revokes, and looks up what is.

    Args:
        redis: by which edges are told.
        revoked: where it is written.
        settings: limits and times.
        verify: returns what a token says, once it is proven; raises TokenRefused.
    """

    def __init__(self, redis: Redis, revoked: Revoked, settings: Settings, verify: Callable[[str], Claims]) -> None:
        self._redis = redis
        self._revoked = revoked
        self._settings = settings
        self._verify = verify

    async def post(self, request: Request) -> Response:
        """Revoke what a request names."""
        body = await read_body(request, self._settings.auth_body_max_bytes)
        wanted = self._wanted(decode_revoke(request, body))
        if wanted is None:
            # RFC 7009, section 2.2: what its bearer could not use anyhow is as good as revoked.
            return _answer(Answer(revoked=False))
        nodes = await self._revoke(wanted)
        TOKENS_REVOKED.inc()
        which = wanted.id.partition(":")[0]
        log.info("tokens_revoked", which=which, user=wanted.whose or None, before=wanted.before, nodes=len(nodes))
        return _answer(Answer(revoked=True, before=msgspec.UNSET if wanted.of_one_token else wanted.before))

    async def is_revoked(self, claims: Claims) -> bool:
        """Tell whether a token is revoked.

        Raises:
            Problem: 503 when MongoDB cannot tell.
        """
        try:
            found = await self._revoked.find(ids_of(claims.user, claims.jti))
        except STORE_OUTAGE as exc:
            raise away(exc) from exc
        return is_revoked(found, claims.iat)

    async def _revoke(self, wanted: Revocation) -> Sequence[str]:
        try:
            return await revoke(self._redis, self._revoked, self._settings, wanted)
        except STORE_OUTAGE as exc:
            raise away(exc) from exc
        except NotTold as exc:
            raise _not_told(exc) from exc

    def _wanted(self, asked: RevokeRequest) -> Revocation | None:
        """Return what is to be revoked; None of a token that is good for nothing.

        Raises:
            RuleBroken: naming what is wrong with the request.
        """
        named = [name for name in _WHICH if getattr(asked, name) is not msgspec.UNSET]
        if len(named) != 1:
            raise RuleBroken("body", f"exactly one of {', '.join(_WHICH)} is expected, and there are {len(named)}")
        if asked.all is False:
            raise RuleBroken("all", "true is expected")
        if asked.before is not msgspec.UNSET and named[0] not in {"user", "all"}:
            raise RuleBroken("before", "a single token is revoked whenever it was issued: before goes with user or all")
        return self._named(asked, time.time())

    def _named(self, asked: RevokeRequest, now_s: float) -> Revocation | None:
        before = None if asked.before is msgspec.UNSET else int(asked.before)
        if asked.user is not msgspec.UNSET:
            return of_user(check_id(asked.user, "user"), self._settings, now_s, before)
        if asked.jti is not msgspec.UNSET:
            return of_jti(asked.jti, self._settings, now_s)
        if asked.token is not msgspec.UNSET:
            return self._of_token(asked.token, now_s)
        return of_all(self._settings, now_s, before)

    def _of_token(self, token: str, now_s: float) -> Revocation | None:
        try:
            claims = self._verify(token)
        except TokenRefused:
            return None
        return of_token(claims.jti, claims.user, claims.expires_at, self._settings, now_s)


def _not_told(exc: NotTold) -> Problem:
    log.warning("revocation_untold", error=str(exc))
    return unavailable(str(exc))


def _answer(answer: Answer) -> Response:
    return Response(msgspec.json.encode(answer), HTTPStatus.OK, headers={"cache-control": "no-store"}, media_type=JSON)
