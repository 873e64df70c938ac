"""A question over HTTP to a service that a setting names: its keys, or its judgement of a token.

The service may be slow, gone, or somebody else's by now. So an answer has a deadline as a whole, not only for each piece; it
has a most size, and comes uncompressed, since a small piece could else become a large one. A redirect is not followed: where
a question goes is for the settings to say, not for who is asked.

No proxy from the environment either.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple

import anyio
import httpx

ANSWER_MAX_BYTES: Final = 262_144
"""Longest answer that is read: a hundred RSA keys are some 50 kB."""

NO_ANSWER: Final = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError)
"""What a question may end in, in place of an answer."""


class Answer(NamedTuple):
    """What was answered; names of headers in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def open_client(
    trust: ssl.SSLContext, transport: httpx.AsyncBaseTransport | None = None, *, connections: int = 1
) -> httpx.AsyncClient:
    """Return a client; close it.

    Args:
        trust: whose certificates are believed; see `router.tls.trust`.
        transport: how services are reached; default: the network.
        connections: most at a time.
    """
    return httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        verify=trust,
        timeout=None,  # noqa: S113 - `ask` has one for the whole
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


async def ask(http: httpx.AsyncClient, request: httpx.Request, timeout_s: float) -> Answer:
    """Return the answer to a request, whatever its status.

    Raises:
        HTTPError, InvalidURL, TimeoutError: when there is none in time.
        ValueError: when it is too long, or compressed.
    """
    request.headers["accept-encoding"] = "identity"
    with anyio.fail_after(timeout_s):
        response = await http.send(request, stream=True)
        try:
            return Answer(response.status_code, response.headers, await _read(response))
        finally:
            await response.aclose()


async def _read(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ValueError("the answer is compressed, which was not asked for")
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > ANSWER_MAX_BYTES:
            raise ValueError(f"the answer is longer than {ANSWER_MAX_BYTES:,} bytes")
    return bytes(body)


def why(exc: Exception) -> str:
    """Return in words what there was in place of an answer."""
    return str(exc) or ("no answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__)


def shown(url: str) -> str:
    """Return an address as it may stand in a log: its parameters may be secrets."""
    return url.partition("?")[0]
