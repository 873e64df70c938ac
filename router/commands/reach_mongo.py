"""Reaching MongoDB on behalf of a person; apart from `router.commands.reach`, whose commands need not load the driver."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, PyMongoError

from router.commands.reach import ADVICE, NotReached
from router.mongo_client import open_mongo
from router.settings import Settings
from router.tls.trust import why_untrusted

_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


@asynccontextmanager
async def mongo_at_hand(settings: Settings) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """Yield a client for the MongoDB in the settings.

    Raises:
        NotReached: when it cannot be asked, now or later in the block.
    """
    try:
        async with open_mongo(settings) as client:
            # The first thing that is read depends on what kind of server it is: see `router.mongo_client.confirmed`.
            await client.admin.command("ping")
            yield client
    except PyMongoError as exc:
        raise NotReached(explain(exc, settings)) from exc


def explain(exc: PyMongoError, settings: Settings) -> str:
    """Return what is the matter, and what to do about it."""
    where = f"MongoDB at {_server_name(settings)}"
    if not isinstance(exc, ConnectionFailure):
        return f"{where} refused: {exc}"
    if untrusted := why_untrusted(exc, "mongo_ca_file"):
        return f"{where} is not to be trusted ({untrusted}; set by mongo_url)"
    # The driver's text repeats the address, and goes on with its own settings and the state of every server it knows.
    found = _ERRNO.search(str(exc))
    cause = os.strerror(int(found[1])) if found else "no answer in time"
    return f"{where} cannot be reached ({cause}; set by mongo_url): {ADVICE}"


def _server_name(settings: Settings) -> str:
    """Return where MongoDB is, for people: without user, password and options."""
    return settings.mongo_url.partition("://")[2].partition("/")[0].rpartition("@")[2]
