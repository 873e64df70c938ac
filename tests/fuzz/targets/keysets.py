"""Documents with keys: a JWK Set of an issuer or of our own auth, a PEM file. Keys that fit what they say, or `ValueError`.

The first byte says which of them.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from router.auth.jwk import from_key_set, thumbprint, to_key_set
from router.auth.trusted import KEYS_MAX, RSA_MIN_BITS, TrustedKey, from_issuer_set, from_pem
from tests.fuzz.inputs import Choices

_OURS: Final = Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key()
_CURVE: Final = ec.derive_private_key(7, ec.SECP256R1()).public_key()
_MODULUS: Final = (1 << 2_047) + 1


def _number(value: int) -> str:
    return urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


_EC: Final = {"kty": "EC", "crv": "P-256", "x": _number(_CURVE.public_numbers().x), "y": _number(_CURVE.public_numbers().y)}
_RSA: Final = {"kty": "RSA", "n": _number(_MODULUS), "e": "AQAB", "kid": "r"}
_OKP: Final = to_key_set(_OURS)["keys"][0]


def _set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}, separators=(",", ":")).encode()


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


SEEDS: Final = (
    b"\x00" + _set(_OKP),
    b"\x00" + _set(_EC | {"kid": "e", "alg": "ES256", "use": "sig", "key_ops": ["verify"]}),
    b"\x00" + _set(_RSA, {"kty": "oct", "k": "c2VjcmV0"}),
    b"\x00" + _set(_EC | {"x": "AA"}, _OKP | {"x": "AA"}, _OKP | {"x": "é"}),
    b"\x00" + _set(_EC | {"crv": "secp256k1"}, _OKP | {"crv": "X25519"}, _OKP | {"d": "AA"}),
    b"\x00" + _set(_RSA | {"n": "AQ"}, _RSA | {"e": ""}, _RSA | {"n": 5}),
    b'\x00{"keys":[]}',
    b"\x00" + b"[" * 1_500,
    b'\x00{"keys":[{"kty":"OKP","crv":"Ed25519","x":"\\ud800"}]}',
    b"\x01" + _set(_OKP),
    b"\x01" + _set(_OKP | {"x": "AA"}),
    b"\x01" + _set(_EC),
    b"\x02" + _pem(_CURVE),
    b"\x02" + _pem(_CURVE) * 2,
    b"\x02-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n",
    b"\x02-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n",
)


def run(data: bytes) -> None:
    """Read a document."""
    choices = Choices(data)
    kind, document = choices.byte() % 3, choices.rest()
    try:
        if kind == 0:
            _check(key for keys in from_issuer_set(document).values() for key in keys)
        elif kind == 1:
            assert all(kid == thumbprint(key) for kid, key in from_key_set(document).items())
        else:
            _check(from_pem(document))
    except ValueError as exc:
        str(exc).encode()


def _check(found: Iterable[TrustedKey]) -> None:
    keys = list(found)
    assert len(keys) <= KEYS_MAX
    for key in keys:
        assert not isinstance(key.key, bytes), "a secret in a document"
        assert key.algorithms
        assert not any(name.startswith("HS") or name == "none" for name in key.algorithms)
        assert not isinstance(key.key, RSAPublicKey) or key.key.key_size >= RSA_MIN_BITS
