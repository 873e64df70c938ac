"""The setting `redis_url`, taken apart: one server, a Cluster, or a primary that sentinels know.

    redis://user:password@host:6379/0                     one server; rediss:// with TLS, unix:///path without TCP
    redis://user:password@a:7000,b:7001,c/?cluster=true   Redis Cluster, by any of its nodes
    redis://user:password@s1:26379,s2,s3/0?sentinel=name  the primary that sentinels call `name`, by any of them

What remains of an address that names several hosts is one that the driver understands. It knows nothing of connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_PORT_MAX: Final = 65_535

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})

_OURS: Final = frozenset({"cluster", "sentinel", "sentinel_username", "sentinel_password"})


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What an address says.

    Attributes:
        driver_url: what the driver understands; where several hosts are named, with the first of them.
        addresses: the hosts that are named; none of a Unix socket.
        cluster: it is a Redis Cluster.
        sentinel: what the sentinels at these addresses call the primary; "" where there are none.
        sentinel_user: whom the sentinels know us as; "" for the default user.
        sentinel_password: for them; "" where they ask for none.
    """

    driver_url: str
    addresses: tuple[Address, ...]
    cluster: bool = False
    sentinel: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""


class AddressRefused(ValueError):
    """An address asks for what there is not; the text quotes neither user nor password."""


def read_url(url: str) -> RedisUrl:
    """Return what an address says.

    Raises:
        AddressRefused: with what is wrong with it.
        ValueError: when it is no address at all; the text may quote a password.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return RedisUrl(url, ())
    query = parse_qsl(parts.query, keep_blank_values=True)
    ours = {name: value for name, value in query if name in _OURS}
    cluster, sentinel = _flag(ours.get("cluster", "false")), ours.get("sentinel", "")
    userinfo, at, hosts = parts.netloc.rpartition("@")
    port = _SENTINEL_PORT if sentinel else _PORT
    addresses = tuple(_address(host, port) for host in hosts.split(","))
    _check(addresses, parts.path, cluster=cluster, sentinel=sentinel if "sentinel" in ours else None)
    rest = urlencode([(name, value) for name, value in query if name not in _OURS])
    first = parts._replace(netloc=f"{userinfo}{at}{addresses[0]}", query=rest)
    return RedisUrl(
        driver_url=first.geturl() if cluster or sentinel else url,
        addresses=addresses,
        cluster=cluster,
        sentinel=sentinel,
        sentinel_user=ours.get("sentinel_username", ""),
        sentinel_password=ours.get("sentinel_password", ""),
    )


def _flag(word: str) -> bool:
    if word.lower() in _TRUE | _FALSE:
        return word.lower() in _TRUE
    raise AddressRefused("cluster= takes true or false")


def _address(text: str, port: int) -> Address:
    host, colon, digits = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    host = host if colon else text
    if (not host and "," in text) or (colon and not (digits.isascii() and digits.isdigit() and int(digits[:6]) <= _PORT_MAX)):
        # Not quoted: with a slash in it as it is, a password ends up here.
        raise AddressRefused("a host of it is no host:port (in a password / ? # @ are written %2F %3F %23 %40)")
    # A URL without a host means this machine, as it does to the driver.
    return Address(unquote(host).strip("[]") or "localhost", int(digits) if colon else port)


def _check(addresses: tuple[Address, ...], path: str, *, cluster: bool, sentinel: str | None) -> None:
    if cluster and sentinel is not None:
        raise AddressRefused("cluster=true and sentinel=… exclude each other")
    if sentinel == "":
        raise AddressRefused("sentinel= takes the name that the sentinels have for the primary (SENTINEL MASTERS)")
    if len(addresses) > 1 and not cluster and not sentinel:
        raise AddressRefused("several hosts are a Cluster (add ?cluster=true) or sentinels (add ?sentinel=NAME)")
    if cluster and path.strip("/") not in {"", "0"}:
        raise AddressRefused("a Cluster has one database only: leave out the number, or write 0")
