"""router.api.users: how many people are erased at once."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest
from starlette.requests import Request

from router.api import users
from router.http.problems import Problem
from router.settings import Settings

pytestmark = pytest.mark.anyio


class _Forgetting:
    """Takes until it is cut off."""

    def __init__(self, *_args: object) -> None: ...

    async def run(self) -> None:
        """Never end."""
        await anyio.sleep_forever()


def _request(user: str) -> Request:
    return Request({"type": "http", "path_params": {"user": user}})


async def test_too_many_who_wait_to_be_erased_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may wait do; the next has 503 at once, until one of them is through."""
    monkeypatch.setattr(users, "Forgetting", _Forgetting)
    nothing = cast("Any", None)
    served = users.Users(nothing, nothing, nothing, nothing, nothing, Settings(api_forgets_max=users.FORGETTING_MAX + 1))
    async with anyio.create_task_group() as tasks:
        for number in range(users.FORGETTING_MAX + 1):
            tasks.start_soon(served.delete, _request(f"u{number}"))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(Problem) as caught:
            await served.delete(_request("last"))
        assert (caught.value.status_code, "retry-after" in (caught.value.headers or {})) == (503, True)
        tasks.cancel_scope.cancel()
    with anyio.move_on_after(0) as again:
        await served.delete(_request("last"))
    assert again.cancelled_caught
