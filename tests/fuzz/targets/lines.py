"""Payload lines at an edge: what is built is read back, a line of many is its lines, and a hostile one harms none around it.

The first byte says what is done: build lines and read them back, or deliver the bytes behind it as they are.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from edge import kicked, replaced
from edge.delivery import Delivery
from edge.frames import text_frame
from edge.position import Position
from router.collect.joined import Lines
from router.lines import build_line, build_many, build_opts, build_place, content_of, id_of, read_opts, split_many
from router.stored import Body, make_body
from router.targets import is_id
from tests.fuzz.inputs import Choices
from tests.unit.edge.outlets import KeptOutlet

_TARGETS: Final = ("user:a", "user:b", "user:é%;=", "topic:a", "all")
_HEAD: Final = 10
_MESSAGES_MAX: Final = 20
_SHARED: Final = make_body("m-9", 9, '"body":{"to":"many"}')
_GOOD: Final = b'user:a 10 11 - {"type":"message","to":"user:a","seq":11,"id":"m","ts":1,"text":"good"}'
_MANY: Final = b'many - - - user:a,10,11,user:b,10,12 "id":"m","ts":1,"body":{}}'

SEEDS: Final = (
    b"\x00\x05\x01\x01\x01\x01\x02\x03\x01\x04hello",
    b"\x00" + bytes(range(120)),
    b"\x00\x02\x10\x00"
    + b"".join(bytes((target, kind, 0, 1)) for target, kind in ((0, 66), (1, 66), (0, 64), (0, 66), (1, 66))),
    b"\x01" + _GOOD + b"\n" + _MANY,
    b"\x01" + _GOOD.replace(b" - ", b" exp=5;not=session:1;trace=1 "),
    b"\x01" + _GOOD.replace(b" - ", b" exp=9999999999999;fast=1;more=1 "),
    b"\x01" + _GOOD.replace(b"10 11", b"- -").replace(b'"seq":11,', b"").replace(b" - {", b" fast=1 {"),
    b"\x01" + _MANY.replace(b"many - - -", b"many - - exp=1;not=device:a%2Cb"),
    b"\x01" + _MANY.replace(b",12", b""),
    b"\x01" + _MANY.replace(b"user:a,10,11", b"many,-,-"),
    b'\x01kicked - - - {"user":"a","code":4502,"reason":"r","device":"d","session":"s"}',
    b'\x01replaced - - - {"user":"a","device":"d","session":"s","at_us":5}',
    b"\x01kicked - - - " + b"[" * 1_500,
    b"\x01user:a 1_0 +11 - {}\nuser:a \xc2\xb2 5 - {}\n\nuser:a\nuser:b - 5 - {}",
    b"\x01user:a 10 99999999999999999999 - {}",
    b"\x01user:a 10 11 exp= {}\nuser:a 10 11 not=%ff {}\nuser:a 10 11 not=\xff {}",
)


class _Ears:
    """An edge's end of the channels: an outlet a target, each at the same place in its order."""

    def __init__(self) -> None:
        self.outlets = {target: KeptOutlet("session:1", f"device:{target},phone") for target in _TARGETS}
        self.positions = {target: Position(outlet, target, 10_000) for target, outlet in self.outlets.items()}
        self.behind: list[Position] = []
        for position in self.positions.values():
            position.start(_HEAD)
        audiences = {target.encode(): [position] for target, position in self.positions.items()}
        notices = {
            replaced.WORD: lambda payload: replaced.hear(lambda _user, _device: (), payload),
            kicked.WORD: lambda payload: kicked.hear(_Nobody(), payload),
        }
        self.delivery = Delivery(audiences, self.behind.append, notices=notices)

    def hear(self, *payloads: bytes) -> dict[str, list[bytes]]:
        """Return what each target's outlet was sent of these payloads."""
        self.delivery.receive(payloads)
        return {target: outlet.frames for target, outlet in self.outlets.items()}

    def places(self) -> list[tuple[int, int | None]]:
        """Return where each target stands."""
        return [(position.at, position.goal) for position in self.positions.values()]


class _Nobody:
    """A table of sessions without any."""

    def of_user(self, user: str) -> list[kicked.Holder]:
        """There is none of this user."""
        assert isinstance(user, str)
        return []

    def find(self, user: str, device: str) -> list[kicked.Holder]:
        """There is none of this device."""
        assert isinstance(user, str)
        assert isinstance(device, str)
        return []


def run(data: bytes) -> None:
    """Do what the first byte says."""
    choices = Choices(data)
    if choices.flag():
        _deliver_hostile(choices.rest())
    else:
        _build_and_read(choices)


def _deliver_hostile(payload: bytes) -> None:
    """Deliver any bytes: each line by itself does what it does among the others, and a good one behind them arrives."""
    together, apart = _Ears(), _Ears()
    heard = together.hear(payload)
    lines = payload.split(b"\n")
    assert heard == apart.hear(*lines)
    assert together.places() == apart.places()
    for frame in (frame for frames in heard.values() for frame in frames):
        assert len(frame) <= len(payload) + 200 * payload.count(b"many")
    after = max(position.at for position in together.positions.values()) + 1
    position = together.positions["topic:a"]
    if position.goal is None and after < 2**62:
        frame = b'{"type":"message"}'
        assert together.hear(b"topic:a %d %d - %b" % (position.at, after, frame))["topic:a"][-1] == text_frame(frame)


class _Said(NamedTuple):
    """A message for one target, as collect has it.

    Attributes:
        place: prev and seq; None when it is transient.
        whole: it is handed on as a body, which others may share.
    """

    target: str
    place: tuple[int | None, int | None]
    expires_ms: int | None
    exclude: str
    body: Body
    whole: bool


def _said(choices: Choices, seqs: dict[str, int]) -> _Said:
    """Return the next message, and move its target's order on."""
    target, kind = choices.one_of(_TARGETS), choices.byte()
    ident = choices.text()
    prev, seq = seqs[target], seqs[target] + 1 + choices.byte()
    place: tuple[int | None, int | None] = (None, None)
    if not kind & 1:
        place, seqs[target] = (prev, seq), seq
    exclude = ("", "session:1", f"device:{target},phone", "session:%3B;=")[kind >> 2 & 3]
    expires_ms = (None, 5, 2**40, 2**44)[kind >> 4 & 3]
    body = _SHARED
    if not kind & 64:
        body = make_body(ident if is_id(ident) else "m", choices.number(), f'"text":{_quoted(choices.text())}')
    return _Said(target, place, expires_ms, exclude, body, bool(kind & 2))


def _build_and_read(choices: Choices) -> None:
    """Build lines as collect does, shared and not, and hold what is delivered of one against the other."""
    single: list[bytes] = []
    shared = Lines(choices.number())
    seqs = dict.fromkeys(_TARGETS, _HEAD)
    while choices and len(single) < _MESSAGES_MAX:
        said = _said(choices, seqs)
        frame = said.body.frame(said.target, said.place[1])
        line = build_line(said.target, *said.place, said.expires_ms, frame, exclude=said.exclude)
        _check_line(line, said, frame)
        single.append(line.encode())
        what = said.body if said.whole else frame
        shared.add(said.target, said.place, said.expires_ms, what, exclude=said.exclude)
    built = [line.encode() for line in shared.build()]
    assert shared.messages == len(single)
    assert all(line.count(b"\n") == 0 for line in built)
    assert sorted(_parted(built)) == sorted(single)
    one, other = _Ears(), _Ears()
    assert one.hear(b"\n".join(built)) == other.hear(*single)
    assert one.places() == other.places()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _check_line(line: str, said: _Said, frame: str) -> None:
    """Read a line back."""
    parts = line.encode().split(b" ", 4)
    texts = [b"-" if number is None else b"%d" % number for number in said.place]
    assert [*parts[:3], parts[4]] == [said.target.encode(), *texts, frame.encode()]
    opts = read_opts(parts[3])
    assert (opts.expires_ms, opts.exclude, opts.traced, opts.fast) == (said.expires_ms, said.exclude, False, False)
    assert (id_of(frame.encode()), content_of(frame)) == (said.body.message_id, said.body.content)
    json.loads(frame)
    places = [build_place(said.target, *said.place)] * 2
    many = build_many(places, build_opts(said.expires_ms, exclude=said.exclude), _rest_of(frame))
    _, _, _, opts_text, payload = many.encode().split(b" ", 4)
    assert list(split_many(opts_text, payload)) == [line.encode()] * 2


def _rest_of(frame: str) -> str:
    """Return what stands in a frame behind its seq."""
    return frame[frame.index('"id":"') :]


def _parted(lines: list[bytes]) -> list[bytes]:
    parted: list[bytes] = []
    for line in lines:
        if line.startswith(b"many "):
            _, _, _, opts, payload = line.split(b" ", 4)
            parted += split_many(opts, payload)
        else:
            parted.append(line)
    return parted
