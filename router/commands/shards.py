"""`pushway shards`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import anyio
import typer

from router.cluster_redis import ClusterRedis
from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import duration, print_columns, print_json
from router.commands.reach import redis_at_hand
from router.errors import RuleBroken
from router.redis_url import Address
from router.settings import Settings
from router.shard_states import ShardState, read_shards
from router.slot_plan import Move, SlotRange, commands_of, even_moves, even_ranges

_NOTHING = "-"
_TITLES = ("SHARD", "SLOT", "PRIMARY", "COLLECT", "DISPATCH", "IN", "OUT", "FAST", "OLDEST", "PENDING")


def shards(
    config: FoundConfig = None,
    as_json: AsJson = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print how slots should lie, so that shards are even.")] = False,
    primaries: Annotated[int | None, typer.Option(min=1, help="With --plan: for a new Cluster of so many primaries.")] = None,
) -> None:
    """Print the shards: where they are, who works on them, what waits there and for how long.

    Example: pushway shards --plan --primaries 3
    """
    settings = people_settings(config)
    if primaries is not None and not plan:
        raise RuleBroken("--primaries", "goes with --plan")
    if primaries is not None and primaries > settings.shards:
        raise RuleBroken(
            "--primaries", f"is at most {settings.shards}, which is how many shards there are: any more would have none"
        )
    if primaries is not None:
        _print_ranges(even_ranges(settings.shards, primaries), as_json)
    elif plan:
        _print_moves(*anyio.run(_read_plan, settings), as_json)
    else:
        _print_states(anyio.run(_read, settings), as_json)


async def _read(settings: Settings) -> list[ShardState]:
    async with redis_at_hand(settings) as redis:
        return await read_shards(redis, settings)


async def _read_plan(settings: Settings) -> tuple[list[Move], dict[Address, str], bool]:
    async with redis_at_hand(settings) as redis:
        if not isinstance(redis, ClusterRedis):
            raise RuleBroken(
                "--plan", "is for a Redis Cluster (?cluster=true in redis_url), or with --primaries N for one to be made"
            )
        ids = await redis.primary_ids()
        owners = [await redis.primary_of(f"{{{shard}}}") for shard in range(settings.shards)]
        version = str((await redis.info("server")).get("valkey_version", "0"))
    return even_moves(owners, sorted(ids)), ids, int(version.partition(".")[0]) >= 9  # noqa: PLR2004 - as `commands_of` says


def _print_states(states: list[ShardState], as_json: bool) -> None:
    if as_json:
        print_json([_shown(state) for state in states])
    else:
        print_columns(_TITLES, [_row(state) for state in states])


def _shown(state: ShardState) -> dict[str, Any]:
    """Return a state under the names of the keys that people know."""
    told = asdict(state)
    told["in"] = told.pop("intake")
    return told


def _row(state: ShardState) -> tuple[str, ...]:
    place = (str(state.shard), str(state.slot), state.primary or _NOTHING)
    if state.away:
        return (*place, f"away: {state.away}")[: len(_TITLES)] + (_NOTHING,) * (len(_TITLES) - len(place) - 1)
    lanes = (state.intake, state.out, state.fast)
    lengths = tuple(f"{lane.entries:,}" for lane in lanes)
    oldest_s = max(lane.oldest_s for lane in lanes)
    age = duration(oldest_s) if any(lane.entries for lane in lanes) else _NOTHING
    return (*place, state.collect or _NOTHING, state.dispatch or _NOTHING, *lengths, age, str(state.pending))


def _print_ranges(ranges: list[SlotRange], as_json: bool) -> None:
    if as_json:
        print_json(ranges)
        return
    typer.echo("# a new Cluster: these slots in place of those that `redis-cli --cluster create` gives")
    for number, one in enumerate(ranges, 1):
        shards_of_it = ", ".join(map(str, one.shards)) or "none"
        typer.echo(f"redis-cli -h PRIMARY-{number} CLUSTER ADDSLOTSRANGE {one.first} {one.last}    # shards {shards_of_it}")


def _print_moves(moves: list[Move], ids: dict[Address, str], at_once: bool, as_json: bool) -> None:
    if as_json:
        print_json([{**asdict(one), "commands": commands_of(one, ids, at_once=at_once)} for one in moves])
        return
    if not moves:
        typer.echo("each primary has as many shards as another, or one more: nothing is to be moved")
    for one in moves:
        typer.echo(f"# shard {one.shard}: slot {one.slot} from {one.source} to {one.target}")
        for line in commands_of(one, ids, at_once=at_once):
            typer.echo(line)
