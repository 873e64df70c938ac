"""Keys that tokens of any issuer are checked with, each with the algorithms that fit it and no others.

A key comes from a JWK Set, a PEM file or a setting. What kind of key it is decides how it may be used, never the token: a
public key is no HMAC secret, and a secret is never published, so that a set with one in it (`oct`) has one key less. Pure.

Sources: RFC 7517 (JWK), RFC 7518 (algorithms, least sizes of keys), RFC 8037 (Ed25519), RFC 8725 section 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from router.combined import HELD_MAX, SECRET_MIN_BYTES

KEYS_MAX: Final = 100
"""Most keys that a set may have."""

RSA_MIN_BITS: Final = 2_048
_RSA_MAX_BITS: Final = 8_192
"""A larger one takes milliseconds for each token."""

_EDDSA: Final = frozenset({"EdDSA"})
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final[Mapping[str, frozenset[str]]] = {
    "secp256r1": frozenset({"ES256"}),
    "secp384r1": frozenset({"ES384"}),
    "secp521r1": frozenset({"ES512"}),
}

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


class TrustedKey(NamedTuple):
    """A key and what it may be used for.

    Attributes:
        kid: what its issuer calls it; "" where it has no name.
        algorithms: those that it fits.
    """

    kid: str
    key: PublicKey | bytes
    algorithms: frozenset[str]


def from_secrets(secrets: Sequence[str]) -> list[TrustedKey]:
    """Return shared secrets as keys."""
    return [TrustedKey("", data, _fitting_secret(data)) for data in map(str.encode, secrets)]


def _fitting_secret(data: bytes) -> frozenset[str]:
    return frozenset(name for name, least in SECRET_MIN_BYTES.items() if len(data) >= least)


_PEM: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)


def from_pem(text: bytes) -> list[TrustedKey]:
    """Return the public keys in a PEM file, which may hold several.

    Raises:
        ValueError: when there is none, there are too many, or one of them cannot be used; the text says which.
    """
    found = list(_PEM.finditer(text))
    if not 0 < len(found) <= HELD_MAX:
        raise ValueError(f"it holds {len(found)} keys in PEM, and 1 to {HELD_MAX} are expected")
    return [_from_block(block[1].decode(), block[0]) for block in found]


def _from_block(label: str, block: bytes) -> TrustedKey:
    if not label.endswith("PUBLIC KEY"):
        raise ValueError(f"it holds a {label}, and public keys are expected (openssl pkey -in key.pem -pubout)")
    try:
        return _trusted("", load_pem_public_key(block))
    except UnsupportedAlgorithm as exc:
        raise ValueError(f"a key in it cannot be used: {exc}") from exc


class _Jwk(msgspec.Struct):
    """What is read of a key beside its numbers; anything but `kty` may be missing."""

    kty: str
    kid: Annotated[str, msgspec.Meta(max_length=1_024)] = ""
    use: str = "sig"
    alg: str = ""
    key_ops: tuple[str, ...] = ("verify",)


class _KeySet(msgspec.Struct):
    keys: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=KEYS_MAX)]


def from_issuer_set(document: bytes) -> dict[str, tuple[TrustedKey, ...]]:
    """Return kid → keys of a JWK Set; nameless keys under "".

    Keys that are for something else, of a kind or size that is not taken, or secret, are passed over (RFC 7517, section 5).

    Raises:
        ValueError: when the document is not a JWK Set, or no key of it can be used.
    """
    try:
        found = msgspec.json.decode(document, type=_KeySet).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(f"not a JWK Set: {exc}") from exc
    keys: dict[str, tuple[TrustedKey, ...]] = {}
    for key in filter(None, map(_from_jwk, found)):
        keys[key.kid] = (*keys.get(key.kid, ()), key)
    if not keys:
        raise ValueError(f"none of its {len(found)} keys can be used to check tokens")
    return keys


_FAMILIES: Final[Mapping[str, Any]] = {"OKP": OKPAlgorithm, "EC": ECAlgorithm, "RSA": RSAAlgorithm}


def _from_jwk(said: dict[str, Any]) -> TrustedKey | None:
    try:
        facts = msgspec.convert(said, _Jwk)
        if facts.use != "sig" or "verify" not in facts.key_ops or "d" in said:
            return None
        key = _trusted(facts.kid, _FAMILIES[facts.kty].from_jwk(said))
    except (msgspec.ValidationError, InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    algorithms = key.algorithms & {facts.alg} if facts.alg else key.algorithms
    return key._replace(algorithms=algorithms) if algorithms else None


def _trusted(kid: str, key: object) -> TrustedKey:
    match key:
        case Ed25519PublicKey():
            return TrustedKey(kid, key, _EDDSA)
        case EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return TrustedKey(kid, key, _CURVES[key.curve.name])
        case RSAPublicKey() if RSA_MIN_BITS <= key.key_size <= _RSA_MAX_BITS:
            return TrustedKey(kid, key, _RSA)
        case RSAPublicKey():
            raise ValueError(f"an RSA key of {key.key_size} bits is not taken; {RSA_MIN_BITS} to {_RSA_MAX_BITS} are")
        case _:
            raise ValueError("a key is neither Ed25519, nor RSA, nor on one of the curves P-256, P-384 and P-521")


def algorithms_of(keys: Iterable[TrustedKey]) -> frozenset[str]:
    """Return the algorithms that any of the keys fits."""
    return frozenset[str]().union(*(key.algorithms for key in keys))
