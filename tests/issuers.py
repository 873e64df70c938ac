"""Keys and tokens of an issuer that is not ours, and forgeries of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

RSA_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY: Final = ec.generate_private_key(ec.SECP256R1())
ED_KEY: Final = Ed25519PrivateKey.generate()
SECRET: Final = "0123456789abcdef" * 2


def payload(**changes: object) -> dict[str, Any]:
    """Return a good payload with some members changed; None takes a member out."""
    now = int(time.time())
    good = {"sub": "alice", "iss": "https://issuer.example", "aud": ["app", "push"], "exp": now + 60} | changes
    return {name: value for name, value in good.items() if value is not None}


def sign(said: dict[str, Any], key: Any, algorithm: str, **header: object) -> str:  # noqa: ANN401 - a key of any kind
    """Return a token."""
    return jwt.encode(said, key, algorithm=algorithm, headers=header)


def encode(part: object) -> str:
    """Return JSON, or bytes, in base64url."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge_hmac(header: dict[str, Any], said: object, secret: bytes) -> str:
    """Return a token signed by hand with HMAC, since PyJWT would not take a public key for a secret."""
    signing_input = f"{encode(header)}.{encode(said)}"
    return f"{signing_input}.{encode(hmac.new(secret, signing_input.encode(), hashlib.sha256).digest())}"


def pem(*keys: Any) -> bytes:  # noqa: ANN401 - keys of any kind
    """Return the public halves as a PEM file."""
    return b"".join(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys)


def jwk(key: Any, **members: object) -> dict[str, Any]:  # noqa: ANN401 - a key of any kind
    """Return the public half as a JWK."""
    family: Any = {"RSAPrivateKey": RSAAlgorithm, "ECPrivateKey": ECAlgorithm}.get(type(key).__name__, OKPAlgorithm)
    said: dict[str, Any] = json.loads(family.to_jwk(key.public_key()))
    return {name: value for name, value in said.items() if name != "key_ops"} | members


def key_set(*keys: dict[str, Any]) -> bytes:
    """Return a JWK Set."""
    return json.dumps({"keys": keys}).encode()
