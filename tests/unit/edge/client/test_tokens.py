"""edge.client.tokens: a token, or that there is none now."""

from __future__ import annotations

import anyio
import pytest

from edge.client.tokens import TokenMissing, ask

pytestmark = pytest.mark.anyio


async def test_a_token_that_is_there() -> None:
    """As the application gives it."""

    async def source() -> str:
        return "token"

    assert await ask(source, 60) == "token"


async def test_none_is_asked_for_again() -> None:
    """Whether the source cannot reach who gives it, has an empty one, or takes too long: no edge is to refuse it for good."""

    async def away() -> str:
        raise ConnectionRefusedError("auth is away")

    async def empty() -> str:
        return ""

    async def slow() -> str:
        await anyio.sleep_forever()
        return "token"

    for source, timeout_s, said in ((away, 60, "auth is away"), (empty, 60, "is empty"), (slow, 0.01, "none came within")):
        with pytest.raises(TokenMissing, match=said):
            await ask(source, timeout_s)
