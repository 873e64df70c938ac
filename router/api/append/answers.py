"""What POST /v1/messages answers: what has become of each item, and the documents that say so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from router.api.append.reading import Posted
from router.errors import RuleBroken
from router.http.operations import Id
from router.http.problems import Problem, ProblemDocument, document_of
from router.stored import Stored

_Entry = Annotated[str, msgspec.Meta(description="The stream entry's id, as XADD gives it.")]
_Stream = Annotated[str, msgspec.Meta(description="The stream it was appended to.")]


class StoredFor(msgspec.Struct, frozen=True):
    """A target for which the message is stored, and its place in that target's order."""

    to: str
    seq: int


class Appended(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that is appended, or that was before (`repeated`: nothing is appended then, and there is no entry)."""

    id: Id
    to: tuple[str, ...]
    entry: _Entry | msgspec.UnsetType = msgspec.UNSET
    stream: _Stream | msgspec.UnsetType = msgspec.UNSET
    repeated: bool = False
    stored: tuple[StoredFor, ...] | msgspec.UnsetType = msgspec.UNSET


class ItemResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one item of an array: as of a single message, or a problem, beside which stands what else is known."""

    id: Id | msgspec.UnsetType = msgspec.UNSET
    to: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    entry: _Entry | msgspec.UnsetType = msgspec.UNSET
    stream: _Stream | msgspec.UnsetType = msgspec.UNSET
    repeated: bool = False
    stored: tuple[StoredFor, ...] | msgspec.UnsetType = msgspec.UNSET
    problem: ProblemDocument | msgspec.UnsetType = msgspec.UNSET


class Results(msgspec.Struct, frozen=True):
    """What became of an array: a result each, in its order."""

    results: tuple[ItemResult, ...]


@dataclass(slots=True)
class Outcome:
    """What has become of an item so far.

    Attributes:
        posted: the message, where it keeps the contract.
        stream: where it was appended; "" while it was not.
        entry: its id there.
        seqs: target → seq, of those for which it is known to be stored.
        repeated: it had been stored for all of its targets before, and was not appended again.
        problem: why it was refused, or what became of it later that was not wanted.
    """

    posted: Posted | None = None
    stream: str = ""
    entry: str = ""
    seqs: dict[str, int] = field(default_factory=dict)
    repeated: bool = False
    problem: Problem | RuleBroken | None = None

    @property
    def undecided(self) -> bool:
        """Whether it is to be appended yet."""
        return not (self.problem or self.repeated or self.entry)

    def note_appended(self, stream: str, entry: str) -> None:
        """Note an entry of it; of a transient message the first target's is told."""
        if not self.entry:
            self.stream, self.entry = stream, entry

    @property
    def awaited(self) -> tuple[str, ...]:
        """The targets for which it is not known to be stored, and will be."""
        if self.posted is None or self.problem or self.repeated or not self.entry:
            return ()
        if self.posted.transient or self.posted.later:
            return ()
        return tuple(target for target in self.posted.targets if target not in self.seqs)


def posted_of(outcome: Outcome) -> Posted:
    """Return the message of an item that keeps the contract."""
    assert outcome.posted is not None  # noqa: S101 - the caller has seen to it
    return outcome.posted


def ids_of(outcome: Outcome) -> list[str]:
    """Return the `_id`s of a message's documents; a transient one has none."""
    posted = posted_of(outcome)
    return [] if posted.transient else [f"{target} {posted.id}" for target in posted.targets]


def note_stored(outcome: Outcome, document_id: str, stored: Stored) -> None:
    """Note that a document of this `_id` is stored: it is the message's, unless its id was used for another content."""
    posted = posted_of(outcome)
    if stored.content == posted.content:
        outcome.seqs[document_id.removesuffix(f" {posted.id}")] = stored.seq
    else:
        outcome.problem = conflict()


def conflict() -> Problem:
    """Return the problem of an id that is another message's."""
    return Problem(HTTPStatus.CONFLICT, "a message of this id, with another content, is there already", field="id")


def answer_one(outcome: Outcome) -> Appended:
    """Return the answer to a single message.

    Raises:
        Problem, RuleBroken: the one that it met.
    """
    if outcome.problem is not None:
        raise outcome.problem
    return Appended(**_members(outcome))


def answer_many(outcomes: Iterable[Outcome]) -> Results:
    """Return the answer to an array."""
    return Results(tuple(_result(outcome) for outcome in outcomes))


def status_of(outcomes: Sequence[Outcome], *, waited: bool) -> HTTPStatus:
    """Return 201 when whoever waited has seen all of it stored that was appended, 202, or 422 when none of it was appended.

    Raises:
        Problem: 503, when none was appended and some only for that: the request may be sent again as it is.
    """
    if not any(outcome.entry or outcome.repeated for outcome in outcomes):
        for outcome in outcomes:
            if isinstance(outcome.problem, Problem) and outcome.problem.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                raise outcome.problem
        return HTTPStatus.UNPROCESSABLE_ENTITY
    stored = any(outcome.seqs for outcome in outcomes) and not any(outcome.awaited for outcome in outcomes)
    return HTTPStatus.CREATED if waited and stored else HTTPStatus.ACCEPTED


def _result(outcome: Outcome) -> ItemResult:
    posted, problem = outcome.posted, outcome.problem
    if posted is not None and outcome.entry and not outcome.seqs and problem is None:
        return ItemResult(posted.id, posted.targets, outcome.entry, outcome.stream)  # as of almost all
    said = msgspec.UNSET if problem is None else document_of(problem)
    return ItemResult(problem=said) if posted is None else ItemResult(**_members(outcome), problem=said)


def _members(outcome: Outcome) -> dict[str, Any]:
    posted = posted_of(outcome)
    stored = tuple(StoredFor(target, outcome.seqs[target]) for target in posted.targets if target in outcome.seqs)
    return {
        "id": posted.id,
        "to": posted.targets,
        "entry": outcome.entry or msgspec.UNSET,
        "stream": outcome.stream or msgspec.UNSET,
        "repeated": outcome.repeated,
        "stored": stored or msgspec.UNSET,
    }
