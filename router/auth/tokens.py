"""What a token says, and when it is believed. Pure: keys, rules and times come in, claims or a refusal go out.

A token is a JWT signed with EdDSA over Ed25519, and with nothing else: the algorithm is ours to choose, never the
token's, so neither `alg: none` nor a public key used as an HMAC secret gets anybody in (RFC 8725, sections 2.1 and 3.1).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from router.auth import usual
from router.auth.jwk import ALGORITHM
from router.errors import RuleBroken, TokenExpired, TokenRefused
from router.settings import Settings
from router.targets import check_id

REQUIRED: Final = ("exp", "iss", "aud", "jti", "sub")

TOKEN_MAX_CHARS: Final = 8_192
"""Longest token looked at: what proxies let pass as a header. It bounds the work done before a signature is known."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says about its bearer.

    Attributes:
        user: the user's id.
        expires_at: Unix seconds.
        topics: patterns of the topics that the user may subscribe to.
        jti: the token's own id.
        subscribe: topics that every session with the token hears, whatever the patterns say; ids.
        iat: when it was issued, Unix seconds; 0 where nobody says.
    """

    user: str
    expires_at: int
    topics: tuple[str, ...]
    jti: str
    subscribe: tuple[str, ...] = ()
    iat: int = 0


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What is accepted besides a good signature."""

    issuer: str
    audience: str
    leeway_s: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the rules that the settings give."""
        return cls(settings.token_issuer, settings.token_audience, settings.token_leeway_s)


def issue(claims: Claims, key: Ed25519PrivateKey, kid: str, rules: TokenRules, issued_at: int) -> str:
    """Return a signed token.

    Args:
        claims: what it says; the user has been checked.
        key: what signs it.
        kid: the key's name, which tells the verifier which key to take.
        rules: issuer and audience.
        issued_at: Unix seconds.
    """
    payload: dict[str, Any] = {
        "iss": rules.issuer,
        "aud": rules.audience,
        "sub": claims.user,
        "jti": claims.jti,
        "iat": issued_at,
        "exp": claims.expires_at,
    }
    if claims.topics:
        payload["topics"] = list(claims.topics)
    if claims.subscribe:
        payload["subscribe"] = list(claims.subscribe)
    return jwt.encode(payload, key, algorithm=ALGORITHM, headers={"kid": kid})


def kid_of(token: str) -> str:
    """Return which key a token claims to be signed with. Nothing is believed yet: call `verify` with that key.

    Raises:
        TokenRefused: when it is no JWT, names no key, or is not signed with EdDSA.
    """
    if len(token) > TOKEN_MAX_CHARS:
        raise TokenRefused(f"the token is longer than {TOKEN_MAX_CHARS} characters")
    kid: str | None = usual.kid_of(token)
    return _kid_of(token) if kid is None else kid


def _kid_of(token: str) -> str:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, RecursionError, UnicodeEncodeError) as exc:
        # Nested deeply enough, JSON overruns the parser's stack; bytes above 127 come out of a header as lone surrogates.
        raise TokenRefused("this is not a JSON Web Token") from exc
    if header.get("alg") != ALGORITHM:
        raise TokenRefused(f"tokens are signed with {ALGORITHM}, this one is not")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise TokenRefused("the token does not name its key (kid)")
    return kid


def verify(token: str, key: Ed25519PublicKey, rules: TokenRules) -> Claims:
    """Return what the token says, once it is proven.

    Raises:
        TokenExpired: when it did once.
        TokenRefused: with a reason that the bearer may read.
    """
    try:
        said = usual.read(token, key)
    except InvalidSignature as exc:
        raise TokenRefused(_REASONS[jwt.InvalidSignatureError]) from exc
    if said is not None and _keeps(said, rules):
        return Claims(checked_user(said.sub), said.exp, said.topics, said.jti, topic_names(said.subscribe), said.iat)
    return _verify(token, key, rules)


def _keeps(said: usual.Said, rules: TokenRules) -> bool:
    """Tell whether a token is of our issuer, for our audience, and of this time."""
    now_s = time.time()
    return (
        said.iss == rules.issuer
        and said.aud == rules.audience
        and said.exp > now_s - rules.leeway_s
        and said.iat <= now_s + rules.leeway_s
        and said.nbf <= now_s + rules.leeway_s
    )


def _verify(token: str, key: Ed25519PublicKey, rules: TokenRules) -> Claims:
    """Do the same with a token of whatever make."""
    try:
        return _to_claims(_payload(token, key, rules))
    except jwt.ExpiredSignatureError as exc:
        # Found before issuer and audience are looked at; with those wrong, a fresh token would be no better.
        _to_claims(_payload(token, key, rules, verify_exp=False))
        raise TokenExpired(reason_of(exc)) from exc


def _payload(token: str, key: Ed25519PublicKey, rules: TokenRules, *, verify_exp: bool = True) -> Mapping[str, Any]:
    """Return what a token says, unless something is wrong with it.

    Raises:
        ExpiredSignatureError: when it has expired.
        TokenRefused: when anything else is wrong.
    """
    try:
        payload: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=rules.leeway_s,
            options={"require": list(REQUIRED), "verify_exp": verify_exp},
        )
    except jwt.ExpiredSignatureError:
        raise
    except (jwt.InvalidTokenError, RecursionError) as exc:
        raise TokenRefused(reason_of(exc)) from exc
    return payload


_REASONS: Final[Mapping[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidIssuerError: "the token is from another issuer",
    jwt.InvalidAlgorithmError: f"tokens are signed with {ALGORITHM}, this one is not",
    jwt.InvalidSignatureError: "the token's signature is wrong",
}


def reason_of(exc: Exception) -> str:
    """Return why PyJWT does not take a token, in words for its bearer."""
    if isinstance(exc, jwt.MissingRequiredClaimError):
        return f"the token has no {exc.claim}"
    return _REASONS.get(type(exc), "the token is malformed")


def _to_claims(payload: Mapping[str, Any]) -> Claims:
    topics, subscribe = texts_of(payload, "topics"), topic_names(texts_of(payload, "subscribe"))
    return Claims(checked_user(payload["sub"]), int(payload["exp"]), topics, payload["jti"], subscribe, issued_at(payload))


def issued_at(payload: Mapping[str, Any]) -> int:
    """Return when a token says that it was issued, in whole Unix seconds; 0 where it does not say it by a number."""
    iat = payload.get("iat", 0)
    if isinstance(iat, float):
        return math.floor(iat) if math.isfinite(iat) else 0
    return iat if isinstance(iat, int) and not isinstance(iat, bool) else 0


def texts_of(payload: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a claim that is a list of texts; empty where there is none.

    Raises:
        TokenRefused: when it is something else.
    """
    texts = payload.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TokenRefused(f"{name} of the token is not a list of texts")
    return tuple(texts)


def checked_user(sub: str) -> str:
    """Return whom a token names.

    Raises:
        TokenRefused: when it breaks the rule for ids.
    """
    try:
        return check_id(sub, "sub")
    except RuleBroken as exc:
        raise TokenRefused(f"the token's {exc}") from exc


def topic_names(topics: tuple[str, ...]) -> tuple[str, ...]:
    """Return the topics to subscribe, which are names, not patterns.

    Raises:
        TokenRefused: when one of them breaks the rule for ids.
    """
    try:
        for topic in topics:
            check_id(topic, "subscribe")
    except RuleBroken as exc:
        raise TokenRefused(f"the token's {exc}") from exc
    return topics
