"""Asking the auth service for a token, as a back end does."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import httpx
import msgspec

from router.errors import PushwayError, SettingError
from router.settings import Settings
from router.tls.trust import http_trust, why_untrusted


class Issued(msgspec.Struct, frozen=True):
    """A token, whom it is for, its id, and its end in Unix seconds."""

    token: str
    user: str
    jti: str
    expires_at: int


class RequestRefused(PushwayError):
    """Auth answered, and gave no token; the text is its reason."""


class _Problem(msgspec.Struct):
    detail: str


async def request_token(
    settings: Settings, user: str, *, ttl_s: int | None = None, topics: Sequence[str] = (), subscribe: Sequence[str] = ()
) -> Issued:
    """Return a new token.

    Args:
        settings: where auth is, and the API key to show.
        user: whom it is for.
        ttl_s: its life in seconds; default: auth's.
        topics: patterns of topics that the user may subscribe to.
        subscribe: topics that each session with the token hears.

    Raises:
        SettingError: without an API key.
        RequestRefused: when auth does not agree.
        ConnectionError: when auth cannot be reached.
    """
    if not settings.api_key:
        problem = "it is not set, and auth asks for it: give the command the --config that `up` wrote, or set PUSHWAY_API_KEY"
        raise SettingError("api_key", "default", problem)
    wish = {"user": user, "topics": list(topics), "subscribe": list(subscribe)} | ({} if ttl_s is None else {"ttl_s": ttl_s})
    try:
        # No proxy from the environment: auth is a neighbour.
        async with httpx.AsyncClient(timeout=settings.auth_timeout_s, trust_env=False, verify=http_trust(settings)) as http:
            answer = await http.post(
                f"{settings.auth_url.rstrip('/')}/v1/tokens",
                json=wish,
                headers={"authorization": f"Bearer {settings.api_key}"},
            )
    except httpx.HTTPError as exc:
        reason = why_untrusted(exc, "http_ca_file") or str(exc) or type(exc).__name__
        raise ConnectionError(f"auth at {settings.auth_url} cannot be reached ({reason}; set by auth_url)") from exc
    return _read(answer)


def _read(answer: httpx.Response) -> Issued:
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise RequestRefused("auth has another api_key than this command: give it the --config that auth runs with")
    try:
        if answer.status_code == HTTPStatus.CREATED:
            return msgspec.json.decode(answer.content, type=Issued)
        detail = msgspec.json.decode(answer.content, type=_Problem).detail
    except msgspec.MsgspecError:
        detail = f"HTTP status {answer.status_code}"
    raise RequestRefused(f"auth gave no token: {detail}")
