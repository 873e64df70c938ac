"""What was answered a short while ago, within bounds. Pure: the clock comes in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

AnswerT = TypeVar("AnswerT")


class Remembered(Generic[AnswerT]):
    """Answers by the digest of their question.

    Args:
        keep_s: for how long; 0 keeps nothing.
        most: how many; the oldest goes first.
    """

    def __init__(self, keep_s: float, most: int) -> None:
        self._keep_s = keep_s
        self._most = most
        self._answers: OrderedDict[bytes, tuple[float, AnswerT]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, question: bytes, now_s: float) -> AnswerT | None:
        """Return the answer to a question, None where there is none or it is too old."""
        until_s, answer = self._answers.get(question, (0.0, None))
        return answer if now_s < until_s else None

    def keep(self, question: bytes, answer: AnswerT, now_s: float) -> None:
        """Remember an answer."""
        if not self._keep_s:
            return
        self._answers.pop(question, None)
        while self._answers and (len(self._answers) >= self._most or next(iter(self._answers.values()))[0] <= now_s):
            self._answers.popitem(last=False)
        self._answers[question] = (now_s + self._keep_s, answer)
