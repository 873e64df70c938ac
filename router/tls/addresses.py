"""What the addresses of Redis and MongoDB ask of TLS, and what of it is refused, above all to verify nothing. Pure.

A connection that does not verify the certificate and the host name is open to whoever stands between, and looks the same as
one that does. To a host on this machine there is nobody between, so there it may be done without.

Nothing here quotes an address: a password may stand in it.

Sources: https://redis.readthedocs.io/en/stable/examples/ssl_connection_examples.html,
https://www.mongodb.com/docs/manual/reference/connection-string-options/#tls-options
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from router.hosts import is_loopback

_TRUE: Final = frozenset({"1", "t", "true", "y", "yes"})

_OF_REDIS: Final = frozenset(
    f"ssl_{name}"
    for name in (
        *("ca_certs", "ca_path", "ca_data", "certfile", "keyfile", "password", "ciphers"),
        *("cert_reqs", "check_hostname", "min_version"),
    )
)
"""The parameters of `rediss://` that are understood."""

_CA_OF_REDIS: Final = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"})

_UNVERIFIED_OF_MONGO: Final = {
    name.lower(): name for name in ("tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames")
}

_UNVERIFIED: Final = "{}: it switches the verification of certificates off, which is refused unless the host is this machine"


def redis_parameters(url: str) -> dict[str, str]:
    """Return the parameters of an address of Redis; of a repeated one the first, as the driver takes it."""
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(urlsplit(url).query):
        parameters.setdefault(name, unquote(value))
    return parameters


def redis_verifies(parameters: Mapping[str, str]) -> tuple[bool, bool]:
    """Return whether certificates are to be verified, and whether the host name."""
    certificates = parameters.get("ssl_cert_reqs", "required") == "required"
    return certificates, certificates and parameters.get("ssl_check_hostname", "true").lower() in _TRUE


def redis_problems(url: str, ca_file: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with an address of Redis and the setting `redis_ca_file` beside it: the setting, and what it is."""
    try:
        parameters = redis_parameters(url)
    except ValueError:  # no address at all: the driver says so
        return
    of_tls = {name for name in parameters if name.startswith("ssl_")}
    if urlsplit(url).scheme != "rediss":
        if ca_file:
            yield "redis_ca_file", "it does nothing unless redis_url begins with rediss://"
        if of_tls:
            yield "redis_url", f"{', '.join(sorted(of_tls))}: it does nothing unless the address begins with rediss://"
        return
    if unknown := of_tls - _OF_REDIS:
        yield "redis_url", f"{', '.join(sorted(unknown))}: there is no such parameter; {', '.join(sorted(_OF_REDIS))} there are"
    if ca_file and (twice := of_tls & _CA_OF_REDIS):
        yield "redis_ca_file", f"redis_url says whom to trust, too ({', '.join(sorted(twice))}): leave one of them out"
    yield from (("redis_url", text) for text in _unverified_of_redis(url, parameters))
    if not _is_min_version(parameters.get("ssl_min_version")):
        yield "redis_url", "ssl_min_version: 771 (TLS 1.2) or 772 (TLS 1.3) is expected"


def _unverified_of_redis(url: str, parameters: Mapping[str, str]) -> Iterator[str]:
    certificates, names = redis_verifies(parameters)
    if not names and not _all_loopback(url):
        yield _UNVERIFIED.format("ssl_check_hostname" if certificates else "ssl_cert_reqs")


def _is_min_version(value: str | None) -> bool:
    return value is None or value in {str(int(version)) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)}


def mongo_problems(url: str, ca_file: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with an address of MongoDB and the setting `mongo_ca_file` beside it: the setting, and what it is."""
    parameters = mongo_parameters(url)
    if ca_file and not mongo_has_tls(url):
        yield "mongo_ca_file", "it does nothing unless mongo_url says tls=true"
    if ca_file and "tlscafile" in parameters:
        yield "mongo_ca_file", "mongo_url says whom to trust, too (tlsCAFile): leave one of them out"
    for name, shown in _UNVERIFIED_OF_MONGO.items():
        if parameters.get(name, "false").lower() != "false" and not _all_loopback(url):
            yield "mongo_url", _UNVERIFIED.format(shown)


def mongo_parameters(url: str) -> dict[str, str]:
    """Return the parameters of an address of MongoDB, their names in lower case; of a repeated one the last."""
    query = url.partition("://")[2].partition("?")[2]
    return {name.lower(): value for name, value in parse_qsl(query.replace(";", "&"))}


def mongo_has_tls(url: str) -> bool:
    """Tell whether MongoDB is reached over TLS: asked for, or by `mongodb+srv`, which has it unless told otherwise."""
    parameters = mongo_parameters(url)
    said = parameters.get("tls", parameters.get("ssl", ""))
    return said.lower() == "true" or (url.startswith("mongodb+srv:") and said.lower() != "false")


def _all_loopback(url: str) -> bool:
    """Tell whether every host in an address is this machine."""
    places = url.partition("://")[2].partition("?")[0].partition("/")[0].rpartition("@")[2].split(",")
    return not url.startswith("mongodb+srv:") and all(is_loopback(_host(place)) for place in places)


def _host(place: str) -> str:
    return place.partition("]")[0].removeprefix("[") if place.startswith("[") else place.partition(":")[0]
