"""Auth: that edges get its keys, and that it takes the API key of these settings."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import httpx

from router.auth.jwk import from_key_set
from router.auth.jwks import JWKS_PATH
from router.doctor import auth_ways
from router.doctor.findings import Finding, counted, error, ok
from router.settings import Settings
from router.tls.trust import http_trust, why_untrusted


async def examine(settings: Settings) -> list[Finding]:
    """Return what is to be thought of auth, or of what edges go by instead; that it cannot be reached is a finding too."""
    if settings.auth_by != "pushway":
        return await auth_ways.examine(settings)
    base = settings.auth_url.rstrip("/")
    async with httpx.AsyncClient(timeout=settings.auth_timeout_s, trust_env=False, verify=http_trust(settings)) as http:
        try:
            keys = await http.get(base + JWKS_PATH)
            shown = {"authorization": f"Bearer {settings.api_key}"}
            # A question about a token that is none: it changes nothing, and is answered only to who has the key.
            verified = await http.post(f"{base}/v1/verify", json={"token": "none"}, headers=shown)
        except httpx.HTTPError as exc:
            return [_away(base, why_untrusted(exc, "http_ca_file") or str(exc) or type(exc).__name__)]
    return [*_judge_keys(base, keys.status_code, keys.content), *_judge_key(settings, verified.status_code)]


def _away(base: str, why: str) -> Finding:
    return error(
        f"auth at {base} cannot be reached ({why}): nobody gets a token, and an edge that starts now lets nobody in",
        "start pushway auth, or set auth_url to where it is",
    )


def _judge_keys(base: str, status: int, document: bytes) -> Iterator[Finding]:
    try:
        keys = from_key_set(document) if status == HTTPStatus.OK else {}
    except ValueError:
        keys = {}
    if keys:
        yield ok(f"{base} publishes {counted(len(keys), 'key', 'keys')}")
    else:
        yield error(
            f"{base} publishes no key that edges can use (HTTP status {status})",
            "is that the auth service? auth_url is its address without a path",
        )


def _judge_key(settings: Settings, status: int) -> Iterator[Finding]:
    if status == HTTPStatus.UNAUTHORIZED and settings.api_key:
        yield error("auth has another api_key than these settings", "give both the same file, and start auth again")
    elif status not in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}:
        yield error(f"auth does not say whether a token is good (HTTP status {status})", "look at its log")
