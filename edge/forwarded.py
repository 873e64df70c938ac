"""Whose a connection is that comes through balancers: which are believed, and what they tell in `X-Forwarded-For`. Pure.

A balancer appends the address that it sees to what has come in the header, so it is read from the right, and only as far as
those who wrote are trusted: what stands further left, anybody can have sent.

Sources: https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/X-Forwarded-For (choosing an address),
https://nginx.org/en/docs/http/ngx_http_realip_module.html (`real_ip_recursive`)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

HEADER = "X-Forwarded-For"

Address = IPv4Address | IPv6Address


class Proxies:
    """The balancers that are believed.

    Args:
        networks: `edge_proxies`, each an address or a network. With none, nobody is believed.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(map(ip_network, networks))

    def trust(self, address: str) -> bool:
        """Tell whether what this address says of others is believed."""
        if not self._networks:  # as on most edges: nothing is to be spent on it
            return False
        found = read_address(address)
        return found is not None and any(found in network for network in self._networks)

    def client_of(self, peer: str, headers: Sequence[str]) -> str:
        """Return whose connection it is.

        Args:
            peer: who is at the other end, and trusted.
            headers: the `X-Forwarded-For` of the request, in their order.

        Returns:
            The rightmost address that is not trusted; where all are, the first of them; where something else stands between
            them, what stands to the right of that, which wrote it.
        """
        client = peer
        for hop in _from_the_right(headers):
            address = read_address(hop)
            if address is None:
                break
            client = str(address)
            if not self.trust(client):
                break
        return client


def read_address(text: str) -> Address | None:
    """Return an address, with which there may be a port as some balancers write it; None where it is none.

    An IPv4 address within one of IPv6 is that IPv4 address, however the socket came by it.
    """
    host = text.strip(" \t")
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _from_the_right(headers: Sequence[str]) -> Iterator[str]:
    for header in reversed(headers):
        yield from reversed(header.split(","))
