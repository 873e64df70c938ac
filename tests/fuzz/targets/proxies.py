"""What a balancer says ahead of a connection: read to its end or refused, alike for any cut, and never taken for the client's.

The first byte of an input chooses the cuts, and whether a balancer is to announce; the others are what comes.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from edge.forwarded import Proxies
from edge.preface import PREFACE_MAX_BYTES, Preface, Unannounced, read_preface
from tests.fuzz.inputs import cut

_PEER: Final = "10.0.3.1"
_PROXIES: Final = Proxies(["10.0.3.0/28", "2001:db8:ffff::/48"])
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"

SEEDS: Final = (
    b"\x00PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\nGET / HTTP/1.1\r\n",
    b"\x01PROXY TCP6 2001:db8::7 ::1 56324 443\r\n",
    b"\x02PROXY UNKNOWN\r\n",
    b"\x03" + _SIGNATURE + b"\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\xdc\x04\x01\xbbGET",
    b"\x04" + _SIGNATURE + b"\x20\x00\x00\x00",
    b"\x05" + _SIGNATURE + b"\x21\x21\x00\x29" + bytes(36) + b"\x04\x00\x02hi",
    b"\x06" + _SIGNATURE + b"\x21\x31\xff\xff",
    b"\x07198.51.100.1, 203.0.113.7:80, [2001:db8::7]:443,10.0.3.2",
    b"\x08unknown, ::ffff:203.0.113.7, fe80::1%eth0",
)


def run(data: bytes) -> None:
    """Read it as an announcement, whole and bit by bit, and as a header."""
    seed, said = data[0] if data else 0, data[1:]
    whole = _read(said)
    got = b""
    found: Preface | str | None = None
    for piece in cut(said, 1 + seed):
        got += piece
        found = _read(got)
        if found is not None:
            break
    assert found == whole
    if isinstance(whole, Preface):
        assert 0 < whole.size <= min(len(said), PREFACE_MAX_BYTES)
        assert whole.source is None or str(ip_address(whole.source)) == whole.source
    _check_header(said.decode("latin-1"))


def _read(said: bytes) -> Preface | str | None:
    try:
        return read_preface(said)
    except Unannounced:
        return "unannounced"


def _check_header(said: str) -> None:
    """See to it that an address comes out, and that nothing which stands further left changes what a balancer appended."""
    client = _PROXIES.client_of(_PEER, [said])
    assert str(ip_address(client)) == client
    for headers in ([f"{said}, 203.0.113.7"], [said, "203.0.113.7"], [f"{said},203.0.113.7 , 10.0.3.9"]):
        assert _PROXIES.client_of(_PEER, headers) == "203.0.113.7"
