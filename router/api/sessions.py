"""DELETE /v1/users/{user}/sessions: the end of a user's sessions, or of one device's, with a close code."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

import msgspec
import structlog
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.addresses import USER, read_number, user_of
from router.api.openapi import AWAY
from router.http.operations import JSON, Answer, Id, Operation, Parameter
from router.kick import CODE_MAX, CODE_MIN, KICKED, REASON, REASON_MAX_BYTES, Kick, check_kick, kick
from router.settings import Settings

log = structlog.get_logger(__name__)


class KickedState(msgspec.Struct, frozen=True):
    """The nodes that were told to close the user's sessions."""

    user: Id
    nodes: tuple[Id, ...]


_PLAIN: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"

DELETE_SESSIONS: Final = Operation(
    id="delete_user_sessions",
    method="DELETE",
    path="/v1/users/{user}/sessions",
    scope="manage",
    summary="End a user's sessions",
    description="Has every node that holds the user close the user's sessions, all or those of a device, with a close code. "
    f"Clients do not come back by themselves from one of 4500 to 4999, which {KICKED} is. A session that is connecting at this "
    "moment may slip through, and a token is still good: to keep a user out, give out no more tokens, and end the sessions "
    "when the last has expired.",
    parameters=(
        USER,
        Parameter(
            "code",
            "query",
            Annotated[int, msgspec.Meta(ge=CODE_MIN, le=CODE_MAX)],
            f"The close code; {KICKED} unless given.",
            example=KICKED,
        ),
        Parameter(
            "reason",
            "query",
            Annotated[str, msgspec.Meta(max_length=REASON_MAX_BYTES, pattern=_PLAIN)],
            f"What the close frame says: at most {REASON_MAX_BYTES} bytes of UTF-8 without a control character.",
            example="signed out elsewhere",
        ),
        Parameter("device", "query", Id, "Only sessions of this device."),
        Parameter("session", "query", Id, "Only this session, by the `session` of its welcome."),
    ),
    answers=(
        Answer(
            HTTPStatus.ACCEPTED,
            KickedState,
            "The nodes were told; none where the user is not online.",
            example=KickedState("alice", ("edge-1.k3f9x0",)),
        ),
    ),
    problems=AWAY,
)


class Sessions:
    """Answers for sessions.

    Args:
        redis: where routes are.
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    async def delete(self, request: Request) -> Response:
        """Have sessions of a user closed.

        Raises:
            RuleBroken: when an id is none, or the reason is no such text.
            Problem: 400 when the code is no such number.
            RedisError: in an outage; it is unknown which nodes were told.
        """
        wanted = _read(request)
        nodes = await kick(self._redis, self._settings, wanted)
        log.info("user_kicked", user=wanted.user, nodes=len(nodes), code=wanted.code, device=wanted.device)
        return Response(msgspec.json.encode(KickedState(wanted.user, tuple(nodes))), HTTPStatus.ACCEPTED, media_type=JSON)


def _read(request: Request) -> Kick:
    query = request.query_params
    return check_kick(
        Kick(
            user=user_of(request),
            code=read_number(request, "code", default=KICKED, least=CODE_MIN, most=CODE_MAX),
            reason=query.get("reason", REASON),
            device=query.get("device"),
            session=query.get("session"),
        )
    )
