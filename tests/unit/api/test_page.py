"""router.api.page: under which names it answers."""

from __future__ import annotations

from typing import cast

import httpx
import pytest
from starlette.applications import Starlette

from router.api.append.post import Append
from router.api.page import Page
from router.settings import Settings


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:8000", 200), ("evil.example", 403), ("[", 403), ("[::1", 403)],
)
async def test_only_a_name_of_this_machine_is_answered(host: str, status: int) -> None:
    """Whatever else stands in the place of one is refused, be it a name at all or not."""
    # Nothing is appended.
    page = Page(cast(Append, None), Settings())
    app = httpx.ASGITransport(Starlette(routes=page.routes))
    async with httpx.AsyncClient(transport=app, base_url="http://api") as client:
        assert (await client.get("/page/places", headers={"host": host})).status_code == status
