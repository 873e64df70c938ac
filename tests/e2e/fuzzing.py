"""What OpenAPI has no words for, told to schemathesis: its command loads this file (test_openapi.py)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData

_UNFORETOLD = (
    *("another than Idempotency-Key", "is not a time in Unix ms", "is for what is stored"),
    *("all that a close frame holds", "is no cursor of a page", "is in the future"),
)


@schemathesis.hook
def filter_failure(
    _context: schemathesis.HookContext, failure: Failure, _case: schemathesis.Case[Any], response: schemathesis.Response
) -> bool:
    """Tell whether what was found is a fault, and not what the document says in words."""
    # 202 says that a message is appended; it is found once it is stored, and never when it is transient.
    if isinstance(failure, EnsureResourceAvailability):
        return False
    return not (isinstance(failure, RejectedPositiveData) and _is_about_ids(response.json()))


def _is_about_ids(answer: dict[str, Any]) -> bool:
    """Tell whether a refusal, or each of an array's, is one that no schema foretells.

    An id may have been used before, for another message. A message's own and that of the header Idempotency-Key, each good
    by itself, are two. The latest `at` and `before` are known to the clock alone, what is transient neither waits nor is
    replayed, a close frame's reason is counted in bytes, and a cursor may be of no page that there was.
    """
    problems = [result.get("problem", {}) for result in answer.get("results", ())] or [answer]
    return all(
        problem.get("status") == HTTPStatus.CONFLICT or any(words in problem.get("detail", "") for words in _UNFORETOLD)
        for problem in problems
    )
