"""Messages in the inbox for somebody to come back to, as collect would have stored them in the week before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import anyio

from router.inbox import Inbox
from router.lines import build_frame
from router.mongo_client import open_mongo
from router.settings import Settings
from router.stored import make_document
from tests.bench.dialect import body_text, stamped

_SPREAD_US: Final = int(timedelta(days=7).total_seconds() * 1_000_000)
_AT_ONCE: Final = 1_000


def store_messages(settings: Settings, user: str, count: int) -> None:
    """Store messages that the generator can check: numbered from 1."""
    anyio.run(_store, settings, f"user:{user}", count)


async def _store(settings: Settings, target: str, count: int) -> None:
    documents = list(_documents(target, count, settings))
    async with open_mongo(settings) as mongo:
        inbox = Inbox(mongo, settings)
        for first in range(0, count, _AT_ONCE):
            await inbox.insert(documents[first : first + _AT_ONCE])


def _documents(target: str, count: int, settings: Settings) -> Iterator[dict[str, Any]]:
    now_ms, step_us = time.time_ns() // 1_000_000, _SPREAD_US // count
    first = now_ms * 1_000 - step_us * count
    for number in range(1, count + 1):
        seq = first + (number - 1) * step_us
        yield make_document(
            target=target,
            message_id=f"missed-{number}",
            place=(seq - step_us, seq),
            frame=build_frame(target, seq, f"missed-{number}", seq // 1_000, _body(number)),
            carried=(),
            now_ms=now_ms - 3_600_000,  # long enough ago for recovery to leave them alone
            shard=0,
            expires_ms=now_ms + int(settings.retention_s * 1_000),
        )


def _body(number: int) -> str:
    return f'"body":{stamped(body_text(), number)}'
