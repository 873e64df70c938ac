"""The way `http`: a service of the customer's, or auth's `/v1/verify`, says who the bearer of a token is.

    verify ─▶ remembered? ─▶ breaker ─▶ a turn of `auth_callback_calls_max` ─▶ POST ─▶ judgement, remembered

Whatever is no judgement is "try again later": only the service's own word sends a client away for good. Failures of the service
(no answer, none in time, 5xx) open the breaker. Other answers that are no judgement do not, since anybody can send a token that
the service chokes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import anyio
import httpx
import structlog

from router.auth.bearer import NOBODY, Bearer
from router.auth.breaker import Breaker
from router.auth.judgement import Unclear, bearer_size, digest, question, read
from router.auth.outward import NO_ANSWER, Answer, ask, open_client, shown, why
from router.auth.remembered import Remembered
from router.auth.tokens import TOKEN_MAX_CHARS, Claims
from router.errors import KeysUnavailable, TokenExpired, TokenRefused
from router.metrics import AUTH_CALLBACK_SECONDS, AUTH_CALLBACKS
from router.retry import Backoff
from router.settings import Settings
from router.tls.trust import http_trust

BEARER_MAX_CHARS: Final = 8_192
"""Most of headers and parameters that is told: what proxies let pass."""

REFUSAL_KEPT_S: Final = 1.0
"""How long a refusal is remembered: a client that ignores it is not asked about at each try."""

log = structlog.get_logger(__name__)


class CallbackVerifier:
    """Asks the service at `auth_callback_url`.

    Args:
        settings: where it is, and how long and how often it is asked.
        transport: how it is reached; default: the network.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = settings.auth_callback_url
        self._headers = {"content-type": "application/json"}
        if settings.auth_callback_secret:
            self._headers["authorization"] = f"Bearer {settings.auth_callback_secret}"
        self._timeout_s = min(settings.auth_timeout_s, settings.connect_timeout_s)
        self._topics_max = settings.token_topics_max
        self._leeway_s = settings.token_leeway_s
        self._turns = anyio.CapacityLimiter(settings.auth_callback_calls_max)
        self._http = open_client(http_trust(settings), transport, connections=settings.auth_callback_calls_max)
        backoff = Backoff(settings.backoff_min_ms, settings.backoff_max_ms)
        self._breaker = Breaker(settings.auth_callback_failures_max, backoff)
        self._good = Remembered[Claims](settings.auth_cache_s, settings.auth_cache_max)
        # Apart, so that a flood of bad tokens drives out no good one.
        self._bad = Remembered[TokenRefused](min(REFUSAL_KEPT_S, settings.auth_cache_s), settings.auth_cache_max)
        self._clock = clock
        self._clear = True

    async def supplied(self) -> None:
        """Return: the service is asked when somebody comes."""

    def verify_at_once(self, token: str) -> Claims | None:
        """Return None: it takes a question.

        Raises:
            TokenRefused: when the token is too long to be one.
        """
        if len(token) > TOKEN_MAX_CHARS:
            raise TokenRefused(f"the token is longer than {TOKEN_MAX_CHARS} characters")
        return None

    async def verify(self, token: str, bearer: Bearer = NOBODY) -> Claims:
        """Return what the service says of the bearer; may be cancelled, which counts as no answer if it was being asked.

        Raises:
            TokenExpired: when what it says has an end that is over.
            TokenRefused: when it refuses, with its reason.
            KeysUnavailable: when it gives no judgement: the bearer tries again later.
        """
        self.verify_at_once(token)
        if bearer_size(bearer) > BEARER_MAX_CHARS:
            raise TokenRefused(f"headers and parameters are longer than {BEARER_MAX_CHARS} characters")
        try:
            asked, body = digest(token, bearer), question(token, bearer)
        except UnicodeEncodeError as exc:  # bytes above 127 come out of a header as lone surrogates
            raise TokenRefused("the token or a header is not UTF-8") from exc
        said = self._remembered(asked) or await self._judge(body, asked)
        if isinstance(said, TokenRefused):
            raise TokenRefused(said.reason)
        if self._is_over(said):
            raise TokenExpired("the token has expired")
        return said

    async def run(self) -> None:
        """Keep connections to the service until cancelled."""
        async with self._http:
            await anyio.sleep_forever()

    def _remembered(self, asked: bytes) -> Claims | TokenRefused | None:
        now_s = self._clock()
        good = self._good.find(asked, now_s)
        # When it is over the service may have extended it.
        said = self._bad.find(asked, now_s) if good is None or self._is_over(good) else good
        if said is not None:
            AUTH_CALLBACKS.labels("remembered").inc()
        return said

    def _is_over(self, claims: Claims) -> bool:
        return claims.expires_at + self._leeway_s <= time.time()

    async def _judge(self, body: bytes, asked: bytes) -> Claims | TokenRefused:
        async with self._turns:
            if not self._breaker.admits(self._clock()):
                AUTH_CALLBACKS.labels("withheld").inc()
                raise KeysUnavailable(f"{shown(self._url)} is away")
            asked_at = int(time.time())
            answer = await self._post(body)
        said = self._read(answer, asked_at)
        now_s = self._clock()
        if isinstance(said, Claims):
            self._good.keep(asked, said, now_s)
        else:
            self._bad.keep(asked, said, now_s)
        return said

    async def _post(self, body: bytes) -> Answer:
        """Ask, and tell the breaker how it went."""
        reason = "no answer in time"  # should this be cancelled
        try:
            with AUTH_CALLBACK_SECONDS.time():
                request = self._http.build_request("POST", self._url, content=body, headers=self._headers)
                answer = await ask(self._http, request, self._timeout_s)
            reason = f"HTTP status {answer.status}" if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
        except NO_ANSWER as exc:
            reason = why(exc)
            raise KeysUnavailable(f"{shown(self._url)} gave no answer: {reason}") from exc
        finally:
            self._note(reason)
        if reason:
            raise KeysUnavailable(f"{shown(self._url)}: {reason}")
        return answer

    def _note(self, reason: str) -> None:
        if reason:
            AUTH_CALLBACKS.labels("failed").inc()
            if self._breaker.failed(self._clock()):
                log.warning("auth_callback_lost", url=shown(self._url), why=reason)
        elif self._breaker.passed():
            log.info("auth_callback_reached", url=shown(self._url))

    def _read(self, answer: Answer, asked_at: int) -> Claims | TokenRefused:
        try:
            said = read(answer, self._topics_max, asked_at)
        except Unclear as exc:
            AUTH_CALLBACKS.labels("unclear").inc()
            if self._clear:
                log.warning("auth_callback_unclear", url=shown(self._url), why=str(exc))
            self._clear = False
            raise KeysUnavailable(f"{shown(self._url)}: {exc}") from exc
        self._clear = True
        AUTH_CALLBACKS.labels("accepted" if isinstance(said, Claims) else "refused").inc()
        return said
