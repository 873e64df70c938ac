"""The operation that appends, and who answers it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.append.answers import (
    Appended,
    ItemResult,
    Outcome,
    Results,
    StoredFor,
    answer_many,
    answer_one,
    conflict,
    status_of,
)
from router.api.append.appender import Appender
from router.api.append.reading import read_items, read_key
from router.api.append.schema import IdempotencyKey, NewMessage, NewMessages
from router.api.append.waiting import Waiting
from router.api.bounds import Room, Take
from router.api.prefer import read_wait
from router.http.media import check_json
from router.http.operations import JSON, Answer, AnyOf, Body, Operation, Parameter
from router.http.problems import Problem, document_of, read_body
from router.inbox import Inbox
from router.settings import Settings

_APPENDED: Final = Appended("order-4711", ("user:alice",), "1795360470695-0", "push:{0}:in")
_STORED: Final = Appended(
    "order-4711", ("user:alice",), "1795360470695-0", "push:{0}:in", stored=(StoredFor("user:alice", 1795360470698378),)
)
_RESULTS: Final = Results(
    (
        ItemResult("order-4711", ("user:alice",), "1795360470695-0", "push:{0}:in"),
        ItemResult("order-4712", ("user:bob",), problem=document_of(conflict())),
    )
)
_APPLIED: Final = {"Preference-Applied": "The wait that was applied, as `wait=5`."}

POST_MESSAGES: Final = Operation(
    id="append_messages",
    method="POST",
    path="/v1/messages",
    scope="send",
    summary="Append messages",
    description="Appends one message, or an array of them in its order, each with a result of its own. 202 says what XADD "
    "would: the message waits to be stored. Whenever an answer is lost, or says 503, repeat the request under the same ids "
    "or the same `Idempotency-Key`.",
    parameters=(
        Parameter(
            "Idempotency-Key",
            "header",
            IdempotencyKey,
            "The id of a message that has none; of an array, `<key>-<place>` with the item's place from 0.",
            example='"8e03978e-40d5"',
        ),
        Parameter("Prefer", "header", str, "`wait=N`: answer when all is stored, or after N seconds.", example="wait=5"),
    ),
    body=Body(
        AnyOf((NewMessage, NewMessages)),
        "A message, or an array of at most 10,000 (`api_messages_max`).",
        example={"to": "user:alice", "body": {"text": "hello"}, "id": "order-4711"},
    ),
    answers=(
        Answer(HTTPStatus.ACCEPTED, AnyOf((Appended, Results)), "Appended.", example=_APPENDED, headers=_APPLIED),
        Answer(HTTPStatus.CREATED, AnyOf((Appended, Results)), "Appended and stored.", example=_STORED, headers=_APPLIED),
        Answer(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            Results,
            "Nothing of an array was appended. (A single message that became a dead letter while its storing was awaited is "
            "told of in a problem document with this status.)",
            example=_RESULTS,
        ),
    ),
    problems={
        HTTPStatus.BAD_REQUEST: "The request is not JSON, or a single message breaks a rule.",
        HTTPStatus.CONFLICT: "A single message has the id of another one.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request is too long, or has too many messages.",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The request does not say that it is JSON, or is compressed.",
        HTTPStatus.SERVICE_UNAVAILABLE: "Too much waits to be stored or is in hand, Redis is away or full, or MongoDB cannot "
        "be asked about an id. `Retry-After` says when to try again.",
    },
)


class Append:
    """Answers POST /v1/messages.

    Args:
        redis: where the streams are.
        inbox: what is stored.
        settings: the limits.
    """

    def __init__(self, redis: Redis, inbox: Inbox, settings: Settings) -> None:
        self._appender = Appender(redis, inbox, settings)
        self._waiting = Waiting(redis, inbox, settings)
        self._settings = settings
        self._room = Room(settings.api_in_hand_max_bytes, "bytes of requests to append")

    async def post(self, request: Request) -> Response:
        """Append what a request says; each item of an array for itself.

        Raises:
            Problem, RuleBroken: when nothing is appended of it, or nothing comes of it.
        """
        check_json(request)
        key = read_key(request.headers.get("idempotency-key"))
        wait_s = read_wait(request.headers.getlist("prefer"), self._settings.api_wait_max_s)
        with self._room.share() as take:
            items, many = read_items(await self._read(request, take), self._settings.api_messages_max)
            outcomes = await self._appender.append(items, many=many, key=key)
            if wait_s:
                await self._waiting.wait(outcomes, wait_s)
            return _respond(outcomes, many=many, wait_s=wait_s)

    async def _read(self, request: Request, take: Take) -> bytes:
        most = self._settings.api_request_max_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {most} bytes")
        return await read_body(request, most, take)


def _respond(outcomes: Sequence[Outcome], *, many: bool, wait_s: int) -> Response:
    answer = answer_many(outcomes) if many else answer_one(outcomes[0])
    status = status_of(outcomes, waited=wait_s > 0)
    headers = {"preference-applied": f"wait={wait_s}"} if wait_s else None
    return Response(msgspec.json.encode(answer), status, headers=headers, media_type=JSON)
