"""What a command to MongoDB may meet with while a replica set changes its primary, as servers tell of it.

Source: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from tests.op_msg import Document


class When(Enum):
    """At which point a command fails."""

    INSTEAD = auto()
    """It is answered with an error, and nothing is done."""
    CONCERN = auto()
    """It is done, and the answer says that the write concern was not met."""
    BEFORE = auto()
    """The connection ends before it is done."""
    AFTER = auto()
    """It is done, and the connection ends before the answer."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a command meets with.

    Attributes:
        when: at which point.
        code: of the error.
        name: of the code.
        labels: that the server puts on it.
    """

    when: When
    code: int = 0
    name: str = ""
    labels: tuple[str, ...] = ()

    def put_into(self, answer: Document) -> Document:
        """Return the answer with this error in it."""
        error: Document = {"code": self.code, "codeName": self.name, "errmsg": _MESSAGES[self.name]}
        if self.when is When.CONCERN:
            return answer | {"writeConcernError": error} | self._labels()
        return (
            {"ok": 0.0} | error | self._labels() | {name: value for name, value in answer.items() if name == "topologyVersion"}
        )

    def _labels(self) -> Document:
        return {"errorLabels": list(self.labels)} if self.labels else {}


_MESSAGES: Final = {
    "NotWritablePrimary": "not primary",
    "PrimarySteppedDown": "Operation interrupted because the primary has stepped down",
    "InterruptedAtShutdown": "interrupted at shutdown",
    "InterruptedDueToReplStateChange": "operation was interrupted",
    "NotPrimaryNoSecondaryOk": "not primary and secondaryOk=false",
    "WriteConcernTimeout": "waiting for replication timed out",
    "ShutdownInProgress": "Replication is being shut down",
}
_RETRY: Final = ("RetryableWriteError",)

NOT_PRIMARY: Final = Failure(When.INSTEAD, 10107, "NotWritablePrimary", _RETRY)
STEPPED_DOWN: Final = Failure(When.INSTEAD, 189, "PrimarySteppedDown", _RETRY)
SHUTTING_DOWN: Final = Failure(When.INSTEAD, 11600, "InterruptedAtShutdown", _RETRY)
INTERRUPTED: Final = Failure(When.INSTEAD, 11602, "InterruptedDueToReplStateChange", _RETRY)
INTERRUPTED_SILENTLY: Final = Failure(When.INSTEAD, 11602, "InterruptedDueToReplStateChange")
NO_SECONDARY_OK: Final = Failure(When.INSTEAD, 13435, "NotPrimaryNoSecondaryOk")
CONCERN_TIMEOUT: Final = Failure(When.CONCERN, 64, "WriteConcernTimeout")
CONCERN_SHUTDOWN: Final = Failure(When.CONCERN, 91, "ShutdownInProgress", _RETRY)
CUT_BEFORE: Final = Failure(When.BEFORE)
CUT_AFTER: Final = Failure(When.AFTER)

OF_READS: Final = {
    "not-primary": NOT_PRIMARY,
    "stepped-down": STEPPED_DOWN,
    "shutting-down": SHUTTING_DOWN,
    "interrupted": INTERRUPTED_SILENTLY,
    "no-secondary-ok": NO_SECONDARY_OK,
    "cut-before": CUT_BEFORE,
    "cut-after": CUT_AFTER,
}
OF_WRITES: Final = OF_READS | {
    "interrupted-retry": INTERRUPTED,
    "concern-timeout": CONCERN_TIMEOUT,
    "concern-shutdown": CONCERN_SHUTDOWN,
}
