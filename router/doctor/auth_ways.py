"""Whom edges go by where they do not go by auth (`auth_by`): that there are keys, or that the service judges."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import anyio.to_thread

from router.auth.bearer import NOBODY
from router.auth.judgement import question, read
from router.auth.outward import NO_ANSWER, Answer, ask, open_client, shown, why
from router.auth.tokens import Claims
from router.auth.trusted import from_issuer_set, from_pem
from router.doctor.findings import Finding, counted, error, ok, warning
from router.settings import Settings
from router.tls.trust import http_trust

_NO_TOKEN = "none"  # noqa: S105 - a question about a token that is none: it lets nobody in, and changes nothing


async def examine(settings: Settings) -> list[Finding]:
    """Return what is to be thought of the way that edges authenticate by."""
    if settings.auth_by == "http":
        return [await _callback(settings)]
    return [await _keys(settings), *_judge_audience(settings)]


async def _keys(settings: Settings) -> Finding:
    if settings.jwt_secret:
        return ok(f"edges check tokens with {counted(len(settings.jwt_secret), 'shared secret', 'shared secrets')}")
    if settings.jwt_key_file:
        return await _key_file(settings.jwt_key_file)
    return await _key_set(settings)


async def _key_file(file: str) -> Finding:
    try:
        keys = from_pem(await anyio.to_thread.run_sync(Path(file).read_bytes))
    except (OSError, ValueError) as exc:
        return error(f"jwt_key_file {file} cannot be used ({exc}): no edge starts", "put the issuer's public key there, in PEM")
    return ok(f"{file} holds {counted(len(keys), 'key', 'keys')}")


async def _key_set(settings: Settings) -> Finding:
    url = settings.jwt_jwks_url
    try:
        async with open_client(http_trust(settings)) as http:
            answer = await ask(http, http.build_request("GET", url), settings.auth_timeout_s)
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"HTTP status {answer.status}")
        keys = from_issuer_set(answer.body)
    except NO_ANSWER as exc:
        seen = f"{shown(url)} gives no keys ({why(exc)}): an edge that starts now lets nobody in"
        return error(seen, "is jwt_jwks_url the address of the JWK Set itself, and does it answer from here?")
    return ok(f"{shown(url)} publishes {counted(sum(map(len, keys.values())), 'key', 'keys')} that edges can use")


def _judge_audience(settings: Settings) -> Iterator[Finding]:
    if not settings.token_audience:
        yield warning(
            "token_audience is empty: a token that the issuer gave for another service gets in",
            "set it to what the issuer writes into aud for this service",
        )


async def _callback(settings: Settings) -> Finding:
    url = settings.auth_callback_url
    headers = {"content-type": "application/json"}
    if settings.auth_callback_secret:
        headers["authorization"] = f"Bearer {settings.auth_callback_secret}"
    try:
        async with open_client(http_trust(settings)) as http:
            request = http.build_request("POST", url, content=question(_NO_TOKEN, NOBODY), headers=headers)
            return judge_answer(shown(url), await ask(http, request, settings.auth_timeout_s), settings.token_topics_max)
    except NO_ANSWER as exc:
        seen = f"{shown(url)} gives no answer ({why(exc)}): edges let nobody in"
        return error(seen, "start that service, or set auth_callback_url to where it is")


def judge_answer(where: str, answer: Answer, topics_max: int) -> Finding:
    """Return what is to be thought of a service's answer about a token that is none."""
    try:
        said = read(answer, topics_max)
    except ValueError as exc:
        return error(f"{where} neither lets in nor refuses ({exc})", "docs/auth.md says what it is to answer")
    if isinstance(said, Claims):
        return error(f"{where} lets in whoever shows a token that is none", "let it look at `token`")
    return ok(f"{where} answers, and refuses a token that is none")
