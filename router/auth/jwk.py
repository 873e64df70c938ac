"""One Ed25519 key as JSON: how auth publishes it and an edge reads it.

Sources: RFC 7517 (JWK), RFC 7638 (thumbprint), RFC 8037 (Ed25519 as kty OKP).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY_TYPE: Final = "OKP"
CURVE: Final = "Ed25519"
ALGORITHM: Final = "EdDSA"


class _Key(msgspec.Struct):
    """What is read of a key; all but `kty` may be missing in a key of another kind."""

    kty: str
    crv: str = ""
    x: str = ""


class _KeySet(msgspec.Struct):
    keys: list[_Key]


def thumbprint(key: Ed25519PublicKey) -> str:
    """Return the key's RFC 7638 thumbprint, which is its kid: the same key has the same kid wherever it is."""
    # The RFC hashes exactly these members, in this order, without white space.
    text = f'{{"crv":"{CURVE}","kty":"{KEY_TYPE}","x":"{_encode(key.public_bytes_raw())}"}}'
    return _encode(hashlib.sha256(text.encode()).digest())


def to_key_set(*keys: Ed25519PublicKey) -> dict[str, list[dict[str, str]]]:
    """Return the JWK Set with these keys."""
    return {"keys": [_to_jwk(key) for key in keys]}


def from_key_set(document: bytes) -> dict[str, Ed25519PublicKey]:
    """Return kid → key of a JWK Set's Ed25519 keys; keys of another kind are passed over (RFC 7517, section 5).

    The kid is computed, not read: a set cannot put a key under another one's name.

    Raises:
        ValueError: when the document is not a JWK Set, or one of its Ed25519 keys is not a key.
    """
    try:
        found = msgspec.json.decode(document, type=_KeySet).keys
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(f"not a JWK Set: {exc}") from exc
    public = [_from_jwk(key) for key in found if (key.kty, key.crv) == (KEY_TYPE, CURVE)]
    return {thumbprint(key): key for key in public}


def _to_jwk(key: Ed25519PublicKey) -> dict[str, str]:
    return {
        "kty": KEY_TYPE,
        "crv": CURVE,
        "x": _encode(key.public_bytes_raw()),
        "kid": thumbprint(key),
        "alg": ALGORITHM,
        "use": "sig",
    }


def _from_jwk(key: _Key) -> Ed25519PublicKey:
    try:
        raw = base64.urlsafe_b64decode(key.x + "=" * (-len(key.x) % 4))
    except binascii.Error as exc:
        raise ValueError(f"x of an Ed25519 key is not base64url: {exc}") from exc
    return Ed25519PublicKey.from_public_bytes(raw)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
