"""Times as the API gives them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(time: datetime) -> str:
    """Return a time as RFC 3339 has it, in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_of_ms(unix_ms: int) -> str:
    """Return a time in Unix ms as RFC 3339 has it."""
    return rfc3339(datetime.fromtimestamp(unix_ms / 1000, UTC))
