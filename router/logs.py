"""Logs: one line a fact, on stderr, for people or as JSON.

Events are past-tense facts in snake_case, ids are keys. Payloads, tokens, keys and connection strings never go into a log;
tracebacks are written without local variables, because those would carry all of them.
Libraries that use the standard library's logging are heard from WARNING on, in the same form.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from router.settings import Settings

LIBRARIES_LEVEL: Final = logging.WARNING
"""httpx tells every request at INFO, and uvicorn its life's story."""


def configure(settings: Settings, service: str) -> None:
    """Set up structlog and the root logger of this process.

    Args:
        settings: `log_level` and `log_format`.
        service: the name that every line carries.
    """
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared = _shared_processors(service)
    ending = _ending_processors(settings)
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    _adopt_libraries(shared, ending)


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
    """Return what turns an event into text."""
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # the rich one prints local variables
        )
    ]


def _to_json(event: EventDict, **_options: object) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def _adopt_libraries(shared: list[Processor], ending: list[Processor]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(handlers=[handler], level=LIBRARIES_LEVEL, force=True)
