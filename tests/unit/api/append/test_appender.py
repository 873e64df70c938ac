"""router.api.append.appender over a fake Redis: arrays of good and bad items in any mixture."""

from __future__ import annotations

import json
from typing import Any, cast

import anyio
import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.api.append.answers import Outcome, answer_many
from router.api.append.appender import Appender
from router.api.append.reading import read_items
from router.errors import RuleBroken
from router.http.problems import Problem
from router.keys import Keys
from router.settings import Settings
from tests.collecting import MemoryInbox

SHARDS = 3
SETTINGS = Settings(shards=SHARDS)

_targets = st.sampled_from(["user:a", "user:b", "user:c", "topic:t", "all"])
_good = st.fixed_dictionaries(
    {"to": _targets | st.lists(_targets, min_size=1, max_size=3), "body": st.integers(0, 3)},
    optional={"id": st.sampled_from(["m1", "m2", "m3"]), "transient": st.booleans(), "ttl": st.just(60)},
)
_bad = st.sampled_from([5, {}, {"to": "alice", "body": 1}, {"to": "all", "body": 1, "ttl": "60"}, [1], {"to": "all", "tll": 1}])


async def _append(items: list[object], key: str | None) -> tuple[list[Outcome], Any]:
    redis: Any = fakeredis.FakeAsyncRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,)))
    async with redis:
        raws, many = read_items(json.dumps(items).encode(), 1_000)
        outcomes = await Appender(redis, cast("Any", MemoryInbox()), SETTINGS).append(raws, many=many, key=key)
        streams = [getattr(Keys(SETTINGS.prefix, shard), lane)() for shard in range(SHARDS) for lane in ("intake", "fast")]
        return outcomes, {stream: await redis.xrange(stream) for stream in streams}


def _breaks_a_rule(item: object, key: str | None) -> bool:
    if not isinstance(item, dict) or "body" not in item or item["to"] == "alice" or item.get("ttl") == "60":
        return True
    return key is not None and item.get("id", key) != key


@settings(max_examples=60, deadline=None)
@given(st.lists(_good | _bad, min_size=1, max_size=12), st.none() | st.just("k"))
def test_each_item_has_what_it_deserves(items: list[object], key: str | None) -> None:
    """A result each, in order; whatever is good stands in its streams once a lane's entry, in the order of the array."""
    outcomes, streams = anyio.run(_append, items, key)
    results = answer_many(outcomes).results
    assert len(results) == len(items)
    contents: dict[str, object] = {}
    for place, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
        problem = outcome.problem
        if _breaks_a_rule(item, None if key is None else f"{key}-{place}"):
            assert isinstance(problem, RuleBroken)
        elif isinstance(problem, Problem):
            assert (problem.status_code, outcome.posted and outcome.posted.named) == (409, True)
        else:
            assert outcome.posted is not None
            assert outcome.entry.encode() in [entry_id for entry_id, _ in streams[outcome.stream]]
            if isinstance(item, dict) and "id" in item and not outcome.posted.transient:
                for target in outcome.posted.targets:
                    assert contents.setdefault(f"{target} {item['id']}", item["body"]) == item["body"]
    for stream, found in streams.items():
        mine = [one.entry.encode() for one in outcomes if one.stream == stream and not one.problem]
        positions = [[entry_id for entry_id, _ in found].index(one) for one in mine]
        assert positions == sorted(positions)
        if stream.endswith(":in"):
            assert len(found) == len(mine)


def test_more_targets_than_a_request_may_have() -> None:
    """413, and nothing of it is appended: to look them all up would take too long."""
    most = Settings().api_targets_max
    items: list[object] = [
        {"to": [f"user:{number}" for number in range(most // 2)], "text": "x", "id": f"{n}"} for n in range(2)
    ]
    outcomes, _ = anyio.run(_append, items, None)
    assert all(outcome.entry for outcome in outcomes)
    with pytest.raises(Problem) as caught:
        anyio.run(_append, [*items, {"to": "all", "text": "x"}], None)
    assert (caught.value.status_code, caught.value.field) == (413, "to")
