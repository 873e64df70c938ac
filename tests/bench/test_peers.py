"""What is published to others: as they expect it, with places for a user and a stamp that the generator can write into."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.bench.dialect import body_text, redis_command, user_name
from tests.bench.peers.nats import Nats
from tests.bench.peers.nchan import Nchan
from tests.bench.peers.packages import SkippedError, program
from tests.bench.peers.peer import Peer
from tests.bench.peers.socketio import SocketIO, SocketIOStreams
from tests.bench.results import Measure, begin
from tests.bench.scenes.heartbeats import BEATS, slope
from tests.bench.scenes.peers import PEERS


@pytest.mark.parametrize("kind", PEERS)
def test_publications_can_be_filled_in(kind: type[Peer], tmp_path: Path) -> None:
    """A publication names its user, holds the body's stamp once, and one to all names nobody."""
    peer, body = kind(tmp_path), body_text()
    one, everybody = (peer.stream(lane)(body, False)[0] for lane in ("user", "all"))
    assert user_name(0).encode() in one
    assert user_name(0).encode() not in everybody
    assert one.count(b"#n=0000000000;at=00000000000000000000;") == 1


def test_socketio_emitter_format(tmp_path: Path) -> None:
    """Socket.IO's Redis adapter gets msgpack of sender, packet and options on the channel of the room."""
    published = SocketIO(tmp_path).publication(body_text(), "u0000000")
    message = ["emitter", {"type": 2, "data": ["message", msgspec.json.decode(body_text())], "nsp": "/"}]
    message.append({"rooms": ["u0000000"], "flags": {}, "except": []})
    assert published == redis_command("PUBLISH", "socket.io#/#u0000000#", msgspec.msgpack.encode(message))


def test_streams_are_capped(tmp_path: Path) -> None:
    """The Streams adapter's stream is kept at the length that it has by default."""
    assert b"MAXLEN\r\n$1\r\n~\r\n$5\r\n10000\r\n" in SocketIOStreams(tmp_path).publication(body_text(), "")


def test_lengths_are_told(tmp_path: Path) -> None:
    """NATS and Nchan are told how long a body is."""
    assert Nats(tmp_path).publication(body_text(300), "u0000000").startswith(b"PUB user.u0000000 300\r\n")
    assert b"Content-Length: 300\r\n\r\n{" in Nchan(tmp_path).publication(body_text(300), "u0000000")


def test_missing_programs_skip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is needed and not installed makes a peer be skipped, and is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SkippedError, match="npm is not installed"):
        program("npm")


def test_slope() -> None:
    """What more pings cost is the cost of a ping: 10,000 users, four times as often, 160 ms a second more."""
    usual, pings, renewals = BEATS
    low, high = {"idle_core_share": 0.10}, {"idle_core_share": 0.26}
    assert slope(pings, low, high, 10_000)["us_a_ping"] == pytest.approx(100.0)
    assert slope(renewals, low, high, 10_000).keys() == {"us_a_renewal"}
    assert slope(usual, low, low, 10_000) == {}


def test_plots(tmp_path: Path) -> None:
    """A picture is drawn of what there are figures for, and of nothing else; it is small."""
    pytest.importorskip("matplotlib")
    from tests.bench.plots import plot  # noqa: PLC0415 - needs matplotlib

    results = begin({})
    cost = {"cpu_s_a_million": 9.0, "cpu_s_a_million.redis": 4.0, "cpu_s_a_million.dispatch": 1.0, "cpu_s_a_million.edge": 4.0}
    for at in (1.0, 64.0):
        results.measures[f"growth_shards_{at:g}"] = Measure("shards", "growth", [cost], at=at)
    results.measures["fast_x1"] = Measure("fast lane x1", "saturation", [cost])
    drawn = list(plot(results, tmp_path / "plots"))
    assert {path.name for path in drawn} == {"lanes.png", "growth.png"}
    assert all(5_000 < path.stat().st_size < 60_000 for path in drawn)
