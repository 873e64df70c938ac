"""Who shows a token, as far as an edge can tell: what is told to a service that is asked about the token (`auth.callback`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Bearer(NamedTuple):
    """What the request to connect said.

    Attributes:
        address: the client's; behind a balancer that is not trusted, the balancer's.
        headers: those that the settings name, under names in lower case.
        query: the parameters of the address.
    """

    address: str
    headers: Mapping[str, str]
    query: Mapping[str, str]


NOBODY: Final = Bearer("", {}, {})
"""For those who judge a token by itself."""
