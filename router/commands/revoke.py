"""`pushway revoke`."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final

import anyio
import jwt
import typer

from router.auth.foreign import expiry
from router.commands.options import AsJson, FoundConfig, check_name, people_settings
from router.commands.output import print_json
from router.commands.reach import redis_at_hand
from router.commands.reach_mongo import mongo_at_hand
from router.errors import RuleBroken, TokenRefused
from router.revocation import Revocation, of_all, of_jti, of_token, of_user
from router.revoke import revoke as revoke_now
from router.revoked import Revoked
from router.settings import Settings
from router.targets import is_id

STANDARD_INPUT: Final = "-"


def revoke(
    user: Annotated[str | None, typer.Argument(help="All tokens of this user.")] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help="This token; - reads it from standard input.")
    ] = None,
    jti: Annotated[str | None, typer.Option("--jti", help="The token with this id.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="All tokens of everybody.")] = False,
    before: Annotated[
        int | None,
        typer.Option("--before", metavar="SECONDS", help="Only what was issued before, in Unix seconds; with USER or --all."),
    ] = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Call tokens back: a user's, a single one, or everybody's; their sessions end within a second.

    It writes to MongoDB and tells the edges, whoever issues the tokens. Clients of a user, or with --all, do not come back by
    themselves; that of a single token fetches another first. A token that is issued from now on is good.

    Example: pushway revoke alice
    """
    settings = people_settings(config)
    wanted = _wanted(settings, (user, token, jti, everybody), before)
    nodes = anyio.run(_revoke, settings, wanted)
    if as_json:
        print_json({"id": wanted.id, "before": wanted.before, "nodes": nodes})
    else:
        typer.echo("\n".join(nodes) if nodes else "written; no edge runs that could be told")


async def _revoke(settings: Settings, wanted: Revocation) -> list[str]:
    async with redis_at_hand(settings) as redis, mongo_at_hand(settings) as mongo:
        return await revoke_now(redis, Revoked(mongo, settings), settings, wanted)


def _wanted(settings: Settings, named: tuple[str | None, str | None, str | None, bool], before: int | None) -> Revocation:
    user, token, jti, everybody = named
    if sum(one is not None for one in (user, token, jti)) + everybody != 1:
        raise RuleBroken("USER", "exactly one of USER, --token, --jti and --all is expected")
    if before is not None and user is None and not everybody:
        raise RuleBroken("--before", "a single token is revoked whenever it was issued: it goes with USER or --all")
    now_s = time.time()
    if user is not None:
        check_name(user, "USER")
        return of_user(user, settings, now_s, before)
    if jti is not None:
        return of_jti(jti, settings, now_s)
    if token is not None:
        return _of_token(sys.stdin.read().strip() if token == STANDARD_INPUT else token, settings, now_s)
    return of_all(settings, now_s, before)


def _of_token(token: str, settings: Settings, now_s: float) -> Revocation:
    """Return the revocation of a token as it calls itself: who runs this may revoke any id, so nobody need have signed it."""
    try:
        said: dict[str, Any] = jwt.decode(token, options={"verify_signature": False, "verify_exp": False, "verify_aud": False})
        ends = expiry(said.get("exp"))
    except (jwt.PyJWTError, TokenRefused, RecursionError, ValueError) as exc:
        raise RuleBroken("--token", "this is no JSON Web Token with an end, so it has no id: revoke its user") from exc
    jti, user = said.get("jti", ""), said.get(settings.jwt_user_claim)
    whose = user if isinstance(user, str) and is_id(user) else ""
    return of_token(jti if isinstance(jti, str) else "", whose, ends, settings, now_s)
