"""Logs: one line a fact, on stderr, for people or as JSON.

Events are past-tense facts in snake_case, ids are keys; docs/logs.md has them all. Payloads, tokens, keys and connection
strings never go into a log, and `router.redaction` is the last to see to that; tracebacks are written without local variables,
because those would carry all of them. A state change is a line, a message never is. What repeats all the same is told a few
times and then counted (`router.repeats`).

Libraries that use the standard library's logging are heard from WARNING on, in the same form and within the same bounds,
whatever the level: what some tell at DEBUG is every document they send.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

import anyio
import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from router.redaction import Redaction, secrets_of
from router.repeats import Kind, Repeats
from router.settings import Settings

LIBRARIES_LEVEL: Final = logging.WARNING
"""httpx tells every request at INFO, and uvicorn its life's story."""

LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)

LOOK_S: Final = 1.0
"""How often it is looked whether an interval of repeated lines is over."""

PLACES: Final = ("server", "part", "shard", "key", "caller")
"""Keys that tell lines of one event apart when they are counted: of each there are few, and a state change of one is not that
of another."""

_SUPPRESSED: Final = "lines_suppressed"

log = structlog.get_logger(__name__)


class Logs:
    """The logs of this process: what is written, and how much of it.

    Args:
        settings: `log_level` and what bounds repetition.
    """

    def __init__(self, settings: Settings) -> None:
        self._set_level = self.level = logging.getLevelNamesMapping()[settings.log_level.upper()]
        self._repeats = Repeats(settings.log_repeats_max, settings.log_repeats_s, time.monotonic)

    def say_more(self) -> None:
        """Lower the level by one step, so that more is written."""
        self._change(max((level for level in LEVELS if level < self.level), default=self.level))

    def say_as_set(self) -> None:
        """Go back to the level of the settings."""
        self._change(self._set_level)

    async def run(self) -> None:
        """Tell what was suppressed, until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            self.tell_suppressed()

    def tell_suppressed(self, *, at_end: bool = False) -> None:
        """Tell how many lines were suppressed in the intervals that are over; at the end in all."""
        for suppressed in self._repeats.take_over(all_of_them=at_end):
            log.log(suppressed.level, "lines_suppressed", count=suppressed.count, **dict(suppressed.kind))

    def gate(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Drop a line of ours that is below the level or has been told often enough."""
        level = logging.getLevelNamesMapping()[method.upper()]
        if level < self.level or not self._is_admitted(event, level):
            raise structlog.DropEvent
        return event

    def gate_library(self, record: logging.LogRecord) -> bool:
        """Tell whether a library's line is to be written."""
        # By where it is logged, for its text may be another every time.
        kind = (("of", record.name), ("line", f"{record.filename}:{record.lineno}"))
        return self._repeats.admit(kind, record.levelno)

    def _is_admitted(self, event: EventDict, level: int) -> bool:
        return event["event"] == _SUPPRESSED or self._repeats.admit(_kind(event), level)

    def _change(self, level: int) -> None:
        self.level = level
        # At the very level, so that it is seen at any.
        log.log(level, "log_level_changed", to=logging.getLevelName(level).lower())


def configure(settings: Settings, service: str) -> Logs:
    """Set up structlog and the root logger of this process.

    Args:
        settings: the `log_…` ones, and all that is secret.
        service: the name that every line carries.
    """
    logs = Logs(settings)
    shared = _shared_processors(service)
    ending = _ending_processors(settings)
    structlog.configure(
        processors=[logs.gate, *shared, *ending],
        # The gate has the level, which changes while loggers live.
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    _adopt_libraries(logs, shared, ending)
    return logs


def _kind(event: EventDict) -> Kind:
    """Return what tells this line from others: its event, and where that happened."""
    return (("of", str(event["event"])), *((place, str(event[place])) for place in PLACES if place in event))


def _shared_processors(service: str) -> list[Processor]:
    """Return what every line gets, ours and the libraries'."""

    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
    ]


def _ending_processors(settings: Settings) -> list[Processor]:
    """Return what turns an event into text, redacted before it is one."""
    redaction = Redaction(secrets_of(settings))

    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return redaction.event(event)

    return [structlog.processors.format_exc_info, redact, _renderer(settings)]


def _renderer(settings: Settings) -> Processor:
    if settings.log_format == "json":
        return structlog.processors.JSONRenderer(serializer=_to_json)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        exception_formatter=structlog.dev.plain_traceback,  # the rich one prints local variables
    )


def _to_json(event: EventDict, **_options: object) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def _adopt_libraries(logs: Logs, shared: list[Processor], ending: list[Processor]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(logs.gate_library)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(handlers=[handler], level=LIBRARIES_LEVEL, force=True)
    logging.captureWarnings(capture=True)
