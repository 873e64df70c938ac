"""Tokens: whatever somebody makes of a good one, it says what was signed or is refused; what is signed is read one way.

The first byte says what is tried: changes of a good token, any text, or any header and payload under a good signature; by the
rules for our own tokens and those for anybody's.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from router.auth import foreign, tokens
from router.auth.foreign import EXPIRES_MAX_S, ForeignRules
from router.auth.tokens import Claims, TokenRules, issue
from router.auth.trusted import TrustedKey, from_secrets
from router.errors import TokenExpired, TokenRefused
from router.targets import is_id
from tests.fuzz.inputs import Choices

_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
_SECRET: Final = "s" * 64
_RULES: Final = TokenRules("pushway", "pushway", 5)
_FOREIGN_RULES: Final = ForeignRules(frozenset({"EdDSA", "HS256"}), "pushway", "pushway", 5, "sub")
_KEYS: Final = [TrustedKey("k1", _KEY.public_key(), frozenset({"EdDSA"})), *from_secrets([_SECRET])]
_IN_2100_S: Final = 4_102_444_800
_CLAIMS: Final = Claims("alice", _IN_2100_S, ("news", "room-*"), "t1", ("sport",), 1)
_GOOD: Final = issue(_CLAIMS, _KEY, "k1", _RULES, 1)

_PAYLOAD: Final = b'{"iss":"pushway","aud":"pushway","sub":"alice","jti":"t","exp":4102444800,"topics":["a"]}'

SEEDS: Final = (
    b"\x00",
    b"\x00\x40A\x00\x20=",
    b"\x00\xf0A\x01\x00=",
    b"\x01" + _GOOD.encode(),
    b"\x01" + _GOOD.replace(".", "..", 1).encode(),
    b"\x01eyJhbGciOiJub25lIn0." + _GOOD.split(".")[1].encode() + b".",
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD,
    b"\x02" + b'{"alg":"none","kid":"k1"}\0' + _PAYLOAD,
    b"\x02" + b'{"alg":"EdDSA","kid":"k1","crit":["b64"],"b64":false}\0' + _PAYLOAD,
    b"\x02" + b'{"alg":"EdDSA","kid":"k1","jku":"http://a","jwk":{}}\0' + _PAYLOAD,
    b"\x02" + b'{"alg":"EdDSA","kid":7}\0' + _PAYLOAD,
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD.replace(b"4102444800", b"5"),
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD.replace(b"4102444800", b"1e400"),
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD.replace(b"4102444800", b"NaN"),
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD.replace(b"4102444800", b"4102444800.5"),
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD.replace(b'"alice"', b'"a b"'),
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD.replace(b'"pushway"', b'["pushway","b"]'),
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD.replace(b'"t"', b'"\\ud800"'),
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + b"[" * 1_500,
    b"\x02" + b'{"alg":"EdDSA","kid":"k1"}\0' + _PAYLOAD.replace(b'"exp"', b'"nbf":5,"iat":"x","exp"'),
    b"\x03" + b'{"alg":"HS256"}\0' + _PAYLOAD,
    b"\x03" + b'{"alg":"EdDSA"}\0' + _PAYLOAD,
    b"\x03" + b'{"alg":"HS256"}\0' + _PAYLOAD.replace(b'"t"', b"7").replace(b"4102444800", b"1e30"),
)


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _changed(choices: Choices) -> str:
    """Return the good token with bytes of it replaced, put in or taken out."""
    data = bytearray(_GOOD.encode())
    while choices:
        at = choices.number() % (len(data) + 1)
        data[at : at + choices.byte() % 3] = choices.take(choices.byte() % 3)
    return data.decode("utf-8", "surrogateescape")


def _signed(choices: Choices, sign: Callable[[bytes], bytes]) -> str:
    """Return any header and payload, with a good signature."""
    header, _, payload = choices.rest().partition(b"\0")
    text = f"{_base64url(header)}.{_base64url(payload)}"
    return f"{text}.{_base64url(sign(text.encode()))}"


def run(data: bytes) -> None:
    """Have a token judged by both sets of rules."""
    choices = Choices(data)
    kind = choices.byte() % 4
    if kind == 0:
        token = _changed(choices)
    elif kind == 1:
        token = choices.rest().decode("latin-1")
    elif kind == 2:
        token = _signed(choices, _KEY.sign)
    else:
        token = _signed(choices, lambda text: hmac.digest(_SECRET.encode(), text, "sha256"))
    own, of_any = _judge(_read_own, token), _judge(_read_foreign, token)
    if kind == 0:
        # Base64 may say the same in other letters; nothing else of a token that was signed can be another.
        assert {type(one) for one in (own, of_any)} <= {Claims, TokenRefused}
        assert all(one == _CLAIMS for one in (own, of_any) if isinstance(one, Claims)), token
    for claims in (own, of_any):
        if isinstance(claims, Claims):
            _check(claims, token)
    if isinstance(own, Claims) and kind == 3:
        raise AssertionError("signed with a secret, and taken for one of ours")


def _read_own(token: str) -> Claims:
    kid = tokens.kid_of(token)
    if kid != "k1":
        raise TokenRefused("no such key")
    claims = _judge(lambda text: tokens.verify(text, _KEY.public_key(), _RULES), token)
    by_the_library = _judge(lambda text: tokens._verify(text, _KEY.public_key(), _RULES), token)
    assert type(claims) is type(by_the_library), (claims, by_the_library)
    if not isinstance(claims, Claims):
        raise claims
    assert claims == by_the_library
    return claims


def _read_foreign(token: str) -> Claims:
    head = foreign.head_of(token, _FOREIGN_RULES)
    claims = foreign.verify(token, head, _KEYS, _FOREIGN_RULES)
    if claims is None:
        raise TokenRefused("signed by none of the keys")
    return claims


def _judge(read: Callable[[str], Claims], token: str) -> Claims | TokenRefused:
    """Return what was read, or how it was refused: with words that can be sent."""
    try:
        return read(token)
    except TokenRefused as exc:
        assert type(exc) in {TokenRefused, TokenExpired}
        assert len(exc.reason) < 1_000
        exc.reason.encode()
        return exc


def _check(claims: Claims, token: str) -> None:
    """Hold claims against the payload as Python's json reads it."""
    payload = token.split(".")[1]
    said = json.loads(_unbase64url(payload))
    assert is_id(claims.user)
    assert claims.user == said["sub"]
    assert all(map(is_id, claims.subscribe))
    assert list(claims.topics) == said.get("topics", [])
    assert list(claims.subscribe) == said.get("subscribe", [])
    assert claims.expires_at == int(min(float(said["exp"]), EXPIRES_MAX_S)) or claims.expires_at == int(said["exp"])
    iat = said.get("iat", 0)
    assert claims.iat == iat or not isinstance(iat, int) or isinstance(iat, bool)
    assert said["iss"] == "pushway"
    assert "pushway" in said["aud"]


def _unbase64url(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
