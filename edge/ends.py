"""Why a connection ended: counted, and told of where an operator may want to end it for good."""

from __future__ import annotations

import structlog

from edge.closes import counted_as, is_breach
from edge.handshake import Failure, Handshake
from router.metrics import CLOSES, HANDSHAKES_FAILED

log = structlog.get_logger(__name__)


def tell_end(wire: Handshake, address: str) -> None:
    """Count the end of a connection, and log a client that broke the rules.

    Args:
        wire: its protocol, which has been told of the end.
        address: the client's, as it is counted; the other end's where a balancer has not told it.
    """
    if failure := wire.failure:
        HANDSHAKES_FAILED.labels(reason=failure.value).inc()
        if failure is not Failure.LEFT:
            log.info("handshake_failed", key=failure.value, address=address)
    elif wire.close_sent is not None and not wire.close_rcvd_then_sent:
        code = wire.close_sent.code
        CLOSES.labels(code=counted_as(code)).inc()
        if is_breach(code):
            log.info("client_sent_away", key=str(code), address=address)
