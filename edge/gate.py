"""How many may be here, and how fast they may come: what holds before anything is known of a client but its address.

    connection made ─▶ enter ─▶ its client's address known ─▶ admit ─┬─ let in ─▶ handshake, token …
                                                                     └─ a Close, said after the upgrade: a browser can
    connection lost ─▶ leave                                            read nothing earlier

An address is what stands at the other end of the connection, or what a trusted balancer there tells (`edge.forwarded`), once it
has told. Of IPv6 the first 64 bits count, since whoever has one address there has them all (RFC 6177). Nothing is held against
an address unless it is set: behind a balancer that is not trusted every client has the balancer's.

Pure: the clock comes in, and the figures in memory are all it touches.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from edge.bucket import Bucket
from edge.closes import Close
from router.settings import Settings

_BURST_S: Final = 2.0
"""How many seconds' worth of handshakes may come at once."""

_ADDRESSES_MAX: Final = 10_000
"""Most addresses whose pace is remembered; the one that has been quiet longest goes first, and begins anew."""


class Refusal(NamedTuple):
    """Why somebody is not let in."""

    close: Close
    detail: str


class Gate:
    """Counts who is here.

    Args:
        settings: `connections_max` and what follows it.
        files_max: most connections that the process can have open.
        now_s: the time by the caller's clock, which only grows.
    """

    def __init__(self, settings: Settings, files_max: int, now_s: float) -> None:
        self._most = min(settings.connections_max or files_max, files_max)
        self._address_most = settings.connections_address_max
        self._pace = _bucket(settings.handshakes_s_max, now_s)
        self._address_pace = settings.handshakes_address_s_max
        self._here = 0
        self._by_address: dict[str, int] = {}
        self._paces: OrderedDict[str, Bucket] = OrderedDict()

    def enter(self) -> Refusal | None:
        """Count a connection, and tell why it is not to be let in, if so. It is counted either way until it leaves."""
        self._here += 1
        if self._here > self._most:
            return Refusal(Close.OVERLOADED, "this edge has all the connections that it takes")
        return None

    def admit(self, address: str, now_s: float) -> Refusal | None:
        """Count a connection that has entered for its address, which is known now, and tell likewise."""
        if self._address_most and address:
            count = self._by_address[address] = self._by_address.get(address, 0) + 1
            if count > self._address_most:
                return Refusal(Close.TOO_MANY_SESSIONS, "of this address")
        if self._address_pace and not self._pace_of(address, now_s).take(1, now_s):
            return Refusal(Close.TOO_FAST, "too many connects of this address")
        if self._pace is not None and not self._pace.take(1, now_s):
            return Refusal(Close.OVERLOADED, "too many connects at once")
        return None

    def leave(self, address: str) -> None:
        """Count a connection no more; one whose address never became known has ""."""
        self._here -= 1
        left = self._by_address.get(address, 0) - 1
        if left > 0:
            self._by_address[address] = left
        else:
            self._by_address.pop(address, None)

    def _pace_of(self, address: str, now_s: float) -> Bucket:
        pace = self._paces.pop(address, None)
        if pace is None:
            pace = Bucket(self._address_pace, self._address_pace * _BURST_S, now_s)
            if len(self._paces) >= _ADDRESSES_MAX:
                self._paces.popitem(last=False)
        self._paces[address] = pace
        return pace


def _bucket(a_second: int, now_s: float) -> Bucket | None:
    return Bucket(a_second, a_second * _BURST_S, now_s) if a_second else None


def address_of(host: str) -> str:
    """Return what the connections of an address are counted under."""
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(IPv6Address(int(address) >> 64 << 64))
