"""A message's life, told by the whole system: send --trace, trace, and GET /v1/messages/{id}."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import TaskStatus
from websockets.asyncio.client import connect

from edge.client import SUBPROTOCOL
from router.shards import shard_of_id
from tests.e2e.command_line import TIMEOUT_S, run
from tests.servers import wait_until
from tests.stack import API_KEY, Stack

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, two shards and two edges, with cursors that are written soon."""
    settings = {"shards": 2, "cursor_flush_s": 0.05, "drain_timeout_s": 0.1}
    with Stack(tmp_path_factory.mktemp("stack"), settings=settings) as running:
        yield running


async def _run(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return await anyio.to_thread.run_sync(partial(run, stack, *words))


def _get(stack: Stack, message_id: str) -> dict[str, Any]:
    settings = stack.settings
    answer = httpx.get(
        f"http://{settings.api_host}:{settings.api_port}/v1/messages/{message_id}",
        headers={"authorization": f"Bearer {API_KEY}"},
        trust_env=False,
    )
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


@asynccontextmanager
async def _device(stack: Stack, user: str, edge: int, device: str, *, acks: bool = True) -> AsyncIterator[str]:
    """Hold a session open that acknowledges all it gets, or nothing; yield the node."""
    token = await anyio.to_thread.run_sync(stack.token, user)

    async def sit(*, task_status: TaskStatus[str]) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{stack.edge_urls[edge]}?device={device}"
        async with connect(url, subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as connection:
            async for raw in connection:
                frame = json.loads(raw)
                if frame["type"] == "welcome":
                    task_status.started(frame["node"])
                elif frame["type"] == "message" and acks and "seq" in frame:
                    await connection.send(json.dumps({"type": "ack", "seq": frame["seq"]}))

    async with anyio.create_task_group() as tasks:
        yield await tasks.start(sit)
        tasks.cancel_scope.cancel()


def _stages(found: dict[str, Any], to: str) -> list[str]:
    return [event["stage"] for event in found["events"] if event["to"] == to]


async def test_waterfall_of_a_message_to_two_users(stack: Stack) -> None:
    """Every stage on both shards, until each session has acknowledged; `trace` shows the same afterwards."""
    async with (
        _device(stack, "ann", 0, "phone") as first,
        _device(stack, "ann", 1, "laptop") as second,
        _device(stack, "dora", 1, "phone") as other,
    ):
        words = ("--id", "order-1", "--trace", "--wait", "20", "--json")
        sent = await _run(stack, "send", "user:ann,user:dora", '{"n":1}', *words)
    assert shard_of_id("ann", stack.settings.shards) != shard_of_id("dora", stack.settings.shards)
    assert (sent.returncode, sent.stderr) == (0, "")
    told = json.loads(sent.stdout)
    assert (told["id"], told["delivered"]) == ("order-1", True)
    assert sorted(_stages(told, "user:ann")) == sorted(
        ["appended", "stored", "dispatched", "delivered", "delivered", "acked", "acked"]
    )
    assert _stages(told, "user:dora") == ["appended", "stored", "dispatched", "delivered", "acked"]
    dispatched = next(one for one in told["events"] if (one["to"], one["stage"]) == ("user:ann", "dispatched"))
    assert sorted(dispatched["nodes"]) == sorted([first, second])
    delivered = {(one["by"], one["device"]) for one in told["events"] if one["stage"] == "delivered"}
    assert delivered == {(first, "phone"), (second, "laptop"), (other, "phone")}

    drawn = await _run(stack, "trace", "order-1")
    assert drawn.returncode == 0
    lines = drawn.stdout.splitlines()
    assert {"order-1 → user:ann", "order-1 → user:dora"} <= set(lines)
    assert len([line for line in lines if line.startswith(("delivered", "acked"))]) == 6
    again = json.loads((await _run(stack, "trace", "order-1", "--json")).stdout)
    assert {tuple(sorted(map(str, one.items()))) for one in again["events"]} == {
        tuple(sorted(map(str, one.items()))) for one in told["events"]
    }


async def test_waterfall_without_a_terminal(stack: Stack) -> None:
    """It is printed once, at the end, behind the entry id; transient messages have no stored stage and no ack."""
    async with _device(stack, "eve", 0, "phone"):
        sent = await _run(stack, "send", "user:eve", "hi", "--text", "--transient", "--trace", "--wait", "20")
    assert (sent.returncode, sent.stderr) == (0, "")
    assert sent.stdout.endswith("\n")
    entry, title, *rows = sent.stdout.splitlines()
    assert entry.replace("-", "").isdigit()
    assert title.startswith("traced-")
    assert title.endswith("→ user:eve")
    assert [row.split()[0] for row in rows] == ["appended", "dispatched", "delivered"]


async def test_nobody_there(stack: Stack) -> None:
    """It ends at once, and says whom it has not reached and why."""
    sent = await _run(stack, "send", "user:nobody", "1", "--id", "nobody-there", "--trace", "--wait", "20")
    assert sent.returncode == 1
    assert "user:nobody: offline: no_route" in sent.stderr
    told = [line.split()[0] for line in sent.stdout.splitlines()[2:]]
    assert (told[0], told[-1]) == ("appended", "offline")
    # Collect tells behind its work, and may not have come to it by then.
    with anyio.fail_after(TIMEOUT_S):
        while "stored" not in (
            stages := _stages(json.loads((await _run(stack, "trace", "nobody-there", "--json")).stdout), "user:nobody")
        ):
            pass
    assert stages == ["appended", "stored", "offline"]


async def test_replayed_to_who_comes_back(stack: Stack) -> None:
    """What a device missed is told as replayed, then as acknowledged."""
    async with _device(stack, "finn", 0, "phone"):
        pass
    await _run(stack, "send", "user:finn", "1", "--id", "missed", "--trace", "--wait", "5")
    async with _device(stack, "finn", 1, "phone") as node:
        with anyio.fail_after(TIMEOUT_S):
            while "acked" not in (
                stages := _stages(json.loads((await _run(stack, "trace", "missed", "--json")).stdout), "user:finn")
            ):
                pass
    assert stages[-2:] == ["replayed", "acked"]
    assert node


async def test_get_tells_who_has_acknowledged(stack: Stack) -> None:
    """Devices that have, and that have not; with the events of the trace."""
    async with _device(stack, "gwen", 0, "phone"), _device(stack, "gwen", 1, "tablet", acks=False):
        sent = await _run(stack, "send", "user:gwen", "1", "--id", "read-it", "--trace", "--wait", "20")
        assert sent.returncode == 0, sent.stderr
        wait_until(lambda: bool(_get(stack, "read-it")["targets"][0]["acked"]), "the ack is in MongoDB")
    found = _get(stack, "read-it")
    (target,) = found["targets"]
    assert (target["to"], target["state"]) == ("user:gwen", "stored")
    assert [one["device"] for one in target["acked"]] == ["phone"]
    assert [one["device"] for one in target["not_acked"]] == ["tablet"]
    assert [event["stage"] for event in found["trace"]] == [
        "appended", "stored", "dispatched", "delivered", "delivered", "acked",
    ]  # fmt: skip


async def test_no_trace_is_explained(stack: Stack) -> None:
    """One line that says why there may be none, and a failure; with --json an empty list before it."""
    await _run(stack, "send", "user:nobody", "1", "--id", "untraced")
    drawn = await _run(stack, "trace", "untraced")
    assert (drawn.returncode, drawn.stdout) == (1, "")
    assert "there is no trace event of untraced: it was sent without a trace" in drawn.stderr
    entry = await _run(stack, "trace", "1795385175438-0")
    assert "which looks like what XADD returned" in entry.stderr
    assert json.loads((await _run(stack, "trace", "untraced", "--json")).stdout) == {"id": "untraced", "events": []}
