"""Addresses of Redis in settings: understood, or refused by a `ValueError`; one that is ours quotes no password.

The first byte says whose address it is; the bytes behind it are one, or stand around a password in one.
"""

from __future__ import annotations

from typing import Final

from edge.redis_address import read_address
from router.redaction import Redaction
from router.redis_url import AddressRefused, read_url
from tests.fuzz.inputs import Choices

_PASSWORD: Final = "hush4711"  # noqa: S105 - of no server

SEEDS: Final = (
    b"\x00redis://user:p%40ss@host:6380/2",
    b"\x00rediss://a:7000,b:7001,[::1]:7002/?cluster=true&socket_timeout=5",
    b"\x00redis://s1:26379,s2/1?sentinel=mymaster&sentinel_password=x",
    b"\x00redis://a,b",
    b"\x00redis://a/?cluster=maybe",
    b"\x00redis://a/3?cluster=true",
    b"\x00unix:///tmp/a.sock?db=1",
    b"\x00redis://[::1",
    b"\x00redis://a:\xc2\xb2",
    b"\x00redis://a:99999999",
    b"\x00",
    b"\x01redis://user:\x00@host:6380/2",
    b"\x01redis://user:/\x00@host:6380",
    b"\x01redis://user:\x00/@a:b,c:x/?cluster=true",
    b"\x01redis://a,b/?sentinel=\x00",
)


def run(data: bytes) -> None:
    """Read an address in each of the ways it is read in."""
    choices = Choices(data)
    has_password = choices.flag()
    url = choices.rest().decode("utf-8", "surrogateescape")
    if has_password:
        url = url.replace("\0", _PASSWORD, 1)
    try:
        _read(url)
    except AddressRefused as exc:
        assert not _is_quoted(url, str(exc)), exc
    except ValueError:
        return


def _read(url: str) -> None:
    read = read_url(url)
    assert all(address.port >= 0 for address in read.addresses)
    assert not (read.cluster and read.sentinel)
    read_address(read.driver_url, "edge-1")


def _is_quoted(url: str, said: str) -> bool:
    """Tell whether an error says the password, which stands before the last `@` as it does in every address."""
    before = url.rpartition("@")[0]
    return _PASSWORD in before and _PASSWORD in said and _PASSWORD in Redaction([]).text(said)
