"""How many files this process may have open, and so how many connections."""

from __future__ import annotations

import resource
from typing import Final

_OTHERS: Final = 256
"""Files that are no connections of clients: Redis, MongoDB, the ops port, those that wait to be refused."""

_UNLIMITED: Final = 2**31


def raise_limit() -> int:
    """Have the system allow as many open files as this process may ask for; return how many connections that is.

    A shell's soft limit is often 1,024, for programs that cannot bear more (select(2)). This one can.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, (_UNLIMITED if hard == resource.RLIM_INFINITY else hard) - _OTHERS)
