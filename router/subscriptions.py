"""Standing subscriptions: the topics that a user's sessions hear because a back end says so.

MongoDB's `subscriptions`, one document for each user that has any:

    _id         the user
    topics      names, in the order in which they were added
    updated_at  when somebody last added or removed one, or said again what stands

A write is durable before anybody is told of it. Then the nodes that hold the user are (`router.notices`):

    topics - - - {"user":"alice"}                          read what stands anew (`edge.standing`)
    unsubscribed - - - {"user":"alice","topic":"news"}     end that topic in all of the user's sessions, whoever asked for it

Who is told only looks again, so that it does not matter in which order the notices of two back ends come. A session that begins
beside the write either stands in a route, and its edge is told, or reads what was written. An edge that hears nothing at that
moment reads all of its users anew as soon as it hears again.

Both calls may be repeated: then nothing is changed, and everybody is told once more.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError
from redis.asyncio import Redis

from router.errors import PushwayError, RuleBroken
from router.mongo_client import cancelled_once, confirmed, durable_collection, timed
from router.notices import notice, tell_nodes
from router.redis_client import OUTAGE
from router.settings import Settings
from router.targets import is_id

READ_ANEW: Final = "topics"
"""The word of the notice that what stands for a user may have changed."""

END: Final = "unsubscribed"
"""The word of the notice that a topic ends in all sessions of a user."""

_TRIES: Final = 16
"""How often a write is tried that others of the same user get in the way of. Each time one of those has gone through."""


class TooManyTopics(RuleBroken):
    """A user has as many standing subscriptions as one may have."""


class NotTold(PushwayError):
    """What was asked for is written, and holds for every session to come; the sessions that are there may not know of it."""


class Subscriptions:
    """The standing subscriptions of one database. Users and topics have been checked."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], settings: Settings) -> None:
        self._documents = durable_collection(client, settings, "subscriptions")
        self._user_max = settings.subscriptions_user_max

    @timed("subscriptions_add")
    @cancelled_once
    async def add(self, user: str, topic: str) -> bool:
        """Add a topic to a user's, durably; False when it stands there already, as durably.

        Raises:
            TooManyTopics: when the user has as many as one may have.
            PyMongoError: when it is unknown whether it stands; add it again.
        """
        room = {"_id": user, "topics": {"$ne": topic}, f"topics.{self._user_max - 1}": {"$exists": False}}
        for _ in range(_TRIES):
            try:
                await self._documents.update_one(room, {"$push": {"topics": topic}, **_now()}, upsert=True)
            except DuplicateKeyError:
                # The document is there, and the topic in it, or no room for one; or somebody else was faster to make it.
                # A write of who said the same before may not be durable yet, and this one is not before that is.
                if (await self._documents.update_one({"_id": user, "topics": topic}, _now())).matched_count:
                    return False
                if len(await self._read(user)) >= self._user_max:
                    raise self._too_many(user) from None
            else:
                return True
        raise self._too_many(user)

    @timed("subscriptions_remove")
    @cancelled_once
    async def remove(self, user: str, topic: str) -> bool:
        """Remove a topic from a user's, durably; False when it did not stand there.

        Raises:
            PyMongoError: when it is unknown whether it stands; remove it again.
        """
        done = await self._documents.update_one({"_id": user, "topics": topic}, {"$pull": {"topics": topic}, **_now()})
        # A user without any has no document, and costs whoever asks next to nothing. Asked too where nothing was changed: it is
        # answered when all before it is durable, the removal of who said the same before among it.
        await self._documents.delete_one({"_id": user, "topics": {"$size": 0}})
        return done.matched_count > 0

    @timed("subscriptions_find")
    @cancelled_once
    async def topics_of(self, user: str) -> list[str]:
        """Return the topics of a user, in the order in which they were added.

        Raises:
            PyMongoError: when MongoDB cannot be asked.
        """
        return await self._read(user)

    @timed("subscriptions_has_any")
    @cancelled_once
    async def has_any(self) -> bool:
        """Tell whether anything stands for anybody.

        Raises:
            PyMongoError: when MongoDB cannot be asked.
        """
        return await confirmed(self._documents).find_one({}, {"_id": 1}) is not None

    @timed("subscriptions_find_many")
    @cancelled_once
    async def topics_of_many(self, users: Collection[str]) -> dict[str, list[str]]:
        """Return the topics of those of the users that have any, by one query.

        Raises:
            PyMongoError: when MongoDB cannot be asked.
        """
        documents = confirmed(self._documents)
        found = documents.find({"_id": {"$in": list(users)}}, {"topics": 1}, batch_size=len(users) + 1)
        return {document["_id"]: topics async for document in found if (topics := _topics_in(document))}

    @cancelled_once
    async def forget(self, user: str) -> int:
        """Remove all of a user, durably, and return how many topics those were.

        Raises:
            PyMongoError: when it is unknown what is gone; forget again.
        """
        count = len(await self._read(user))
        await self._documents.delete_one({"_id": user})
        return count

    async def _read(self, user: str) -> list[str]:
        return _topics_in(await confirmed(self._documents).find_one({"_id": user}, {"topics": 1}))

    def _too_many(self, user: str) -> TooManyTopics:
        most = f"{self._user_max} standing subscriptions (subscriptions_user_max)"
        return TooManyTopics("topic", f"{user} has {most} already: remove one first, or have the client subscribe")


async def subscribe(redis: Redis, subscriptions: Subscriptions, settings: Settings, user: str, topic: str) -> bool:
    """Have every session of a user, now and to come, hear a topic; return whether that is new. May be repeated.

    Args:
        redis: where the routes are.
        subscriptions: where it is written.
        settings: prefix and shards.
        user: checked.
        topic: checked.

    Raises:
        TooManyTopics: when the user has as many as one may have; nothing is written.
        PyMongoError: when it is unknown whether it is written; repeat it.
        NotTold: when it is written, and it is unknown who was told; repeat it.
    """
    new = await subscriptions.add(user, topic)
    await _tell(redis, settings, user, notice(READ_ANEW, {"user": user}))
    return new


async def unsubscribe(redis: Redis, subscriptions: Subscriptions, settings: Settings, user: str, topic: str) -> bool:
    """End a topic for a user: in all sessions, who asked for it themselves too; return whether it stood. May be repeated.

    Raises:
        PyMongoError: when it is unknown whether it is written; repeat it.
        NotTold: when it is written, and it is unknown who was told; repeat it.
    """
    stood = await subscriptions.remove(user, topic)
    await _tell(redis, settings, user, notice(END, {"user": user, "topic": topic}), notice(READ_ANEW, {"user": user}))
    return stood


async def _tell(redis: Redis, settings: Settings, user: str, *lines: str) -> None:
    try:
        await tell_nodes(redis, settings, user, *lines)
    except OUTAGE as exc:
        raise NotTold(f"it is written, but the edges that hold {user} could not be told: repeat it ({exc})") from exc


def _now() -> dict[str, Any]:
    return {"$set": {"updated_at": datetime.now(UTC)}}


def _topics_in(document: dict[str, Any] | None) -> list[str]:
    """Return the topics in a document; one that somebody has spoilt has none."""
    topics = document.get("topics") if document else None
    return [topic for topic in topics if isinstance(topic, str) and is_id(topic)] if isinstance(topics, list) else []
