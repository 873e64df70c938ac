"""`pushway dead`: looking at dead letters, giving them another try, dropping them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Final

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, confirm, people_settings
from router.commands.output import print_columns, print_json, printable
from router.commands.reach import redis_at_hand
from router.commands.teaching import TaughtCommand, TaughtGroup
from router.commands.times import read_age_s
from router.dead import SOURCES, DeadLetters, Letter, can_be_appended, fields_to_append, name_of, why_dead_again
from router.errors import PushwayError, RuleBroken
from router.settings import Settings

_TO_MAX: Final = 40
_TAKEN: Final = "was taken away by somebody else meanwhile"

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Ids as `dead list` prints them.")]
Source = Annotated[str | None, typer.Option("--source", metavar="in|out|fast", help="Only what came from this stream.")]
All = Annotated[bool, typer.Option("--all", help="All that are there now (with --source: of that one).")]


class NotDone(PushwayError):
    """Some letters are still as they were; the text says how many."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant: these ids, or all, or all of one source."""

    ids: tuple[str, ...]
    source: str | None


def dead() -> None:
    """List dead letters (what no service could accept), append them anew, or drop them.

    Example: pushway dead list --since 1h, and, once the cause is mended: pushway dead retry --all
    """


app = typer.Typer(cls=TaughtGroup, callback=dead, no_args_is_help=True, add_completion=False)


@app.command("list", cls=TaughtCommand)
def list_(
    source: Source = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 20,
    since: Annotated[str | None, typer.Option(metavar="AGE", help="Only what died within this time: 90s, 10m, 2h, 7d.")] = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print dead letters, the newest first: where each came from, whom it was for, which rule it broke.

    Example: pushway dead list --source in --since 1h
    """
    _check_source(source)
    since_ms = 0 if since is None else int((time.time() - read_age_s(since, "--since")) * 1000)
    settings = people_settings(config)
    letters, count = anyio.run(_newest, settings, limit, since_ms, source)
    if as_json:
        print_json([_told(letter, settings) for letter in letters])
    elif letters:
        print_columns(("ID", "DIED", "SOURCE", "TO", "REASON"), [_row(letter, settings) for letter in letters])
    if not as_json and len(letters) < count:
        typer.echo(f"{len(letters):,} of {count:,} dead letters shown", err=True)
    elif not letters:
        typer.echo("there is no dead letter", err=True)


@app.command(cls=TaughtCommand)
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Id as `dead list` prints it.")],
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print a dead letter whole, with every field as it was appended.

    Example: pushway dead show 1795360470698-0
    """
    settings = people_settings(config)
    letter = anyio.run(_find, settings, letter_id)
    if as_json:
        print_json(_told(letter, settings))
        return
    head = {"id": name_of(letter, settings.shards), "died": _time(letter), "reason": letter.reason}
    rows = [*head.items(), ("source", f"{letter.source}, entry {letter.entry or '-'}"), *_texts(letter)]
    width = max(len(printable(name)) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{printable(name):<{width}}  {printable(value)}".rstrip())


@app.command(cls=TaughtCommand)
def retry(
    ids: Ids = None,
    every: All = False,
    source: Source = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Give a field another value first; FIELD= leaves it out."),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also what would die again, as far as this command can tell.")
    ] = False,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Append the entries of dead letters again to the stream they came from, and take the letters away.

    What would break a rule again is told and left where it is; the exit code is 1 then. An entry comes behind what was sent
    since, and its ttl begins anew. Without an id it gets the one that collect had made for it: who has it gets it once.

    Example: pushway dead retry 1795360470698-0 --set to=user:alice
    """
    choice, settings = _choice(ids, every, source), people_settings(config)
    given = dict(_change(text) for text in changes or ())
    outcomes = anyio.run(_each, settings, choice, partial(_retry, settings, given, anyway), _quiet if as_json else _say)
    _conclude(outcomes, "appended again", as_json)


@app.command(cls=TaughtCommand)
def drop(
    ids: Ids = None,
    every: All = False,
    source: Source = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before all are dropped.")] = False,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Remove dead letters for good.

    Example: pushway dead drop --all --source fast --yes
    """
    choice, settings = _choice(ids, every, source), people_settings(config)
    if every and not yes:
        _confirm(source)
    outcomes = anyio.run(_each, settings, choice, _drop, _quiet if as_json else _say)
    _conclude(outcomes, "dropped", as_json)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a letter.

    Attributes:
        id: its name.
        entry: the entry that it is now; None where it is none.
        problem: why it is still as it was, or gone already; "" when all went well.
    """

    id: str
    entry: str | None
    problem: str


Act = Callable[[DeadLetters, str, Letter], Awaitable[Outcome]]
Say = Callable[[Outcome], None]


def _quiet(_outcome: Outcome) -> None:
    """Leave the telling to the sum."""


def _say(outcome: Outcome) -> None:
    if outcome.problem:
        typer.echo(f"{outcome.id}  {printable(outcome.problem)}", err=True)
    elif outcome.entry:
        typer.echo(f"{outcome.id}  is the entry {outcome.entry} now")


def _conclude(outcomes: list[Outcome], done: str, as_json: bool) -> None:
    """Print the sum.

    Raises:
        NotDone: when it was not done to all.
    """
    failed = sum(bool(outcome.problem) for outcome in outcomes)
    if as_json:
        print_json(outcomes)
    else:
        typer.echo(f"{len(outcomes) - failed:,} {done}", err=True)
    if failed:
        raise NotDone(f"{failed:,} of {len(outcomes):,} were not {done}")


async def _newest(settings: Settings, most: int, since_ms: int, source: str | None) -> tuple[list[Letter], int]:
    async with redis_at_hand(settings) as redis:
        letters = DeadLetters(redis, settings)
        return await letters.newest(most, since_ms, source), await letters.count()


async def _find(settings: Settings, name: str) -> Letter:
    async with redis_at_hand(settings) as redis:
        letter = await DeadLetters(redis, settings).find(name)
    if letter is None:
        raise NotDone(f"there is no dead letter {name}: it was retried or dropped, or made room for newer ones (dead_max)")
    return letter


async def _each(settings: Settings, choice: Choice, act: Act, say: Say) -> list[Outcome]:
    """Do something to each letter that is meant, and tell of each as soon as it is done."""
    outcomes = []
    async with redis_at_hand(settings) as redis:
        letters = DeadLetters(redis, settings)
        async for name, letter in _chosen(letters, choice, settings):
            outcome = await act(letters, name, letter) if letter else Outcome(name, None, "is not there (any more)")
            outcomes.append(outcome)
            say(outcome)
    return outcomes


async def _chosen(letters: DeadLetters, choice: Choice, settings: Settings) -> AsyncIterator[tuple[str, Letter | None]]:
    """Yield names and letters, None where there is none of that name."""
    if not choice.ids:
        async for letter in letters.all_now(choice.source):
            yield name_of(letter, settings.shards), letter
    for name in choice.ids:
        yield name, await letters.find(name)


async def _retry(
    settings: Settings, changes: dict[bytes, bytes], anyway: bool, letters: DeadLetters, name: str, letter: Letter
) -> Outcome:
    fields = fields_to_append(letter, changes)
    why = why_dead_again(letter, fields, settings)
    if why and not (anyway and can_be_appended(letter, fields)):
        return Outcome(name, None, f"would die again: {why}")
    entry = await letters.retry(letter, fields)
    return Outcome(name, entry, "" if entry else _TAKEN)


async def _drop(letters: DeadLetters, name: str, letter: Letter) -> Outcome:
    return Outcome(name, None, "" if await letters.drop(letter) else _TAKEN)


def _choice(ids: list[str] | None, every: bool, source: str | None) -> Choice:
    _check_source(source)
    if bool(ids) == every:
        raise RuleBroken("ID", "give either ids, as `pushway dead list` prints them, or --all")
    if ids and source:
        raise RuleBroken("--source", "is for --all; an id says by itself which letter is meant")
    return Choice(tuple(ids or ()), source)


def _check_source(source: str | None) -> None:
    if source is not None and source not in SOURCES:
        raise RuleBroken("--source", f"{source!r} is not one of {', '.join(SOURCES)}")


def _confirm(source: str | None) -> None:
    what = f"all dead letters of {source}" if source else "all dead letters"
    confirm(f"Drop {what} for good?", f"drop {what}")


def _change(text: str) -> tuple[bytes, bytes]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RuleBroken("--set", f"{text!r} is not FIELD=VALUE")
    return name.encode(errors="surrogateescape"), value.encode(errors="surrogateescape")


def _time(letter: Letter) -> str:
    return datetime.fromtimestamp(letter.died_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _row(letter: Letter, settings: Settings) -> tuple[str, ...]:
    to = letter.value("to") or letter.value("line").partition(" ")[0]
    return name_of(letter, settings.shards), _time(letter), letter.source, to[:_TO_MAX] or "-", letter.reason


def _texts(letter: Letter) -> list[tuple[str, str]]:
    return [(name.decode(errors="backslashreplace"), value.decode(errors="backslashreplace")) for name, value in letter.fields]


def _told(letter: Letter, settings: Settings) -> dict[str, object]:
    """Return a letter for JSON. Its fields are pairs, since a name may repeat."""
    told = {"id": name_of(letter, settings.shards), "shard": letter.shard, "died_ms": letter.died_ms, "source": letter.source}
    return told | {"entry": letter.entry, "reason": letter.reason, "fields": _texts(letter)}
