r"""The PROXY protocol: what a balancer says ahead of a connection of whose it is, in its versions 1 and 2. Pure.

    v1  PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n
    v2  signature (12 bytes), version and command, family and transport, length (2), addresses, anything more (TLV)

It is read as strictly as it is written: who is to speak it and does not has been set up wrongly, and a guess would be of whose
connection it is. What stands behind the addresses is passed over.

Source: https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from router.errors import PushwayError

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_HEAD_BYTES: Final = 16

_LINE_BEGIN: Final = b"PROXY "
_LINE_MAX_BYTES: Final = 107
"""Section 2.1: the longest line there can be, its end included."""

PREFACE_MAX_BYTES: Final = 4_096
"""Longest of version 2 that is read. Section 2.2 has receivers take 536 bytes; a name, a certificate's subject and a cloud's
own remarks (TLV) make some hundreds."""

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_ADDRESS_BYTES: Final = {0: 0, 1: 4, 2: 16, 3: 108}
"""Family → the bytes of one address: unspecified, IPv4, IPv6, of a Unix socket."""

_PORTS_BYTES: Final = 4
_PORT_MAX: Final = 0xFFFF
_TRANSPORT_MAX: Final = 2

_LINE: Final = re.compile(rb"PROXY (?:UNKNOWN(?: [ -~]*)?|(TCP[46]) (\S+) (\S+) (\d{1,5}) (\d{1,5}))\r\n")


class Unannounced(PushwayError):
    """What came is no beginning of the PROXY protocol."""


class Preface(NamedTuple):
    """What a balancer said.

    Attributes:
        source: the address of whose connection it is; None where it is the balancer's own, as of a check, or has no address.
        size: how many bytes it was; what follows is the client's.
    """

    source: str | None
    size: int


def read_preface(data: bytes) -> Preface | None:
    """Return what a balancer said at the beginning of some bytes; None while more of it is to come.

    Raises:
        Unannounced: when it cannot become such a beginning any more.
    """
    if data.startswith(_SIGNATURE):
        return _read_binary(data)
    if data.startswith(_LINE_BEGIN):
        return _read_line(data)
    if _SIGNATURE.startswith(data) or _LINE_BEGIN.startswith(data):
        return None
    raise Unannounced


def _read_line(data: bytes) -> Preface | None:
    line, end, _ = data[:_LINE_MAX_BYTES].partition(b"\r\n")
    if not end:
        if len(data) >= _LINE_MAX_BYTES:
            raise Unannounced
        return None
    said = _LINE.fullmatch(line + end)
    if not said:
        raise Unannounced
    family, *addresses = said.group(1, 2, 3)
    if family is None:
        return Preface(None, said.end())
    if max(int(said[4]), int(said[5])) > _PORT_MAX:
        raise Unannounced
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        source, _ = (str(kind(address.decode("ascii"))) for address in addresses)
    except ValueError:
        raise Unannounced from None
    return Preface(source, said.end())


def _read_binary(data: bytes) -> Preface | None:
    if len(data) < _HEAD_BYTES:
        return None
    command, family, transport = data[12], data[13] >> 4, data[13] & 0xF
    size = _HEAD_BYTES + int.from_bytes(data[14:16], "big")
    known = command in {_LOCAL, _PROXY} and family in _ADDRESS_BYTES and transport <= _TRANSPORT_MAX
    if not known or size > PREFACE_MAX_BYTES:
        raise Unannounced
    if len(data) < size:
        return None
    return Preface(None if command == _LOCAL else _source(family, data[_HEAD_BYTES:size]), size)


def _source(family: int, said: bytes) -> str | None:
    """Return the source address, the first of two.

    Raises:
        Unannounced: when there is less than two of them, and their ports.
    """
    width = _ADDRESS_BYTES[family]
    ports = _PORTS_BYTES if family in {1, 2} else 0
    if len(said) < 2 * width + ports:
        raise Unannounced
    if not ports:
        return None
    address = said[:width]
    return str(IPv4Address(address) if family == 1 else IPv6Address(address))
