"""A token bucket: how much of something may be taken, at once and over time. Pure: the clock is the caller's."""

from __future__ import annotations


class Bucket:
    """Fills with time, and is emptied by what is taken.

    Args:
        a_second: how much comes in.
        most: how much it holds; it is full at first.
        now_s: the time by the caller's clock, which only grows.
    """

    __slots__ = ("_a_second", "_at_s", "_left", "_most")

    def __init__(self, a_second: float, most: float, now_s: float) -> None:
        self._a_second = a_second
        self._most = most
        self._left = most
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Take so much, and tell whether it was there; nothing is taken otherwise."""
        left = min(self._most, self._left + (now_s - self._at_s) * self._a_second)
        self._at_s = now_s
        if amount > left:
            self._left = left
            return False
        self._left = left - amount
        return True
