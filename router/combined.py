"""Settings that must go together: what is wrong with a combination, though each value by itself is accepted. Pure.

Among them are the settings of the ways to authenticate (`auth_by`). One of another way than the chosen one is refused, because
whoever set it believes that it does something.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from router.hosts import is_loopback
from router.redis_url import AddressRefused, read_url
from router.tls.addresses import mongo_problems, redis_problems

if TYPE_CHECKING:
    from router.settings import Settings

KEYS: Final = ("jwt_jwks_url", "jwt_key_file", "jwt_secret")
"""Where the keys of `jwt` may be; exactly one of them is set."""

_WAYS: Final = {
    **dict.fromkeys((*KEYS, "jwt_algorithms", "jwt_user_claim"), "jwt"),
    **dict.fromkeys(("auth_callback_url", "auth_callback_headers", "auth_callback_secret"), "http"),
}
"""Setting → the way that it belongs to."""

HELD_MAX: Final = 8
"""Most keys in a file, or secrets in a setting: each is tried with each token that it fits."""

OF_KEYS: Final = frozenset({"EdDSA"} | {f"{family}{bits}" for family in ("ES", "RS", "PS") for bits in (256, 384, 512)})
"""Algorithms of public keys."""

SECRET_MIN_BYTES: Final[Mapping[str, int]] = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms of shared secrets. RFC 7518 section 3.2: a secret is at least as long as the hash."""

SHOWN: Final = ("api_key", "auth_callback_secret")
"""Secrets that one side shows the other in a header."""

SHOWN_MIN_CHARS: Final = 32
"""Fewest characters of such a secret, where there is one: 128 bits though it were hexadecimal, 192 in base64."""

DEFAULT_OF_SECRETS: Final = frozenset({"HS256"})

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LIKE_A_KEY: Final = re.compile(r"-----BEGIN |(ssh|ecdsa)-")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]*")


class Problem(NamedTuple):
    """A setting, and what is wrong with it beside the others."""

    name: str
    text: str


def problems(settings: Settings) -> list[Problem]:
    """Return what is wrong with settings, each of which is accepted by itself."""
    return [
        *_stray(settings),
        *_of_jwt(settings),
        *_of_http(settings),
        *_of_tokens(settings),
        *_of_redis(settings),
        *_of_tls(settings),
        *_of_shown(settings),
        *_of_passwords(settings),
        *_of_proxies(settings),
        *_of_buffers(settings),
    ]


def _stray(settings: Settings) -> Iterator[Problem]:
    for name, way in _WAYS.items():
        if settings.auth_by != way and getattr(settings, name) != type(settings).model_fields[name].default:
            yield Problem(name, f'it does nothing unless auth_by is "{way}", and auth_by is "{settings.auth_by}"')


def _of_redis(settings: Settings) -> Iterator[Problem]:
    try:
        read_url(settings.redis_url)
    except AddressRefused as exc:
        yield Problem("redis_url", str(exc))
    except ValueError:  # no address at all: the driver says so
        return


def _of_tls(settings: Settings) -> Iterator[Problem]:
    yield from (Problem(*found) for found in redis_problems(settings.redis_url, settings.redis_ca_file))
    yield from (Problem(*found) for found in mongo_problems(settings.mongo_url, settings.mongo_ca_file))
    for door in ("edge", "http"):
        given = [part for part in ("cert", "key") if getattr(settings, f"{door}_tls_{part}_file")]
        if len(given) == 1:
            other = "key" if given == ["cert"] else "cert"
            yield Problem(f"{door}_tls_{given[0]}_file", f"it takes {door}_tls_{other}_file beside it")


def _of_proxies(settings: Settings) -> Iterator[Problem]:
    for text in settings.edge_proxies:
        try:
            network = ip_network(text)
        except ValueError as exc:
            yield Problem("edge_proxies", f"{exc}; an address or a network is expected, as 10.0.3.0/28")
        else:
            if not network.prefixlen:
                yield Problem("edge_proxies", f"with {text} anybody could say whose connection it is; name the balancers")
    if settings.edge_proxy_protocol and not settings.edge_proxies:
        yield Problem("edge_proxy_protocol", "it does nothing unless edge_proxies names the balancers that speak it")


def _of_buffers(settings: Settings) -> Iterator[Problem]:
    if settings.send_buffer_soft_bytes > settings.send_buffer_max_bytes:
        yield Problem("send_buffer_soft_bytes", f"it is more than send_buffer_max_bytes ({settings.send_buffer_max_bytes})")


def _of_shown(settings: Settings) -> Iterator[Problem]:
    for name in SHOWN:
        secret = getattr(settings, name)
        if not _VISIBLE.fullmatch(secret):
            yield Problem(name, "it goes into a header, so it may have visible ASCII characters only")
        elif secret and len(secret) < SHOWN_MIN_CHARS:
            text = f"one of less than {SHOWN_MIN_CHARS} characters can be guessed; take what `openssl rand -base64 32` prints"
            yield Problem(name, text)


def _of_passwords(settings: Settings) -> Iterator[Problem]:
    for name in ("redis_url", "mongo_url"):
        user, at, _ = getattr(settings, name).partition("://")[2].rpartition("@")
        if at and user.endswith(":"):
            yield Problem(name, "it has an empty password; leave the colon out where there is none")


def _of_tokens(settings: Settings) -> Iterator[Problem]:
    for name in ("token_issuer", "token_audience"):
        if settings.auth_by != "jwt" and not getattr(settings, name):
            yield Problem(name, 'it may be empty only where auth_by is "jwt"')


def _of_jwt(settings: Settings) -> Iterator[Problem]:
    if settings.auth_by != "jwt":
        return
    given = [name for name in KEYS if getattr(settings, name)]
    if len(given) != 1:
        text = f'auth_by "jwt" takes exactly one of {", ".join(KEYS)}, and {len(given)} are set'
        yield Problem(given[-1] if given else "auth_by", text)
        return
    if settings.jwt_jwks_url:
        yield from _of_url("jwt_jwks_url", settings.jwt_jwks_url, settings.auth_plain_hosts)
    yield from _of_algorithms(settings.jwt_algorithms, SECRET_MIN_BYTES if settings.jwt_secret else OF_KEYS, given[0])
    if settings.jwt_secret:
        yield from _of_secrets(settings)


def _of_algorithms(algorithms: Sequence[str], fitting: Collection[str], keys: str) -> Iterator[Problem]:
    wrong = [name for name in algorithms if name not in fitting]
    if wrong:
        yield Problem("jwt_algorithms", f"{', '.join(wrong)} cannot be used with {keys}; {', '.join(sorted(fitting))} can")


def _of_secrets(settings: Settings) -> Iterator[Problem]:
    if len(settings.jwt_secret) > HELD_MAX:
        yield Problem("jwt_secret", f"{len(settings.jwt_secret)} secrets are too many; the old and the new one will do")
    least = max(SECRET_MIN_BYTES.get(name, 0) for name in settings.jwt_algorithms or DEFAULT_OF_SECRETS)
    if any(len(secret.encode()) < least for secret in settings.jwt_secret):
        text = f"one of less than {least} bytes can be guessed; take what `openssl rand -base64 {least}` prints"
        yield Problem("jwt_secret", text)
    if any(_LIKE_A_KEY.match(secret) for secret in settings.jwt_secret):
        yield Problem("jwt_secret", "a key is no secret that two share; the file with a public key is jwt_key_file")


def _of_http(settings: Settings) -> Iterator[Problem]:
    if settings.auth_by != "http":
        return
    if settings.auth_callback_url:
        yield from _of_url("auth_callback_url", settings.auth_callback_url, settings.auth_plain_hosts)
    else:
        yield Problem("auth_callback_url", 'auth_by "http" needs it: whom is an edge to ask?')
    wrong = [name for name in settings.auth_callback_headers if not _HEADER.fullmatch(name)]
    if wrong:
        yield Problem("auth_callback_headers", f"{wrong[0]!r} is not the name of a header")


def _of_url(name: str, url: str, plain_hosts: Sequence[str]) -> Iterator[Problem]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as exc:
        yield Problem(name, f"it is no address: {exc}")
        return
    if not host:
        yield Problem(name, "it is no address: it names no host")
    elif parts.username is not None or parts.fragment:
        yield Problem(name, "an address without user, password and fragment is expected")
    elif parts.scheme == "http" and not is_loopback(host) and host not in {plain.lower() for plain in plain_hosts}:
        yield Problem(name, f"whoever stands between could let anybody in: use https, or name {host} in auth_plain_hosts")
