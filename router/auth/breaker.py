"""Whether a service that fails is asked any more: a circuit breaker.

             so many failures in a row
    CLOSED ───────────────────────────▶ OPEN ◀───────────────┐ the try fails: a longer pause
      ▲                                   │ the pause is over │
      └───────────── the try passes ── TRYING ───────────────┘

While it is open nobody waits for an answer that will not come, and a service that comes back meets one question at a time, not
everybody's. Pure: the clock comes in.
"""

from __future__ import annotations

from router.retry import Backoff


class Breaker:
    """Counts failures.

    Args:
        failures_max: so many in a row open it.
        backoff: the pauses between tries.
    """

    def __init__(self, failures_max: int, backoff: Backoff) -> None:
        self._failures_max = failures_max
        self._backoff = backoff
        self._failures = 0
        self._next_try_s: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the service is taken to be away."""
        return self._next_try_s is not None

    def admits(self, now_s: float) -> bool:
        """Tell whether the service may be asked. After True, call `passed` or `failed` once."""
        if self._next_try_s is None:
            return True
        if self._trying or now_s < self._next_try_s:
            return False
        self._trying = True
        return True

    def passed(self) -> bool:
        """The service has answered. Return whether that is news."""
        news = self.is_open
        self._failures, self._next_try_s, self._trying = 0, None, False
        self._backoff.reset()
        return news

    def failed(self, now_s: float) -> bool:
        """The service has not. Return whether that has opened it."""
        if self.is_open and not self._trying:
            return False  # a question from before it opened
        news = not self.is_open
        self._failures += 1
        self._trying = False
        if self._failures < self._failures_max:
            return False
        self._next_try_s = now_s + self._backoff.next_s()
        return news
