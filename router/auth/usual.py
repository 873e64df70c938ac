"""The usual token, read the short way: as auth here writes it, compact, with nothing in it that needs a second look.

PyJWT takes a token apart three times as slowly as the curve takes to check its signature, and an edge to which everybody comes
back at once does little else. So what is plainly a token of ours is read here, and all else, whatever is wrong or merely rare
about it, is left to PyJWT, which has the last word on it: `None` means that nothing has been judged.

The curve's check is libsodium's, which takes two thirds of the time of OpenSSL's, and refuses whatever that refuses.

The one promise: what is returned here, PyJWT would return too. A property of the tests holds that against it.
Sources: RFC 7515 section 5.2, RFC 8725.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})")
"""Header, payload and the 64 bytes of a signature, in base64url without padding."""

_HEADERS_MAX: Final = 64
"""Most headers remembered. All tokens signed with one key have the same one; anybody can send others, which only go by."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a header may say: with `crit` or anything else in it, a token is not usual."""

    alg: Literal["EdDSA"]
    kid: Annotated[str, msgspec.Meta(min_length=1)]
    typ: str = ""


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token says whose signature is good: claims of the right types, held against no rule yet.

    Attributes:
        exp, iat, nbf: Unix seconds; the last two 0 where the token does not say them.
    """

    iss: str
    aud: str
    sub: str
    jti: str
    exp: int
    iat: int = 0
    nbf: int = 0
    topics: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


_read_header: Final = msgspec.json.Decoder(_Header).decode
_read_payload: Final = msgspec.json.Decoder(Said).decode


def kid_of(token: str) -> str | None:
    """Return which key a usual token claims to be signed with; believe nothing yet."""
    parts = _TOKEN.fullmatch(token)
    if parts is None or any(_decode(part) is None for part in parts.groups()[1:]):
        return None
    return _kid_in(parts[1])


def read(token: str, key: Ed25519PublicKey) -> Said | None:
    """Return what a usual token says.

    Raises:
        InvalidSignature: when the key did not sign it.
    """
    parts = _TOKEN.fullmatch(token)
    if parts is None or _kid_in(parts[1]) is None:
        return None
    payload, signature = _decode(parts[2]), _decode(parts[3])
    if payload is None or signature is None:
        return None
    try:
        crypto_sign_open(signature + token[: parts.end(2)].encode(), key.public_bytes_raw())
    except BadSignatureError as exc:
        raise InvalidSignature from exc
    try:
        return _read_payload(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@lru_cache(_HEADERS_MAX)
def _kid_in(header: str) -> str | None:
    data = _decode(header)
    try:
        return None if data is None else _read_header(data).kid
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _decode(segment: str) -> bytes | None:
    """Return what base64url says, None where it could say the same in other letters."""
    text = segment.encode()
    if len(text) % 4 == 1:
        return None
    data = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    return data if urlsafe_b64encode(data).rstrip(b"=") == text else None
