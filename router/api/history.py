"""What is stored for a user, a topic or everybody, a page at a time.

Frames go out as they were stored, byte for byte: what a client of the API reads is what devices get in a replay.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from router.api.addresses import SEQ_MAX, TOPIC, USER, Seq, read_number, topic_of, user_of
from router.api.openapi import AWAY
from router.http.operations import JSON, Answer, Id, Operation, Parameter
from router.inbox import Inbox
from router.targets import ALL, TOPIC_PREFIX, USER_PREFIX

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1_000
"""Most messages in a page."""

PAGE_MAX_BYTES: Final = 4_194_304
"""A page ends behind the message that takes it past this, however many were asked for."""


class MessageFrame(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """A message as devices get it; either `body` or `text` is there."""

    to: str
    seq: Seq
    id: Id
    ts: Annotated[int, msgspec.Meta(description="When it was appended, Unix ms.")]
    body: Any | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET


class UserMessages(msgspec.Struct, frozen=True):
    """Some of a user's messages, by seq. `next` is what to give as `after` for those behind; null when there are none."""

    user: Id
    messages: tuple[MessageFrame, ...]
    next: Seq | None


class TopicMessages(msgspec.Struct, frozen=True):
    """Some of a topic's messages, by seq; `next` as of a user's."""

    topic: Id
    messages: tuple[MessageFrame, ...]
    next: Seq | None


class AllMessages(msgspec.Struct, frozen=True):
    """Some of the messages to everybody, by seq; `next` as of a user's."""

    messages: tuple[MessageFrame, ...]
    next: Seq | None


_SEQ: Final = 1795360470698378
_HELLO: Final = MessageFrame("user:alice", _SEQ, "order-4711", 1795360470695, body={"text": "hello"})
_NEWS: Final = MessageFrame("topic:news", _SEQ, "news-17", 1795360470695, body={"text": "hello"})
_NOTICE: Final = MessageFrame("all", _SEQ, "notice-3", 1795360470695, text="hello")

_PAGE: Final = (
    Parameter("after", "query", Seq, "The seq to begin behind; 0 for all that is stored.", example=0),
    Parameter(
        "limit",
        "query",
        Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)],
        f"Most messages in the answer; {PAGE_DEFAULT} unless given. It ends earlier behind {PAGE_MAX_BYTES:,} bytes.",
        example=PAGE_DEFAULT,
    ),
)
_GO_ON: Final = (
    "A page may hold fewer than `limit`, even none, and not be the last: go on with `after` = `next` until that is null."
)

GET_USER_MESSAGES: Final = Operation(
    id="get_user_messages",
    method="GET",
    path="/v1/users/{user}/messages",
    scope="read",
    summary="What is stored for a user",
    description=f"The user's own messages whose time is not over, by seq, as the devices get them. {_GO_ON}",
    parameters=(USER, *_PAGE),
    answers=(Answer(HTTPStatus.OK, UserMessages, "A page.", example=UserMessages("alice", (_HELLO,), next=_SEQ)),),
    problems=AWAY,
)

GET_TOPIC_MESSAGES: Final = Operation(
    id="get_topic_messages",
    method="GET",
    path="/v1/topics/{topic}/messages",
    scope="read",
    summary="What is stored for a topic",
    description=f"The topic's messages whose time is not over, by seq, as who has subscribed gets them. {_GO_ON}",
    parameters=(TOPIC, *_PAGE),
    answers=(Answer(HTTPStatus.OK, TopicMessages, "A page.", example=TopicMessages("news", (_NEWS,), next=_SEQ)),),
    problems=AWAY,
)

GET_ALL_MESSAGES: Final = Operation(
    id="get_all_messages",
    method="GET",
    path="/v1/all/messages",
    scope="read",
    summary="What is stored for everybody",
    description=f"The messages to `all` whose time is not over, by seq, as everybody gets them. {_GO_ON}",
    parameters=_PAGE,
    answers=(Answer(HTTPStatus.OK, AllMessages, "A page.", example=AllMessages((_NOTICE,), next=_SEQ)),),
    problems=AWAY,
)


class History:
    """Answers for what is stored.

    Args:
        inbox: where it is.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def of_user(self, request: Request) -> Response:
        """Give a page of what is stored for a user.

        Raises:
            RuleBroken: when the id is none.
            Problem: 400 when `after` or `limit` is no such number.
            PyMongoError: in an outage.
        """
        user = user_of(request)
        return await self._page(request, USER_PREFIX + user, {"user": user})

    async def of_topic(self, request: Request) -> Response:
        """Give a page of what is stored for a topic; raises what `of_user` does."""
        topic = topic_of(request)
        return await self._page(request, TOPIC_PREFIX + topic, {"topic": topic})

    async def of_all(self, request: Request) -> Response:
        """Give a page of what is stored for everybody; raises what `of_user` does."""
        return await self._page(request, ALL, {})

    async def _page(self, request: Request, target: str, whose: dict[str, str]) -> Response:
        after = read_number(request, "after", default=0, least=0, most=SEQ_MAX)
        limit = read_number(request, "limit", default=PAGE_DEFAULT, least=1, most=PAGE_MAX)
        page = await self._inbox.page(target, after, SEQ_MAX, limit, PAGE_MAX_BYTES)
        # The frames are JSON already.
        frames = [msgspec.Raw(frame) for _, frame in page.messages]
        answer = {**whose, "messages": frames, "next": None if page.whole else page.reached}
        return Response(msgspec.json.encode(answer), media_type=JSON)
