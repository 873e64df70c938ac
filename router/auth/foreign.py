"""A token of any issuer: what it says, and when it is believed. Pure, like `auth.tokens`, which is for those of our own auth.

The token's header says which of the keys signed it and how, and nothing else in it is heard: no key inside it (`jwk`, `x5c`),
no address of one (`jku`, `x5u`). A key has its algorithms, the settings have theirs, the token's must be in both: so neither
`none` nor a public key used as an HMAC secret gets anybody in (RFC 8725, sections 2.1 and 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import jwt

from router.auth.tokens import TOKEN_MAX_CHARS, Claims, checked_user, issued_at, reason_of, texts_of, topic_names
from router.auth.trusted import TrustedKey
from router.combined import DEFAULT_OF_SECRETS, OF_KEYS
from router.errors import TokenExpired, TokenRefused
from router.settings import Settings

TRIED_MAX: Final = 8
"""Most keys tried with a token that does not name its own: it bounds the work that anybody can cause."""

EXPIRES_MAX_S: Final = 253_402_300_799
"""The end of the year 9999. A token that ends later ends then: times are numbers that can be reckoned with."""

_KID_MAX_CHARS: Final = 1_024


@dataclass(frozen=True, slots=True)
class ForeignRules:
    """What is accepted besides a good signature.

    Attributes:
        algorithms: those that may have been used.
        issuer, audience: "" is any, or none.
        user_claim: which claim is the user.
    """

    algorithms: frozenset[str]
    issuer: str
    audience: str
    leeway_s: int
    user_claim: str

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the rules that the settings give."""
        usual = DEFAULT_OF_SECRETS if settings.jwt_secret else OF_KEYS
        return cls(
            frozenset(settings.jwt_algorithms) or usual,
            settings.token_issuer,
            settings.token_audience,
            settings.token_leeway_s,
            settings.jwt_user_claim,
        )


class Head(NamedTuple):
    """How a token claims to be signed; believe nothing yet. `kid` is "" where it names no key."""

    algorithm: str
    kid: str

    def fits(self, key: TrustedKey) -> bool:
        """Tell whether the key can have been used so."""
        return self.algorithm in key.algorithms


def head_of(token: str, rules: ForeignRules) -> Head:
    """Return how a token claims to be signed.

    Raises:
        TokenRefused: when it is no token, or may not be signed so.
    """
    if len(token) > TOKEN_MAX_CHARS:
        raise TokenRefused(f"the token is longer than {TOKEN_MAX_CHARS} characters")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, RecursionError, ValueError) as exc:
        # Nested deeply enough, JSON overruns the parser's stack; bytes above 127 come out of a header as lone surrogates.
        raise TokenRefused("this is not a JSON Web Token") from exc
    if "crit" in header:  # RFC 7515 section 4.1.11: we know no extension, and what is critical must be known
        raise TokenRefused("the token has a critical extension (crit), and none is known")
    return Head(_algorithm(header, rules), _kid(header))


def _algorithm(header: Mapping[str, Any], rules: ForeignRules) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms:
        raise TokenRefused("the token is signed with an algorithm that is not accepted")
    return algorithm


def _kid(header: Mapping[str, Any]) -> str:
    kid = header.get("kid", "")
    if not isinstance(kid, str) or len(kid) > _KID_MAX_CHARS:
        raise TokenRefused("the token does not name its key (kid) by a text")
    return kid


def verify(token: str, head: Head, keys: Iterable[TrustedKey], rules: ForeignRules) -> Claims | None:
    """Return what the token says, once it is proven; None when none of the keys signed it.

    Raises:
        TokenExpired: when it did once.
        TokenRefused: with a reason that the bearer may read.
    """
    for key in [key for key in keys if head.fits(key)][:TRIED_MAX]:
        try:
            return _verify(token, head, key, rules)
        except jwt.InvalidSignatureError:
            continue
    return None


def _verify(token: str, head: Head, key: TrustedKey, rules: ForeignRules) -> Claims:
    try:
        return _to_claims(_payload(token, head, key, rules), rules)
    except jwt.ExpiredSignatureError as exc:
        # Found before issuer and audience are looked at; with those wrong, a fresh token would be no better.
        _to_claims(_payload(token, head, key, rules, verify_exp=False), rules)
        raise TokenExpired(reason_of(exc)) from exc


def _payload(token: str, head: Head, key: TrustedKey, rules: ForeignRules, *, verify_exp: bool = True) -> Mapping[str, Any]:
    """Return what a token says, unless something is wrong with it.

    Raises:
        InvalidSignatureError: when it was signed with another key.
        ExpiredSignatureError: when it has expired.
        TokenRefused: when anything else is wrong.
    """
    required = ["exp", *(["iss"] if rules.issuer else []), *(["aud"] if rules.audience else [])]
    options: Any = {
        "require": required,
        "verify_exp": verify_exp,
        "verify_iss": bool(rules.issuer),
        "verify_aud": bool(rules.audience),
        # Which claim is the user, and whether there is an id of the token, is not for RFC 7519 to say.
        "verify_sub": False,
        "verify_jti": False,
    }
    try:
        payload: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[head.algorithm],
            issuer=rules.issuer or None,
            audience=rules.audience or None,
            leeway=rules.leeway_s,
            options=options,
        )
    except (jwt.InvalidSignatureError, jwt.ExpiredSignatureError):
        raise
    except (jwt.PyJWTError, RecursionError, ValueError, OverflowError, TypeError) as exc:
        raise TokenRefused(reason_of(exc)) from exc
    return payload


def _to_claims(payload: Mapping[str, Any], rules: ForeignRules) -> Claims:
    jti = payload.get("jti", "")
    return Claims(
        user=_user(payload, rules.user_claim),
        expires_at=expiry(payload["exp"]),
        topics=texts_of(payload, "topics"),
        jti=jti if isinstance(jti, str) else "",
        subscribe=topic_names(texts_of(payload, "subscribe")),
        iat=issued_at(payload),
    )


def _user(payload: Mapping[str, Any], claim: str) -> str:
    user = payload.get(claim)
    if user is None:
        raise TokenRefused(f"the token has no {claim}")
    if not isinstance(user, str):
        raise TokenRefused(f"{claim} of the token is not a text")
    return checked_user(user)


def expiry(said: object) -> int:
    """Return an end in Unix seconds, which JSON may give as any number.

    Raises:
        TokenRefused: when it is none.
    """
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not math.isfinite(min(said, EXPIRES_MAX_S)):
        raise TokenRefused("exp of the token is not a number")
    return int(min(said, EXPIRES_MAX_S))
