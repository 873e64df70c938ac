"""The service that an edge asks who somebody is leads it elsewhere, or says more than an answer, for an attacker's tokens."""

from __future__ import annotations

from typing import Any, Final

import anyio

from tests.attacks.target import Attack, Target

A_SECOND: Final = 100


async def run(target: Target, until: anyio.Event) -> None:
    """Come with tokens that the service answers so. Whoever is let in got in."""

    async def one() -> None:
        with await target.peer() as peer:
            await peer.upgrade(token=target.token())
            target.note(await peer.ending(heard=judge))

    def judge(said: dict[str, Any]) -> None:
        if said["type"] == "welcome":
            target.got_in(f"as {said['user']}")

    await target.flood(A_SECOND, one, until)


ATTACK: Final = Attack(
    name="callback-answers",
    about=f"{A_SECOND} connects a second that `auth_callback_url` answers with redirects, bad ids, compressed, or with 10 MB",
    limits=("auth_callback_calls_max", "auth_callback_failures_max", "auth_timeout_s"),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4500"}),
    counted=("pushway_auth_callbacks_total",),
    memory_mib=32.0,
    because="256 KiB of an answer, of those that are asked for at a time",
    reached=("4001", "4500"),
    callback=True,
)
